//! Wire messages and services, generated from `proto/*.proto`, and their checked conversion to `spec`.
//! Wire types stop here: no rule about workflows lives in this crate, and nothing in it panics on remote input.

pub mod convert;
pub mod newer;

/// The classic workflow service (`proto.WorkflowService`).
#[allow(missing_docs, clippy::all)]
pub mod workflow {
    include!("gen/proto.rs");
}

/// The newer workflow service, on the wire `proto.WorkflowService` too.
#[allow(missing_docs, clippy::all)]
pub mod agent {
    include!("gen/tinkerbell.v2.rs");
}

/// What the classic service cannot carry (`ironhook.v1.Machine`).
#[allow(missing_docs, clippy::all)]
pub mod ironhook {
    include!("gen/ironhook.v1.rs");
}

/// Metadata of every classic call of our agent; its value is the agent's version. A server of ours that sees it refuses
/// a report that differs from how the action has ended (`aborted`); workers without it would repeat theirs for ever.
pub const AGENT_HEADER: &str = "x-ironhook-version";
/// Metadata of our agent's reports to a server that has `ironhook.v1`: the server's own id of the attempt, so that a
/// report for a workflow that was deleted does not count for another one of its name.
pub const ACTION_HEADER: &str = "x-ironhook-action";
/// The path prefix of the classic service as workers of 0.6 to 0.8 call it (wire reference §4.1).
pub const CLASSIC_PREFIX_OLD: &str = "/github.com.tinkerbell.tink.protos.workflow.WorkflowService/";
/// The path prefix of the classic service as workers of 0.9 and later call it.
pub const CLASSIC_PREFIX: &str = "/proto.WorkflowService/";
