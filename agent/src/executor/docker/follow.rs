//! A container's log: sent on while it runs, its end kept.

use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::executor::docker::short;
use crate::executor::logs::{Live, Log, Stream};
use crate::text::chain;

/// For what is left, after the container's end.
const LOG_END: Duration = Duration::from_secs(5);
/// For reading the end anew.
const READ: Duration = Duration::from_secs(30);
/// More lines than the kept end of a log has, unless they are very short.
const LAST_LINES: &str = "8000";

/// Shows the log until the container has ended and the engine has closed it; gives its last 64 KiB. Those are read
/// anew: an engine may close a log whose reader is behind before it has been read to its end.
pub async fn log(docker: &Docker, id: &str, live: &Live<'_>, mut ended: watch::Receiver<bool>) -> String {
    let mut log = Log::default();
    let mut at_end = ended.clone();
    tokio::select! {
        () = show(docker, id, &mut log, live) => {}
        () = async {
            let _ = at_end.wait_for(|ended| *ended).await;
            tokio::time::sleep(LOG_END).await;
        } => {}
    }
    let _ = ended.wait_for(|ended| *ended).await;
    match tokio::time::timeout(READ, last(docker, id)).await {
        Ok(Ok(tail)) => return tail,
        Ok(Err(error)) => tracing::warn!(container = short(id), "the end of its log cannot be read: {}", chain(&error)),
        Err(_) => tracing::warn!(container = short(id), "the end of its log cannot be read within {READ:?}"),
    }
    log.tail()
}

/// Shows the log until the engine closes it.
async fn show(docker: &Docker, id: &str, log: &mut Log, live: &Live<'_>) {
    let options = LogsOptions { follow: true, stdout: true, stderr: true, ..LogsOptions::default() };
    let mut items = docker.logs(id, Some(options));
    while let Some(item) = items.next().await {
        match item {
            Ok(item) => live.show(&take(log, item)),
            Err(error) => {
                tracing::warn!(container = short(id), "its log cannot be read on: {}", chain(&error));
                return;
            }
        }
    }
    live.show(&log.end());
}

/// The end of the log of a container that has ended, read once more.
async fn last(docker: &Docker, id: &str) -> Result<String, Error> {
    let options = LogsOptions { stdout: true, stderr: true, tail: LAST_LINES.to_owned(), ..LogsOptions::default() };
    let mut log = Log::default();
    let mut items = docker.logs(id, Some(options));
    while let Some(item) = items.next().await {
        take(&mut log, item?);
    }
    Ok(log.tail())
}

fn take(log: &mut Log, item: LogOutput) -> Vec<String> {
    match item {
        LogOutput::StdErr { message } => log.push(Stream::Error, &message),
        item => log.push(Stream::Out, &item.into_bytes()),
    }
}
