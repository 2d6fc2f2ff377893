//! What a workflow has beside its object: the full end of an action's log, the inventory of a machine, and the
//! operator's word to end it. Translates only.

use std::collections::HashMap;

use axum::extract::{Json, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::reply::Refusal;
use crate::engine::uid;
use crate::objects::Kind;
use crate::objects::workflow::State as WorkflowState;
use crate::soft::Place;

/// Why a workflow is ended.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    #[serde(default)]
    reason: String,
}

/// `workflows/<name>/log?task=&action=`, `workflows/<name>/lease` and `hardware/<name>/inventory`.
pub async fn part(
    State(api): State<Api>,
    Path((namespace, kind, name, part)): Path<(String, String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Refusal> {
    match (Kind::from_word(&kind), part.as_str()) {
        (Some(Kind::Workflow), "log") => log(&api, &format!("{namespace}/{name}"), &query),
        (Some(Kind::Workflow), "lease") => lease(&api, &format!("{namespace}/{name}")),
        (Some(Kind::Hardware), "inventory") => inventory(&api, &format!("{namespace}/{name}")),
        _ => Err(Refusal::not_found(format!("{kind} have no {part:?}"))),
    }
}

/// Ends a workflow.
pub async fn cancel(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    Json(Reason { reason }): Json<Reason>,
) -> Result<Json<Value>, Refusal> {
    let reason = if reason.is_empty() { "cancelled by the operator".to_owned() } else { reason };
    let ended = api.engine.cancel(&format!("{namespace}/{name}"), &reason).await?;
    let (_, status) = api.engine.workflow(&format!("{namespace}/{name}"))?;
    Ok(Json(json!({ "changed": ended, "state": status.state })))
}

fn log(api: &Api, id: &str, query: &HashMap<String, String>) -> Result<Response, Refusal> {
    let (object, status) = api.engine.workflow(id)?;
    let wanted = |key: &str, is: &str| query.get(key).is_none_or(|wanted| wanted == is);
    // Without a name: what runs or has failed, else the last one that ended.
    let named = query.contains_key("action");
    let begun = |state: WorkflowState| named || !matches!(state, WorkflowState::Pending | WorkflowState::Preparing);
    let found = status
        .actions()
        .filter(|(_, action)| begun(action.state))
        .filter(|(task, action)| wanted("task", &task.name) && wanted("action", &action.name));
    let (task, action) =
        found.last().ok_or_else(|| Refusal::not_found(format!("workflow {id} has no such action that has begun")))?;
    let place = Place { uid: uid(&object), task: task.name.clone(), action: action.name.clone() };
    let text = api.engine.soft.log(&place).ok_or_else(|| {
        Refusal::not_found(format!("nothing is known that action {}/{} wrote", place.task, place.action))
    })?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// When the agent of the running action was heard of last. In memory: a status that changed every other second would
/// wake all who watch.
fn lease(api: &Api, id: &str) -> Result<Response, Refusal> {
    let (object, status) = api.engine.workflow(id)?;
    let running = status.actions().find(|(_, action)| action.state == WorkflowState::Running);
    let (task, action) = running.ok_or_else(|| Refusal::not_found(format!("nothing of workflow {id} is running")))?;
    let place = Place { uid: uid(&object), task: task.name.clone(), action: action.name.clone() };
    let quiet = api.engine.soft.quiet(&place).ok_or_else(|| {
        let Place { task, action, .. } = &place;
        Refusal::not_found(format!(
            "nothing from {task}/{action} since the server was started; stock workers are silent"
        ))
    })?;
    let ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({ "task": place.task, "action": place.action, "heardMsAgo": ms })).into_response())
}

fn inventory(api: &Api, id: &str) -> Result<Response, Refusal> {
    let found = api.engine.soft.inventory_of(id);
    found.map(|what| Json(what).into_response()).ok_or_else(|| {
        Refusal::not_found(format!("the machine {id} has not told what it is since the server was started"))
    })
}
