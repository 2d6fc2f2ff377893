//! The loop: a command of [`crate::decide`] is carried out, what came of it decides on the next, and each state is
//! written down before its command. Dropping the loop at any moment loses nothing that a restart would not find.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use proto::convert::Attempt;
use spec::handover::{Mode, Request};
use spec::{Code, Failure, Outcome};

use crate::background::Background;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::data;
use crate::decide::{Answer, Command, Event, State, decide};
use crate::executor::Executor;
use crate::handover::{Asked, ask};
use crate::job::{Container, Ended, Finish, Job, Span};
use crate::journal::Journal;
use crate::progress::Reporter;
use crate::source::{Offer, Source};
use crate::text::chain;
use crate::timeline::{Timeline, boot_id};
use sys::clock::boot_ms;

/// Between two polls of a worker that has nothing to do, and after a refusal.
const IDLE: Duration = Duration::from_secs(1);
/// For what an action has told last.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The agent.
pub struct Worker<E> {
    /// What was configured.
    pub config: Config,
    /// The server.
    pub source: Source,
    /// Where actions run.
    pub executor: Arc<E>,
    /// The state on disk.
    pub journal: Journal,
    /// This boot's timeline.
    pub timeline: Timeline,
    /// What runs beside the others.
    pub background: Background,
}

impl<E: Executor + 'static> Worker<E> {
    /// Works for ever.
    pub async fn run(&mut self) {
        let (mut state, mut command) = decide(self.recall(), Event::Restarted);
        let mut poller = Poller::default();
        loop {
            self.journal.keep(&state, self.config.retry_interval).await;
            let event = self.perform(command, &mut poller).await;
            (state, command) = decide(state, event);
        }
    }

    fn recall(&self) -> State {
        match self.journal.load() {
            Ok(Some(state)) => {
                tracing::info!("going on where an earlier life of this agent ended");
                state
            }
            Ok(None) => State::default(),
            // Containers are still found by their label.
            Err(error) => {
                tracing::error!("{}", chain(&error));
                State::default()
            }
        }
    }

    async fn perform(&mut self, command: Command, poller: &mut Poller) -> Event {
        match command {
            Command::Poll => self.poll(poller).await,
            Command::ReportStart(attempt) => {
                let answer = self.source.report_start(&attempt).await;
                pause_after_refusal(answer).await;
                Event::StartAnswered(attempt, answer)
            }
            Command::Prepare { job, resumed } => self.prepare(job, resumed).await,
            Command::Run { job, container } => self.run_container(job, container).await,
            Command::ReportEnd(ended) => self.report_end(ended).await,
            Command::HandOver { mode, by } => self.hand_over(mode, by).await,
            Command::Stay => std::future::pending().await,
        }
    }

    /// Asks until there is something to do.
    async fn poll(&mut self, poller: &mut Poller) -> Event {
        let mut backoff = Backoff::new(self.config.retry_interval);
        loop {
            match self.source.poll().await {
                Ok(offer) => {
                    backoff = Backoff::new(self.config.retry_interval);
                    self.polled(poller).await;
                    match offer {
                        Offer::Run { action, attempt, begun } => {
                            poller.said.clear();
                            self.background.end_others(Some(&attempt.workflow), &*self.executor).await;
                            return Event::Offered(Job {
                                action: *action,
                                attempt,
                                begun,
                                untouched: !begun,
                                claimed_ms: boot_ms(),
                                reacts_to: None,
                            });
                        }
                        Offer::Malformed(attempt, failure) => {
                            return Event::Malformed(attempt, failure, Span::at_once());
                        }
                        Offer::Nothing(why) => {
                            poller.say(format!("idle: {why}"));
                            self.background.end_others(None, &*self.executor).await;
                        }
                    }
                    tokio::time::sleep(IDLE).await;
                }
                Err(error) => {
                    poller.say(match error.refusal() {
                        Some(words) => format!("idle: the server refuses: {words}"),
                        None => format!("cannot ask the server {} for work: {error}", self.config.authority),
                    });
                    backoff.wait().await;
                }
            }
        }
    }

    /// After a successful poll: says once that the agent is ready, and sends the timeline once.
    async fn polled(&mut self, poller: &mut Poller) {
        if !poller.ready {
            poller.ready = true;
            if let Err(error) = self.timeline.ready() {
                tracing::warn!("cannot write {}: {error}", self.timeline.path().display());
            }
            let (worker, authority) = (&self.config.worker, &self.config.authority);
            // Tests and the demo wait for exactly this line.
            let _ = writeln!(std::io::stdout(), "ironhook: agent ready (worker {worker}, server {authority})");
        }
        if !poller.timeline_sent {
            poller.timeline_sent = self.source.report_timeline(&boot_id(), &self.timeline.phases()).await;
        }
        if !poller.inventory_sent {
            poller.inventory_sent = self.source.report_inventory().await;
        }
    }

    async fn prepare(&mut self, job: Job, resumed: bool) -> Event {
        let attempt = job.attempt.clone();
        tracing::info!(%attempt, image = job.action.image, resumed, "action");
        data::fetch(&mut self.source, &self.config, &attempt).await;
        let (reporter, listener) = Reporter::new();
        let forward = self.source.forward(job.told_as().clone(), listener);
        let (executor, job_of) = (&self.executor, &job);
        let prepare = async move {
            tokio::select! {
                prepared = executor.prepare(job_of, resumed, &reporter) => prepared,
                reason = reporter.cancelled() => Err(Failure::new(Code::Cancelled, format!("it was not started: {reason}"))),
            }
        };
        match alongside(prepare, forward).await {
            Ok(id) => Event::Prepared(attempt, Container { id, started_ms: boot_ms() }),
            Err(failure) => finished(&job, Finish::from(Outcome::Failed(failure))),
        }
    }

    async fn run_container(&mut self, job: Job, container: Container) -> Event {
        if job.action.background {
            let finish = self.background.run(job.clone(), container, &self.executor, &self.source).await;
            return finished(&job, finish);
        }
        let (reporter, listener) = Reporter::new();
        let forward = self.source.forward(job.told_as().clone(), listener);
        let (executor, job_of) = (&self.executor, &job);
        let run = async move { executor.run(job_of, &container, &reporter).await };
        let finish = alongside(run, forward).await;
        if finish.outcome == Outcome::Succeeded {
            data::give_back(&mut self.source, &self.config, &job.attempt).await;
        }
        finished(&job, finish)
    }

    async fn report_end(&mut self, ended: Ended) -> Event {
        let Ended { attempt, outcome, .. } = &ended;
        match outcome {
            Outcome::Succeeded => tracing::info!(%attempt, seconds = ended.span.seconds, "succeeded"),
            Outcome::Failed(failure) => tracing::error!(%attempt, "failed: {}", failure.one_line()),
            Outcome::TimedOut(failure) => tracing::error!(%attempt, "timed out: {}", failure.one_line()),
        }
        let answer = self.source.report_end(&ended).await;
        if !self.background.has(&ended.attempt) {
            self.executor.remove(&ended.attempt).await;
        }
        if let Some(reaction) = &ended.reaction {
            self.executor.remove(reaction).await;
        }
        pause_after_refusal(answer).await;
        Event::EndAnswered(ended.attempt, answer)
    }

    async fn hand_over(&mut self, mode: Mode, by: Attempt) -> Event {
        self.background.end_others(None, &*self.executor).await;
        let socket = self.config.run_dir.join("init.sock");
        let reboot_file = self.config.worker_dir.join("reboot");
        let request = Request { mode, reason: format!("action {by} asked for it") };
        let mut backoff = Backoff::new(self.config.retry_interval);
        loop {
            match ask(&socket, &reboot_file, &request).await {
                Ok(Asked::Init) => tracing::info!(%mode, %by, "init takes over"),
                Ok(Asked::RebootFile) => tracing::info!(%by, "reboot asked for by {}", reboot_file.display()),
                Err(error) if error.passes() => {
                    tracing::error!(%mode, %by, "handover, trying again: {}", chain(&error));
                    backoff.wait().await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%mode, %by, "no handover, the machine stays: {}", chain(&error));
                    return Event::HandoverRefused;
                }
            }
            return Event::HandedOver;
        }
    }
}

