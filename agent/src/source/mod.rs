//! Where work comes from and reports go to: the classic service always, `ironhook.v1` when the server has it.
//! Polls once a call; reports are repeated until the server has answered, whatever that takes.

mod classic;
mod link;
mod turn;

use std::time::Duration;

use proto::convert::{self, Attempt};
use proto::ironhook::machine_client::MachineClient;
use proto::ironhook::{HelloRequest, Timeline};
use proto::workflow::{State, WorkflowAction, WorkflowContext};
use spec::phase::Phase;
use spec::{Action, Failure, Outcome, WorkerId};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::config::Config;
use crate::decide::Answer;
use crate::job::Ended;
use crate::progress::Listener;
use crate::source::classic::Classic;
pub use crate::source::link::LinkError;
use crate::source::turn::{Turn, turn};

/// Progress goes out at most this often.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// How many reasons for having nothing to do are worth telling.
const REASONS: usize = 3;

/// What a poll brought.
#[derive(Debug)]
pub enum Offer {
    /// An action to run; true when the server already holds it for running.
    Run(Action, bool),
    /// An action of ours that cannot be understood.
    Malformed(Attempt, Failure),
    /// Nothing, and why.
    Nothing(String),
}

/// The server could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {}", describe(.status))]
pub struct PollError {
    call: &'static str,
    // Not a `source`: a status prints its own cause, and `describe` already has the chain.
    status: Status,
}

/// The server, as the agent sees it.
#[derive(Debug)]
pub struct Source {
    worker: WorkerId,
    retry: Duration,
    classic: Classic,
    machine: MachineClient<Channel>,
    /// Whether the server has `ironhook.v1`; not known before it was asked on this connection.
    v1: Option<bool>,
}

impl Source {
    /// Connects when first used.
    pub fn new(config: &Config) -> Result<Self, LinkError> {
        let channel = link::channel(&config.authority, config.tls)?;
        Ok(Self {
            worker: config.worker.clone(),
            retry: config.retry_interval,
            classic: Classic::new(channel.clone()),
            machine: MachineClient::new(channel),
            v1: None,
        })
    }

    /// Asks once for work.
    pub async fn poll(&mut self) -> Result<Offer, PollError> {
        self.greet().await.map_err(|status| self.failed("Hello", status))?;
        let contexts = self.classic.contexts(&self.worker).await;
        let contexts = contexts.map_err(|status| self.failed("GetWorkflowContexts", status))?;
        if contexts.is_empty() {
            return Ok(Offer::Nothing(format!("the server has no workflow for worker {}", self.worker)));
        }
        let mut reasons = Vec::new();
        for context in &contexts {
            let actions = self.classic.actions(&context.workflow_id).await;
            let actions = actions.map_err(|status| self.failed("GetWorkflowActions", status))?;
            match self.judge(context, actions) {
                Offer::Nothing(why) => reasons.push(why),
                offer => return Ok(offer),
            }
        }
        reasons.truncate(REASONS);
        Ok(Offer::Nothing(reasons.join("; ")))
    }

    fn judge(&self, context: &WorkflowContext, mut actions: Vec<WorkflowAction>) -> Offer {
        let (index, begun) = match turn(context, &actions, self.worker.as_str()) {
            Turn::Run { index, begun } => (index, begun),
            Turn::NotNow(why) => return Offer::Nothing(why),
        };
        let wire = actions.swap_remove(index);
        let attempt = match Attempt::of_wire(&context.workflow_id, &wire, 1) {
            Ok(attempt) => attempt,
            // Without names there is nothing to report it by.
            Err(error) => {
                let error = crate::text::chain(&error);
                return Offer::Nothing(format!("action {index} of workflow {:?}: {error}", context.workflow_id));
            }
        };
        match convert::action(&context.workflow_id, wire) {
            Ok(action) => Offer::Run(action, begun),
            Err(error) => {
                let failure = Failure::new(spec::Code::BadInput, format!("the server's action: {error}"));
                Offer::Malformed(attempt, failure.with_causes_of(&error))
            }
        }
    }

    /// Reports that an action is about to start; returns when the server has answered.
    pub async fn report_start(&mut self, attempt: &Attempt) -> Answer {
        self.report(attempt, None, convert::running(attempt)).await
    }

    /// Reports how an action ended, its failure in full first; returns when the server has answered.
    pub async fn report_end(&mut self, ended: &Ended) -> Answer {
        let failure = match &ended.outcome {
            Outcome::Succeeded => None,
            Outcome::Failed(failure) | Outcome::TimedOut(failure) => Some(failure),
        };
        self.report(&ended.attempt, failure, convert::ended(&ended.attempt, &ended.outcome, ended.seconds)).await
    }

    async fn report(
        &mut self,
        attempt: &Attempt,
        failure: Option<&Failure>,
        status: proto::workflow::WorkflowActionStatus,
    ) -> Answer {
        let mut backoff = Backoff::new(self.retry);
        let mut doubt = false;
        let mut said = String::new();
        let state = word(status.action_status());
        loop {
            let result = match self.report_detail(attempt, failure).await {
                Err(error) => Err(error),
                Ok(()) => self.classic.report(status.clone()).await.inspect_err(|error| doubt |= !definite(error)),
            };
            match result {
                Ok(()) => return Answer::Acknowledged,
                Err(error) if refusal(&error) => {
                    tracing::warn!(%attempt, state, "report refused by the server: {}", describe(&error));
                    return Answer::Refused { gone: gone(&error), doubt };
                }
                Err(error) => {
                    let why = describe(&error);
                    if said != why {
                        tracing::warn!(%attempt, state, "report not answered yet, trying again: {why}");
                        said = why;
                    }
                    self.lost(&error);
                    backoff.wait().await;
                }
            }
        }
    }

