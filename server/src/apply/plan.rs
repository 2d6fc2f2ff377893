//! Checked documents and what is stored -> the changes of one transaction, and what to tell the operator.

use serde_json::{Value, json};

use super::check::Checked;
use super::{ApplyError, Mistake, Mode};
use crate::objects::workflow::{State, WorkflowStatus};
use crate::objects::{Key, Object};
use crate::store::{Change, StoreError};

/// One transaction.
pub struct Plan {
    /// All or none.
    pub changes: Vec<Change>,
    /// In the order of the documents.
    pub outcomes: Vec<(Key, &'static str)>,
}

/// Compares what is wanted with what there is.
pub fn plan(checked: Vec<Checked>, stored: &[Object], mode: Mode) -> Result<Plan, ApplyError> {
    let mut plan = Plan { changes: Vec::new(), outcomes: Vec::new() };
    let mut mistakes = Vec::new();
    for wanted in checked {
        let key = wanted.key.clone();
        match (stored.iter().find(|object| object.key == key), mode) {
            (Some(_), Mode::Create) => return Err(StoreError::Exists(key).into()),
            (None, Mode::Replace(_)) => return Err(StoreError::NotFound(key).into()),
            (None, _) => {
                plan.changes.push(Change::Create(key.clone(), bytes(&created(wanted)?, &key)?));
                plan.outcomes.push((key, "created"));
            }
            (Some(found), Mode::Replace(Some(expected))) if found.revision != expected => {
                return Err(StoreError::Conflict { key, expected, found: found.revision }.into());
            }
            (Some(found), _) => match changed(wanted, found)? {
                Changed::No => plan.outcomes.push((key, "unchanged")),
                Changed::Refused(mistake) => mistakes.push(mistake),
                Changed::To(value) => {
                    plan.changes.push(Change::Update(key.clone(), found.revision, bytes(&value, &key)?));
                    plan.outcomes.push((key, "configured"));
                }
            },
        }
    }
    if mistakes.is_empty() { Ok(plan) } else { Err(ApplyError::Mistakes(mistakes)) }
}

enum Changed {
    No,
    To(Value),
    Refused(Mistake),
}

fn created(wanted: Checked) -> Result<Value, ApplyError> {
    let Checked { key, mut value, status, .. } = wanted;
    let metadata = &mut value["metadata"];
    metadata["uid"] = uuid::Uuid::new_v4().to_string().into();
    metadata["creationTimestamp"] = now();
    metadata["generation"] = 1.into();
    strip(metadata);
    if let Some(status) = status {
        value["status"] = encode(&status, &key)?;
    }
    Ok(value)
}

fn changed(wanted: Checked, found: &Object) -> Result<Changed, ApplyError> {
    let Checked { key, mut value, status, place: (file, line) } = wanted;
    let same_spec = value["spec"] == found.value["spec"];
    let mut kept = found.value.get("status").cloned();
    if let Some(fresh) = status {
        let old: WorkflowStatus = found.status()?;
        let waits = matches!(old.state, State::Preparing | State::Pending);
        if waits && !(same_spec && same_work(&old, &fresh)) {
            kept = Some(encode(&fresh, &key)?);
        } else if !waits && !same_spec {
            let message = format!(
                "the spec cannot change any more, the workflow is {}: delete it first, or use another name",
                old.state
            );
            return Ok(Changed::Refused(Mistake { file, line, key: "spec".into(), message }));
        }
    }
    let labels = ["labels", "annotations"];
    let same_meta = labels.iter().all(|l| value["metadata"][l] == found.value["metadata"][l]);
    if same_spec && same_meta && kept.as_ref() == found.value.get("status") {
        return Ok(Changed::No);
    }
    for field in ["uid", "creationTimestamp", "generation"] {
        value["metadata"][field] = found.value["metadata"][field].clone();
    }
    if !same_spec {
        let generation = found.value["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
        value["metadata"]["generation"] = generation.into();
    }
    strip(&mut value["metadata"]);
    if let Some(status) = kept {
        value["status"] = status;
    }
    Ok(Changed::To(value))
}

/// The same but for the ids, which are new with every rendering.
fn same_work(old: &WorkflowStatus, fresh: &WorkflowStatus) -> bool {
    let without_ids = |status: &WorkflowStatus| {
        let mut status = status.clone();
        for task in &mut status.tasks {
            task.id.clear();
            task.actions.iter_mut().for_each(|action| action.id.clear());
        }
        status
    };
    without_ids(old) == without_ids(fresh)
}

/// The store gives the revision when the object is read.
fn strip(metadata: &mut Value) {
    if let Value::Object(metadata) = metadata {
        metadata.remove("resourceVersion");
        metadata.retain(|_, value| !value.is_null());
    }
}

fn encode(status: &WorkflowStatus, key: &Key) -> Result<Value, ApplyError> {
    serde_json::to_value(status).map_err(|_| StoreError::Record(key.path()).into())
}

fn bytes(value: &Value, key: &Key) -> Result<Vec<u8>, ApplyError> {
    serde_json::to_vec(value).map_err(|_| StoreError::Record(key.path()).into())
}

fn now() -> Value {
    let now = jiff::Timestamp::now();
    json!(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}
