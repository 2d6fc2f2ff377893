//! Where work comes from and reports go to: the classic service or the newer one, whichever the server has, and
//! `ironhook.v1` beside it. Polls once a call; reports are repeated until the server has answered, whatever that takes.

mod answers;
pub mod authorities;
mod classic;
mod link;
mod machine;
mod newer;
mod roots;
mod turn;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::convert::{self, Attempt, Era};
use proto::workflow::{WorkflowAction, WorkflowContext};
use spec::phase::Phase;
use spec::{Action, Failure, Outcome, WorkerId};
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::config::{Config, Protocol};
use crate::decide::Answer;
use crate::inventory;
use crate::job::Ended;
use crate::progress::Listener;
use crate::source::answers::{definite, describe, garbled, gone, no_work, refusal, transport};
use crate::source::classic::Classic;
pub use crate::source::link::LinkError;
use crate::source::machine::Machine;
use crate::source::newer::Newer;
use crate::source::turn::{Turn, turn};

/// How many reasons for having nothing to do are worth telling.
const REASONS: usize = 3;

/// What a poll brought.
#[derive(Debug)]
pub enum Offer {
    /// An action to run.
    Run {
        /// What.
        action: Box<Action>,
        /// How reports name it.
        attempt: Attempt,
        /// The server already holds it for running.
        begun: bool,
    },
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

impl PollError {
    /// The server's words, if it has answered and does not serve us.
    pub fn refusal(&self) -> Option<String> {
        let refused = refusal(&self.status) || self.status.code() == Code::Unauthenticated;
        refused.then(|| describe(&self.status))
    }
}

/// A report, in the words of the service that it goes to.
#[derive(Clone)]
enum Wire {
    Classic(proto::workflow::WorkflowActionStatus),
    Newer(Box<proto::agent::ActionStatusRequest>),
}

/// The server, as the agent sees it.
#[derive(Debug)]
pub struct Source {
    worker: WorkerId,
    retry: Duration,
    protocol: Protocol,
    classic: Classic,
    newer: Newer,
    machine: Machine,
    /// Which of the two services the server has; not known before it was asked on this connection.
    era: Option<Era>,
    /// What this machine is, as the newer service takes it.
    attributes: Vec<u8>,
    /// Where init says what of it is not at work.
    devices: PathBuf,
}

impl Source {
    /// Connects when first used.
    pub fn new(config: &Config, attributes: Vec<u8>) -> Result<Self, LinkError> {
        let channel = link::channel(config)?;
        let wanted = matches!(config.protocol, Protocol::Auto | Protocol::Ironhook);
        Ok(Self {
            worker: config.worker.clone(),
            retry: config.retry_interval,
            protocol: config.protocol,
            classic: Classic::new(channel.clone(), config.protocol),
            newer: Newer::new(link::patient(config)?, channel.clone()),
            machine: Machine::new(channel, &config.worker, config.ticket.clone(), wanted),
            era: config.protocol.era(),
            attributes,
            devices: config.run_dir.join("devices.json"),
        })
    }

    /// Whether the classic service is the one of 0.6 to 0.8, which keeps data with its workflows.
    pub fn classic_of_old(&mut self) -> Option<&mut Classic> {
        Some(&mut self.classic).filter(|classic| classic.is_old())
    }

    /// Asks once for work.
    pub async fn poll(&mut self) -> Result<Offer, PollError> {
        if let Err(status) = self.machine.greet().await {
            return Err(self.failed("Hello", status));
        }
        if self.protocol == Protocol::Ironhook && self.machine.is_absent() {
            self.machine.forget();
            return Ok(Offer::Nothing("the server has no ironhook.v1, which --protocol asks for".to_owned()));
        }
        match self.era {
            Some(Era::Newer) => self.poll_newer().await,
            Some(Era::Classic) => self.poll_classic().await,
            None => match self.poll_classic().await {
                Err(PollError { status, .. }) if status.code() == Code::Unimplemented => self.poll_newer().await,
                polled => polled,
            },
        }
    }