    /// The failure's detail, where the server can take it. Its refusal is no reason to keep back the report itself.
    async fn report_detail(&mut self, attempt: &Attempt, failure: Option<&Failure>) -> Result<(), Status> {
        let Some(failure) = failure else { return Ok(()) };
        self.greet().await?;
        if self.v1 != Some(true) {
            return Ok(());
        }
        match self.machine.report_failure(convert::failure_detail(attempt, failure)).await {
            Ok(_) => Ok(()),
            Err(error) if !transport(&error) || answered(&error) => {
                tracing::warn!(%attempt, "failure detail refused by the server: {}", describe(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends how far an action is, the latest only, until the executor has no more to say.
    pub fn forward(&self, attempt: Attempt, listener: Listener) -> impl Future<Output = ()> + Send + use<> {
        let mut machine = self.machine.clone();
        let mut wanted = self.v1 != Some(false);
        async move {
            let Listener { mut progress, log, dropped, cancel } = listener;
            drop((log, dropped, cancel));
            while progress.changed().await.is_ok() {
                let latest = progress.borrow_and_update().clone();
                let Some(latest) = latest.filter(|_| wanted) else { continue };
                match machine.report_progress(convert::progress(&attempt, &latest)).await {
                    Err(error) if error.code() == Code::Unimplemented => wanted = false,
                    Err(error) => tracing::debug!(%attempt, "progress not sent: {}", describe(&error)),
                    Ok(_) => {}
                }
                tokio::time::sleep(PROGRESS_PAUSE).await;
            }
        }
    }

    /// Sends the boot's timeline. False: try again later.
    pub async fn report_timeline(&mut self, boot_id: &str, phases: &[Phase]) -> bool {
        if self.v1 != Some(true) {
            return self.v1 == Some(false);
        }
        let timeline: Timeline = convert::timeline(&self.worker, boot_id, phases);
        match self.machine.report_timeline(timeline).await {
            Ok(_) => true,
            Err(error) if refusal(&error) || error.code() == Code::Unimplemented => {
                tracing::warn!("timeline refused by the server: {}", describe(&error));
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    /// Finds out, once a connection, whether the server has `ironhook.v1`.
    async fn greet(&mut self) -> Result<(), Status> {
        if self.v1.is_some() {
            return Ok(());
        }
        let hello = HelloRequest {
            worker_id: self.worker.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ticket: String::new(),
        };
        self.v1 = match self.machine.hello(hello).await {
            Ok(answer) => {
                let version = answer.into_inner().server_version;
                tracing::info!(server_version = version, "the server has ironhook.v1");
                Some(true)
            }
            Err(error) if error.code() == Code::Unimplemented => {
                tracing::info!("the server speaks the classic service only");
                Some(false)
            }
            Err(error) if transport(&error) => return Err(error),
            Err(error) => {
                tracing::warn!("odd answer to Hello, so the classic service only: {}", describe(&error));
                Some(false)
            }
        };
        Ok(())
    }

    fn failed(&mut self, call: &'static str, status: Status) -> PollError {
        self.lost(&status);
        PollError { call, status }
    }

    /// Another server may answer on the next connection.
    fn lost(&mut self, error: &Status) {
        if transport(error) {
            self.v1 = None;
        }
    }
}

/// The server has understood and will never accept.
fn refusal(status: &Status) -> bool {
    gone(status) || matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition)
}

/// There is nothing to do for us: no such workflow or action, it is another worker's, or it has ended without us
/// (`proto::AGENT_HEADER`).
fn gone(status: &Status) -> bool {
    matches!(status.code(), Code::NotFound | Code::PermissionDenied | Code::Aborted)
}

/// Not a fault on the way: `unknown` without a cause is what servers written in Go say of an error without a code.
fn answered(status: &Status) -> bool {
    status.code() == Code::Unknown && std::error::Error::source(status).is_none()
}

/// The call may not have reached the server, or its answer not us.
fn transport(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
        || (status.code() == Code::Internal && std::error::Error::source(status).is_some())
}

/// Nothing was recorded, for certain.
fn definite(status: &Status) -> bool {
    refusal(status) || matches!(status.code(), Code::Unimplemented | Code::Unauthenticated)
}

/// A state for people.
fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Running => "running",
        State::Failed => "failed",
        State::Timeout => "timeout",
        State::Success => "success",
    }
}

/// Code, message and causes in one line.
fn describe(status: &Status) -> String {
    let mut line = status.code().description().to_owned();
    let mut add = |text: &str| {
        if !text.is_empty() && !line.contains(text) {
            line.push_str(": ");
            line.push_str(text);
        }
    };
    add(status.message());
    if let Some(source) = std::error::Error::source(status) {
        add(&crate::text::chain(source));
    }
    line.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests;
