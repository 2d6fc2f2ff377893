//! What actions under a server of 0.6 to 0.8 leave for each other: `/workflow/data`, fetched before an action and given
//! back after its success (wire reference §5.3). Other servers keep none, and then nothing is made.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::convert::Attempt;
use proto::workflow::UpdateWorkflowDataRequest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::Code;

use crate::config::Config;
use crate::source::Source;

fn file(worker_dir: &Path, attempt: &Attempt) -> PathBuf {
    worker_dir.join(attempt.workflow.as_str()).join("data")
}

/// Puts the data where the action will find it. Without an answer the action is not held up: it begins with `{}`.
pub async fn fetch(source: &mut Source, config: &Config, attempt: &Attempt) {
    let Some(classic) = source.classic_of_old() else { return };
    let data = match classic.data(attempt.workflow.as_str()).await {
        Ok(data) if data.is_empty() => b"{}".to_vec(),
        Ok(data) => data,
        Err(error) if matches!(error.code(), Code::Unimplemented | Code::NotFound) => return,
        Err(error) => {
            tracing::warn!(%attempt, "the workflow's data is not known: {}", error.message());
            b"{}".to_vec()
        }
    };
    let path = file(&config.worker_dir, attempt);
    let made = path.parent().map_or(Ok(()), |dir| fs::DirBuilder::new().recursive(true).mode(0o755).create(dir));
    let written = made.and_then(|()| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, &data)
    });
    if let Err(error) = written {
        tracing::warn!(%attempt, "cannot write {}: {error}", path.display());
    }
}

/// Gives it back if the action has changed it and it is what the field's worker would take: a JSON object, not too large.
pub async fn give_back(source: &mut Source, config: &Config, attempt: &Attempt) {
    let Some(classic) = source.classic_of_old() else { return };
    let path = file(&config.worker_dir, attempt);
    let size = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len());
    let Some(size) = size else { return };
    if size > config.largest_data {
        let (path, most) = (path.display(), config.largest_data);
        tracing::warn!(%attempt, "{path} has {size} bytes, more than {most}, so the next action does not get it");
        return;
    }
    let Ok(data) = fs::read(&path) else { return };
    if !matches!(serde_json::from_slice(&data), Ok(Value::Object(_))) {
        tracing::warn!(%attempt, "{} is no JSON object, so the next action does not get it", path.display());
        return;
    }
    let before = classic.data(attempt.workflow.as_str()).await.unwrap_or_default();
    if before == data || (before.is_empty() && data == b"{}") {
        return;
    }
    let metadata = json!({
        "workerID": attempt.worker.as_str(),
        "actionName": attempt.action,
        "taskName": attempt.task,
        "updatedAt": jiff::Timestamp::now().to_string(),
        "SHA": Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    });
    let workflow_id = attempt.workflow.to_string();
    let update = UpdateWorkflowDataRequest { workflow_id, metadata: metadata.to_string().into_bytes(), data };
    if let Err(error) = classic.update_data(update).await {
        tracing::warn!(%attempt, "the workflow's data is not given back: {}", error.message());
    }
}
