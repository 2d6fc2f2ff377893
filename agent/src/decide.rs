//! The agent's states and what moves it between them; pure, so that every order of events can be tested.
//!
//! `Idle -> Claimed -> Running -> Reporting -> Idle`, with `Reacting` before `Reporting` when the template wants something
//! run because of the end, or `-> Leaving` when the machine is to be handed over.
//! The state is written down before its command is carried out, so a restarted agent goes on where the last one was.
//! A terminal report leaves `Reporting` only by the server's answer. This file must not do anything.

use serde::{Deserialize, Serialize};
use spec::handover::Mode;
use spec::{Failure, Outcome};

use proto::convert::Attempt;

use crate::job::{Container, Ended, Finish, Job, Span};

/// Where the agent is. There is one of it, so that its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Nothing to do; what was done last is kept to recognise it when it is offered again.
    Idle {
        /// The last ended job.
        last: Option<Ended>,
        /// What this boot has told the server that it starts, and has not started: the answer was a refusal.
        #[serde(default)]
        claimed: Option<Attempt>,
    },
    /// A job is taken; the server has to hear of it first.
    Claimed(Job),
    /// The server knows; the executor has it.
    Running {
        /// What runs.
        job: Job,
        /// Set once there is a container and before it is started.
        container: Option<Container>,
        /// A container of this job may exist from an earlier life of the agent.
        resumed: bool,
    },
    /// It has ended, and the template wants something else run because of that, once.
    Reacting {
        /// How it ended.
        ended: Ended,
        /// What is run now.
        job: Job,
        /// As for an action.
        container: Option<Container>,
        /// As for an action.
        resumed: bool,
    },
    /// It has ended; the server has to hear of it.
    Reporting(Ended),
    /// The success of an action that ends the machine is on record.
    Leaving {
        /// How to go on.
        mode: Mode,
        /// Which action asked for it.
        by: Attempt,
        /// Init, or who stands in for it, has been asked.
        asked: bool,
    },
}

/// What has happened. One at a time, too.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Event {
    /// The agent was restarted and has read this state back.
    Restarted,
    /// The server wants this run.
    Offered(Job),
    /// The server wants something run that cannot be understood, as is known at this time.
    Malformed(Attempt, Failure, Span),
    /// The server has answered the report of this attempt's start.
    StartAnswered(Attempt, Answer),
    /// The container of this attempt exists and is not yet started, or is one of an earlier life.
    Prepared(Attempt, Container),
    /// This attempt has ended.
    Finished(Attempt, Finish, Span),
    /// The server has answered the terminal report of this attempt.
    EndAnswered(Attempt, Answer),
    /// The machine is going down.
    HandedOver,
    /// It is not, and will not.
    HandoverRefused,
}

/// The server's answer to a report. Anything else than an answer is retried where it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Recorded.
    Acknowledged,
    /// Not what the server expects.
    Refused {
        /// There is no such workflow or action (any more).
        gone: bool,
        /// An earlier try of the same report may have been recorded.
        doubt: bool,
    },
}

/// What to do next; each is answered by an [`Event`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Ask the server for work.
    Poll,
    /// Tell the server that this is about to start.
    ReportStart(Attempt),
    /// Get a container for this, taking up one of an earlier life when `resumed`.
    Prepare {
        /// For what.
        job: Job,
        /// Whether one may exist.
        resumed: bool,
    },
    /// Start that container if it is not started, and wait for its end.
    Run {
        /// What runs.
        job: Job,
        /// Where.
        container: Container,
    },
    /// Tell the server how this ended.
    ReportEnd(Ended),
    /// Ask for the end of the machine's time with us.
    HandOver {
        /// How to go on.
        mode: Mode,
        /// Which action asked for it.
        by: Attempt,
    },
    /// Stay until the machine goes down.
    Stay,
}

/// The next state, and what to do in it. An event that does not concern the state leaves it as it is.
pub fn decide(state: State, event: Event) -> (State, Command) {
    let state = next(state, event);
    let command = command(&state);
    (state, command)
}

