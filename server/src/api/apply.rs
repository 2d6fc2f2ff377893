//! `POST /apis/ironhook.dev/v1alpha1/apply`: all objects of all files, or none.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::reply::Refusal;
use crate::apply::{ApplyError, Mode, Outcome, Request, apply as apply_files};

/// 200 with `applied`, or 422 with `errors`.
pub async fn apply(State(api): State<Api>, body: Result<Json<Request>, JsonRejection>) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return Refusal::bad_request(rejection.body_text()).into_response(),
    };
    let _writing = api.writing.lock().await;
    match apply_files(&*api.engine.store, &request.files, Mode::Apply).await {
        Ok(outcomes) => {
            let applied: Vec<Outcome> = outcomes
                .into_iter()
                .map(|(key, result)| {
                    tracing::info!(object = %key, result, "applied");
                    let (namespace, name) = (key.namespace, key.name);
                    Outcome { kind: key.kind.name().into(), namespace, name, result: result.into() }
                })
                .collect();
            Json(json!({ "applied": applied })).into_response()
        }
        Err(ApplyError::Mistakes(errors)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "errors": errors }))).into_response()
        }
        Err(error) => Refusal::from(error).into_response(),
    }
}
