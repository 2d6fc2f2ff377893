//! The workflow services as workers see them: the classic one under both of its names, the newer one, and `ironhook.v1`.
//! Translates between the wire and the engine; decides nothing about workflows.

mod attributes;
mod classic;
mod devices;
mod machine;
mod newer;
mod prefix;
mod shape;

use axum::Router;
use proto::agent::workflow_service_server::WorkflowServiceServer as NewerServer;
use proto::ironhook::machine_server::MachineServer;
use proto::workflow::workflow_service_server::WorkflowServiceServer;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::engine::{Engine, EngineError};
use crate::workflow::state::Refused;

/// The largest message a worker has reason to send: a failure with 64 KiB of log.
const MAX_MESSAGE: usize = 256 << 10;
/// Except for the ephemeral data of a workflow (wire reference §11).
const MAX_DATA: usize = 11 << 20;

/// All services, to be served on one port without TLS.
pub fn router(engine: Engine) -> Router {
    let classic = WorkflowServiceServer::new(classic::Classic(engine.clone())).max_decoding_message_size(MAX_MESSAGE);
    let newer = NewerServer::new(newer::Newer(engine.clone())).max_decoding_message_size(MAX_MESSAGE);
    let machine = MachineServer::new(machine::Machine::new(engine)).max_decoding_message_size(MAX_MESSAGE);
    let old = prefix::OldName(classic.clone().max_decoding_message_size(MAX_DATA));
    Routes::new(prefix::Shared { classic, newer }).add_service(old).add_service(machine).prepare().into_axum_router()
}

/// The answer to a worker; every refusal is also in the log, because workers of older generations show none.
fn status(error: &EngineError) -> Status {
    let code = match error {
        EngineError::NoSuchWorkflow(_) | EngineError::Refused(Refused::NoSuchAction { .. }) => Code::NotFound,
        EngineError::Refused(Refused::NotYours { .. }) => Code::PermissionDenied,
        EngineError::Refused(Refused::NotCurrent { .. } | Refused::Ended { .. }) => Code::FailedPrecondition,
        EngineError::Refused(Refused::Late { .. } | Refused::Replaced { .. }) => Code::Aborted,
        // Worth another try.
        EngineError::Store(_) | EngineError::View(_) => Code::Unavailable,
    };
    let message = crate::chain(error);
    tracing::warn!(code = ?code, message, "a worker was refused");
    Status::new(code, message)
}

// tonic's own error type; its size is not ours to choose.
#[allow(clippy::result_large_err)]
fn needed(field: &'static str, value: &str) -> Result<(), Status> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{field} is empty"))) } else { Ok(()) }
}