/// What polling remembers from one time to the next.
#[derive(Debug, Default)]
struct Poller {
    ready: bool,
    timeline_sent: bool,
    inventory_sent: bool,
    said: String,
}

impl Poller {
    /// Once per change, not per poll.
    fn say(&mut self, what: String) {
        if self.said != what {
            tracing::info!("{what}");
            self.said = what;
        }
    }
}

fn finished(job: &Job, finish: Finish) -> Event {
    let seconds = boot_ms().saturating_sub(job.claimed_ms) / 1000;
    // Told later as it was now, however long the server is away.
    Event::Finished(job.attempt.clone(), finish, Span { seconds, ..Span::at_once() })
}

/// A server that refuses is asked again, but not in a tight loop.
async fn pause_after_refusal(answer: Answer) {
    if matches!(answer, Answer::Refused { .. }) {
        tokio::time::sleep(IDLE).await;
    }
}

/// Does something that has the only reporter, and forwards what it reports; what is left of that at its end gets a
/// moment to go out.
pub async fn alongside<T>(work: impl Future<Output = T>, forward: impl Future<Output = ()>) -> T {
    let (done, over) = tokio::sync::oneshot::channel();
    let work = async move {
        let result = work.await;
        // Nobody waits for this when forwarding has ended by itself.
        let _ = done.send(());
        result
    };
    let forward = async move {
        tokio::select! {
            () = forward => {}
            () = async {
                let _ = over.await;
                tokio::time::sleep(LAST_WORDS).await;
            } => {}
        }
    };
    tokio::join!(work, forward).0
}
