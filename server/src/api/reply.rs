//! Errors as Kubernetes says them: a `Status` object with reason and code.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use crate::apply::ApplyError;
use crate::engine::EngineError;
use crate::store::StoreError;

/// An answer that is not the one hoped for.
#[derive(Debug)]
pub struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    /// Something in the request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, reason: "BadRequest", message: message.into() }
    }

    /// There is none.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: StatusCode::NOT_FOUND, reason: "NotFound", message: message.into() }
    }

    /// As the events of a watch carry it.
    pub fn status(&self) -> serde_json::Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code.as_u16(),
        })
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let (code, reason) = match &error {
            StoreError::Exists(_) => (StatusCode::CONFLICT, "AlreadyExists"),
            StoreError::Conflict { .. } => (StatusCode::CONFLICT, "Conflict"),
            StoreError::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            StoreError::Compacted { .. } => (StatusCode::GONE, "Expired"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Self { code, reason, message: crate::chain(&error) }
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoSuchWorkflow(_) => Self::not_found(error.to_string()),
            EngineError::Store(error) => error.into(),
            EngineError::Refused(_) => Self::bad_request(crate::chain(&error)),
            EngineError::View(error) => {
                Self { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: crate::chain(&error) }
            }
        }
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::Mistakes(mistakes) => {
                let shown = mistakes.iter().map(|m| format!("line {}: {}: {}", m.line, m.key, m.message));
                let message = shown.collect::<Vec<_>>().join("; ");
                Self { code: StatusCode::UNPROCESSABLE_ENTITY, reason: "Invalid", message }
            }
            ApplyError::View(error) => {
                Self { code: StatusCode::INTERNAL_SERVER_ERROR, reason: "InternalError", message: crate::chain(&error) }
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.code.is_server_error() {
            tracing::error!(message = self.message, "a request to the API failed");
        }
        (self.code, Json(self.status())).into_response()
    }
}