    async fn poll_classic(&mut self) -> Result<Offer, PollError> {
        let contexts = self.classic.contexts(&self.worker).await;
        let contexts = contexts.map_err(|status| self.failed("GetWorkflowContexts", status))?;
        self.has(Era::Classic);
        if contexts.is_empty() {
            return Ok(Offer::Nothing(format!("the server has no workflow for worker {}", self.worker)));
        }
        let mut reasons = Vec::new();
        for context in &contexts {
            let actions = self.classic.actions(&context.workflow_id).await;
            let actions = actions.map_err(|status| self.failed("GetWorkflowActions", status))?;
            match self.judge(context, actions) {
                Offer::Nothing(why) => reasons.push(why),
                Offer::Run { action, attempt, begun } => return self.claim(action, attempt, begun).await,
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
            Ok(action) => Offer::Run { action: Box::new(action), attempt, begun },
            Err(error) => malformed(attempt, &error),
        }
    }

    /// Adds what a server of ours knows beyond the classic service.
    async fn claim(&mut self, mut action: Box<Action>, mut attempt: Attempt, begun: bool) -> Result<Offer, PollError> {
        let claimed = self.machine.claim(&attempt).await.map_err(|status| self.failed("Claim", status))?;
        if let Some(claimed) = claimed {
            attempt.id = claimed.action_id;
            attempt.number = claimed.attempt.max(1);
            action.background = claimed.background;
            action.network = match proto::newer::network(claimed.network) {
                Ok(network) => network,
                Err(error) => return Ok(malformed(attempt, &error)),
            };
        }
        Ok(Offer::Run { action, attempt, begun })
    }

    async fn poll_newer(&mut self) -> Result<Offer, PollError> {
        let wire = match self.newer.action(&self.worker, &self.attributes).await {
            Ok(wire) => wire,
            Err(status) if no_work(&status) => {
                self.has(Era::Newer);
                let why = describe(&status);
                return Ok(Offer::Nothing(format!("the server has no action for agent {}: {why}", self.worker)));
            }
            Err(status) => return Err(self.failed("GetAction", status)),
        };
        self.has(Era::Newer);
        let attempt = match proto::newer::attempt(&wire) {
            Ok(attempt) => attempt,
            Err(error) => {
                return Ok(Offer::Nothing(format!(
                    "the server's action cannot be reported: {}",
                    crate::text::chain(&error)
                )));
            }
        };
        Ok(match proto::newer::action(wire) {
            // The newer service never says whether it holds the action for running.
            Ok(action) => Offer::Run { action: Box::new(action), attempt, begun: false },
            Err(error) => malformed(attempt, &error),
        })
    }

    /// Reports that an action is about to start; returns when the server has answered.
    pub async fn report_start(&mut self, attempt: &Attempt) -> Answer {
        let wire = match attempt.era {
            Era::Classic => Wire::Classic(convert::running(attempt)),
            Era::Newer => Wire::Newer(Box::new(proto::newer::running(attempt, now()))),
        };
        self.report(attempt, "running", None, wire).await
    }

    /// Reports how an action ended, its failure in full first; returns when the server has answered.
    pub async fn report_end(&mut self, ended: &Ended) -> Answer {
        let Ended { attempt, outcome, span, .. } = ended;
        let (state, failure) = match outcome {
            Outcome::Succeeded => ("success", None),
            Outcome::Failed(failure) => ("failed", Some(failure)),
            Outcome::TimedOut(failure) => ("timeout", Some(failure)),
        };
        let wire = match attempt.era {
            Era::Classic => Wire::Classic(convert::ended(attempt, outcome, span.seconds)),
            Era::Newer => {
                let stop = prost_types::Timestamp { seconds: span.stop, nanos: 0 };
                Wire::Newer(Box::new(proto::newer::ended(attempt, outcome, span.seconds, stop)))
            }
        };
        self.report(attempt, state, failure, wire).await
    }

    async fn report(&mut self, attempt: &Attempt, state: &str, failure: Option<&Failure>, wire: Wire) -> Answer {
        let mut backoff = Backoff::new(self.retry);
        let mut doubt = false;
        let mut said = String::new();
        loop {
            let detail = match failure {
                Some(failure) => self.machine.failure(attempt, failure).await,
                None => Ok(()),
            };
            let result = match detail {
                Err(error) => Err(error),
                Ok(()) => self.send(attempt, wire.clone()).await.inspect_err(|error| doubt |= !definite(error)),
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
                    if garbled(&error) && self.is_another(attempt.era).await {
                        tracing::warn!(%attempt, state, "the server is one of another generation now and cannot know this action");
                        return Answer::Refused { gone: true, doubt };
                    }
                    self.lost(&error);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Whether the server certainly has the other service and not the one of this era: a gateway that knows neither is no
    /// reason to drop a report.
    async fn is_another(&mut self, era: Era) -> bool {
        let contexts = self.classic.contexts(&self.worker).await;
        match era {
            Era::Newer => contexts.is_ok(),
            Era::Classic if contexts.is_err_and(|error| error.code() == Code::Unimplemented) => {
                self.newer.action(&self.worker, &self.attributes).await.map_or_else(|error| no_work(&error), |_| true)
            }
            Era::Classic => false,
        }
    }

    async fn send(&mut self, attempt: &Attempt, wire: Wire) -> Result<(), Status> {
        match wire {
            Wire::Classic(status) => self.classic.report(status, &attempt.id).await,
            Wire::Newer(status) => self.newer.report(*status).await,
        }
    }

    /// Serves the line to an executor until it has no more to say.
    pub fn forward(&self, attempt: Attempt, listener: Listener) -> impl Future<Output = ()> + Send + use<> {
        self.machine.forward(attempt, listener)
    }

    /// Sends the boot's timeline. False: try again later.
    pub async fn report_timeline(&mut self, boot_id: &str, phases: &[Phase]) -> bool {
        self.machine.timeline(boot_id, phases).await
    }

    /// Sends what the machine is, where it does not go along with every question. False: try again later.
    pub async fn report_inventory(&mut self) -> bool {
        if !self.machine.is_there() {
            return self.machine.is_absent();
        }
        let devices = inventory::devices::read(&self.devices).unwrap_or_else(|error| {
            tracing::warn!("devices are not told to the server: {}", crate::text::chain(&error));
            Vec::new()
        });
        (self.attributes.is_empty() && devices.is_empty()) || self.machine.inventory(&self.attributes, devices).await
    }

    fn has(&mut self, era: Era) {
        if self.era.is_none() {
            let service = match era {
                Era::Classic if self.classic.is_old() => "the classic service of 0.6 to 0.8",
                Era::Classic => "the classic service",
                Era::Newer => "the newer service (GetAction)",
            };
            tracing::info!("the server has {service}");
        }
        self.era = Some(era);
    }

    fn failed(&mut self, call: &'static str, status: Status) -> PollError {
        self.lost(&status);
        PollError { call, status }
    }

    /// Another server may answer on the next connection, or already does behind the same address.
    fn lost(&mut self, error: &Status) {
        if transport(error) || error.code() == Code::Unimplemented {
            self.era = self.protocol.era();
        }
        if transport(error) && matches!(self.protocol, Protocol::Auto | Protocol::Ironhook) {
            self.machine.forget();
        }
    }
}

fn malformed(attempt: Attempt, error: &convert::ActionError) -> Offer {
    let failure = Failure::new(spec::Code::BadInput, format!("the server's action: {error}"));
    Offer::Malformed(attempt, failure.with_causes_of(error))
}

fn now() -> prost_types::Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    prost_types::Timestamp { seconds, nanos: since.subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests;