fn next(state: State, event: Event) -> State {
    match (state, event) {
        (State::Idle { last, claimed }, Event::Offered(job)) => offered(last, claimed, job),
        (State::Idle { .. }, Event::Malformed(attempt, failure, span)) => {
            let outcome = Outcome::Failed(failure);
            State::Reporting(Ended { attempt, outcome, span, handover: None, doubt: false, reaction: None })
        }
        (State::Claimed(job), Event::StartAnswered(of, answer)) if of == job.attempt => {
            if may_start(&job, answer) {
                State::Running { resumed: job.begun, job, container: None }
            } else {
                let gone = matches!(answer, Answer::Refused { gone: true, .. });
                State::Idle { last: None, claimed: Some(job.attempt).filter(|_| job.untouched && !gone) }
            }
        }
        (State::Running { job, container: None, resumed }, Event::Prepared(of, container)) if of == job.attempt => {
            State::Running { job, container: Some(container), resumed }
        }
        (State::Running { job, container, .. }, Event::Finished(of, finish, span)) if of == job.attempt => {
            let handover = finish.handover.filter(|_| finish.outcome == Outcome::Succeeded);
            let reaction = job.reaction(&finish.outcome).filter(|_| container.is_some());
            let ended = Ended { attempt: of, outcome: finish.outcome, span, handover, doubt: false, reaction: None };
            match reaction {
                Some(job) => State::Reacting { ended, job, container: None, resumed: false },
                None => State::Reporting(ended),
            }
        }
        (State::Reacting { ended, job, container: None, resumed }, Event::Prepared(of, container))
            if of == job.attempt =>
        {
            State::Reacting { ended, job, container: Some(container), resumed }
        }
        (State::Reacting { ended, job, .. }, Event::Finished(of, finish, _)) if of == job.attempt => {
            State::Reporting(ended.after_reaction(&job, &finish.outcome))
        }
        (State::Reporting(ended), Event::EndAnswered(of, answer)) if of == ended.attempt => reported(ended, answer),
        (State::Running { job, container, .. }, Event::Restarted) => State::Running { job, container, resumed: true },
        (State::Reacting { ended, job, container, .. }, Event::Restarted) => {
            State::Reacting { ended, job, container, resumed: true }
        }
        (State::Reporting(ended), Event::Restarted) => State::Reporting(Ended { doubt: true, ..ended }),
        (State::Leaving { mode, by, .. }, Event::Restarted) => State::Leaving { mode, by, asked: false },
        (State::Leaving { mode, by, .. }, Event::HandedOver) => State::Leaving { mode, by, asked: true },
        (State::Leaving { asked: false, .. }, Event::HandoverRefused) => State::default(),
        (state, _) => state,
    }
}

/// A server that still holds a job of ours for running after we told how it ended has lost that report:
/// it is told again. Running the job again would not be what it asked for. One that is fresh again is a new attempt.
/// A server that gives its attempts ids is taken at its word: the same id is the same attempt, whatever else it says.
///
/// One that the server holds for running has been touched, unless this boot's journal knows better.
fn offered(last: Option<Ended>, claimed: Option<Attempt>, mut job: Job) -> State {
    job.untouched = !job.begun || claimed.is_some_and(|claimed| claimed.same_action(&job.attempt));
    match last {
        Some(last) if last.attempt.same_action(&job.attempt) => match last.attempt.same_id(&job.attempt) {
            Some(true) => State::Reporting(Ended { doubt: true, ..last }),
            Some(false) => State::Claimed(job),
            None if job.begun => State::Reporting(Ended { doubt: true, ..last }),
            None => {
                job.attempt.number = last.attempt.number.saturating_add(1);
                State::Claimed(job)
            }
        },
        _ => State::Claimed(job),
    }
}

/// A server that already holds the job for running may refuse to hear it twice, and means: go on (wire reference
/// §12, trap 8). Any other refusal means that it expects something else, so nothing is touched and it is asked again.
fn may_start(job: &Job, answer: Answer) -> bool {
    match answer {
        Answer::Acknowledged => true,
        Answer::Refused { gone, .. } => job.begun && !gone,
    }
}

/// A refusal after a try that may have been recorded is how the field's servers answer a duplicate.
fn reported(ended: Ended, answer: Answer) -> State {
    let on_record = match answer {
        Answer::Acknowledged => true,
        Answer::Refused { gone, doubt } => !gone && (doubt || ended.doubt),
    };
    match ended.handover {
        Some(mode) if on_record => State::Leaving { mode, by: ended.attempt, asked: false },
        _ => State::Idle { last: Some(ended), claimed: None },
    }
}

fn command(state: &State) -> Command {
    match state {
        State::Idle { .. } => Command::Poll,
        State::Claimed(job) => Command::ReportStart(job.attempt.clone()),
        State::Running { job, container: None, resumed } | State::Reacting { job, container: None, resumed, .. } => {
            Command::Prepare { job: job.clone(), resumed: *resumed }
        }
        State::Running { job, container: Some(container), .. }
        | State::Reacting { job, container: Some(container), .. } => {
            Command::Run { job: job.clone(), container: container.clone() }
        }
        State::Reporting(ended) => Command::ReportEnd(ended.clone()),
        State::Leaving { mode, by, asked: false } => Command::HandOver { mode: *mode, by: by.clone() },
        State::Leaving { asked: true, .. } => Command::Stay,
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Idle { last: None, claimed: None }
    }
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
