//! GET, list, POST, PUT and DELETE of objects. A list with `watch=true` goes to the module `watch`.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::reply::Refusal;
use super::watch;
use crate::apply::{File, Mode, apply, decode};
use crate::objects::{API_VERSION, Key, Kind};
use crate::store::{Change, StoreError};

/// Of lists and watches.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    #[serde(default)]
    watch: Option<String>,
    #[serde(default)]
    resource_version: Option<String>,
}

/// Of one kind in all namespaces.
pub async fn list_all(
    State(api): State<Api>,
    Path(kind): Path<String>,
    Query(options): Query<Options>,
) -> Result<Response, Refusal> {
    let kind = plural(&kind)?;
    answer(&api, kind, &format!("{}/", kind.plural()), &options)
}

/// Of one kind in one namespace.
pub async fn list(
    State(api): State<Api>,
    Path((namespace, kind)): Path<(String, String)>,
    Query(options): Query<Options>,
) -> Result<Response, Refusal> {
    let kind = plural(&kind)?;
    answer(&api, kind, &format!("{}/{namespace}/", kind.plural()), &options)
}

fn answer(api: &Api, kind: Kind, prefix: &str, options: &Options) -> Result<Response, Refusal> {
    if matches!(options.watch.as_deref(), Some("true" | "1")) {
        let from = options.resource_version.as_deref().filter(|from| !from.is_empty());
        let from = from.map(|from| from.parse().map_err(|_| bad_version(from))).transpose()?;
        return watch::watch(api, prefix.to_owned(), from);
    }
    let listing = api.engine.store.list(prefix)?;
    let items =
        listing.entries.into_iter().map(|entry| Ok(decode(entry)?.value)).collect::<Result<Vec<_>, StoreError>>()?;
    let metadata = json!({ "resourceVersion": listing.revision.to_string() });
    let list = json!({ "apiVersion": API_VERSION, "kind": format!("{}List", kind.name()), "metadata": metadata, "items": items });
    Ok(Json(list).into_response())
}

/// One object.
pub async fn get(State(api): State<Api>, Path(path): Path<(String, String, String)>) -> Result<Json<Value>, Refusal> {
    current(&api, &key(path)?)
}

/// A new object.
pub async fn create(
    State(api): State<Api>,
    Path((namespace, kind)): Path<(String, String)>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let body = json_of(body)?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    let key = Key::new(plural(&kind)?, &namespace, name);
    store(&api, &key, body, Mode::Create).await.map(|stored| (StatusCode::CREATED, stored))
}

/// A changed object; with a `resourceVersion` only if nobody was faster.
pub async fn replace(
    State(api): State<Api>,
    Path(path): Path<(String, String, String)>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let body = json_of(body)?;
    let version = body["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
    let expected = version.map(|version| version.parse().map_err(|_| bad_version(version))).transpose()?;
    store(&api, &key(path)?, body, Mode::Replace(expected)).await
}

/// An object less.
pub async fn delete(
    State(api): State<Api>,
    Path(path): Path<(String, String, String)>,
) -> Result<Json<Value>, Refusal> {
    let key = key(path)?;
    let _writing = api.writing.lock().await;
    let last = api.engine.store.get(&key)?.map(decode).transpose()?;
    api.engine.store.commit(vec![Change::Delete(key.clone(), None)]).await?;
    tracing::info!(object = %key, "deleted");
    if let Some(workflow) = last.filter(|last| last.key.kind == Kind::Workflow) {
        api.engine.deleted(&workflow);
    }
    Ok(Json(json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" })))
}

async fn store(api: &Api, key: &Key, mut body: Value, mode: Mode) -> Result<Json<Value>, Refusal> {
    let metadata = &mut body["metadata"];
    if !metadata.is_object() {
        return Err(Refusal::bad_request("metadata is missing"));
    }
    let named = metadata["name"] == *key.name && metadata.get("namespace").is_none_or(|n| *n == *key.namespace);
    metadata["namespace"] = key.namespace.clone().into();
    if !named || body["kind"] != key.kind.name() {
        return Err(Refusal::bad_request(format!("the object is not {key}, which the path names")));
    }
    // JSON is YAML, so that one reader checks both.
    let file = File { name: "object".into(), text: body.to_string() };
    let _writing = api.writing.lock().await;
    apply(&*api.engine.store, &[file], mode).await?;
    current(api, key)
}

fn current(api: &Api, key: &Key) -> Result<Json<Value>, Refusal> {
    let entry = api.engine.store.get(key)?.ok_or_else(|| StoreError::NotFound(key.clone()))?;
    Ok(Json(decode(entry)?.value))
}

fn key((namespace, kind, name): (String, String, String)) -> Result<Key, Refusal> {
    Ok(Key::new(plural(&kind)?, &namespace, &name))
}

fn plural(word: &str) -> Result<Kind, Refusal> {
    let found = Kind::ALL.into_iter().find(|kind| kind.plural() == word);
    found.ok_or_else(|| {
        Refusal::not_found(format!("there are no {word:?} here, only hardware, templates and workflows"))
    })
}

fn json_of(body: Result<Json<Value>, JsonRejection>) -> Result<Value, Refusal> {
    let Json(value) = body.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    if value.is_object() { Ok(value) } else { Err(Refusal::bad_request("the body is not an object")) }
}

fn bad_version(version: &str) -> Refusal {
    Refusal::bad_request(format!("{version:?} is no resourceVersion of this server"))
}
