//! The table of transitions, and a model of server and engine driven through crashes, lost answers and duplicates.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use spec::{Action, Code};

use super::*;

pub(super) fn job(name: &str, begun: bool) -> Job {
    let action = Action {
        workflow: "default/w".parse().unwrap(),
        task: "t".into(),
        name: name.into(),
        worker: "me".parse().unwrap(),
        image: "i".into(),
        timeout: Duration::from_secs(1),
        command: vec![],
        on_timeout: vec![],
        on_failure: vec![],
        volumes: vec![],
        environment: vec![],
        pid: String::new(),
        network: String::new(),
        background: false,
    };
    Job { attempt: Attempt::of(&action, 1), action, begun, untouched: !begun, claimed_ms: 0, reacts_to: None }
}

pub(super) fn ended(name: &str, handover: Option<Mode>) -> Ended {
    Ended {
        attempt: job(name, false).attempt,
        outcome: Outcome::Succeeded,
        span: took(1),
        handover,
        doubt: false,
        reaction: None,
    }
}

pub(super) const fn took(seconds: u64) -> Span {
    Span { seconds, stop: 1_700_000_000 }
}

pub(super) fn container() -> Container {
    Container { id: "c".into(), started_ms: 0 }
}

pub(super) fn idle_after(name: &str) -> State {
    State::Idle { last: Some(ended(name, None)), claimed: None }
}

pub(super) const REFUSED: Answer = Answer::Refused { gone: false, doubt: false };
pub(super) const GONE: Answer = Answer::Refused { gone: true, doubt: true };
pub(super) const DOUBTFUL: Answer = Answer::Refused { gone: false, doubt: true };

fn after(state: State, event: Event) -> State {
    decide(state, event).0
}

pub(super) fn claimed(name: &str, begun: bool) -> State {
    State::Claimed(job(name, begun))
}

#[test]
fn an_action_goes_through_every_state_in_order() {
    let (state, command) = decide(State::default(), Event::Offered(job("a", false)));
    assert_eq!(command, Command::ReportStart(job("a", false).attempt));
    let attempt = job("a", false).attempt;
    let (state, command) = decide(state, Event::StartAnswered(attempt.clone(), Answer::Acknowledged));
    assert_eq!(command, Command::Prepare { job: job("a", false), resumed: false });
    let (state, command) = decide(state, Event::Prepared(attempt.clone(), container()));
    assert_eq!(command, Command::Run { job: job("a", false), container: container() });
    let finish = Finish { outcome: Outcome::Succeeded, handover: None };
    let (state, command) = decide(state, Event::Finished(attempt.clone(), finish, took(1)));
    assert_eq!(command, Command::ReportEnd(ended("a", None)));
    let (state, command) = decide(state, Event::EndAnswered(attempt, Answer::Acknowledged));
    assert_eq!((state, command), (idle_after("a"), Command::Poll));
}

#[test]
fn a_refused_start_touches_nothing_unless_the_server_says_it_runs() {
    let attempt = job("a", false).attempt;
    for (begun, answer, starts) in
        [(false, REFUSED, false), (false, DOUBTFUL, false), (true, REFUSED, true), (true, GONE, false)]
    {
        let state = after(claimed("a", begun), Event::StartAnswered(attempt.clone(), answer));
        assert_eq!(matches!(state, State::Running { resumed: true, .. }), starts, "{begun} {answer:?}");
        assert_eq!(matches!(state, State::Idle { .. }), !starts, "{begun} {answer:?}");
    }
}

#[test]
fn what_was_claimed_in_this_boot_and_not_started_is_known_as_untouched() {
    let attempt = job("a", false).attempt;
    for (answer, untouched) in [(REFUSED, true), (DOUBTFUL, true), (GONE, false)] {
        let idle = after(claimed("a", false), Event::StartAnswered(attempt.clone(), answer));
        let (idle, _) = restarted(&idle);
        let again = after(idle.clone(), Event::Offered(job("a", true)));
        assert!(matches!(&again, State::Claimed(job) if job.begun && job.untouched == untouched), "{again:?}");
        let other = after(idle, Event::Offered(job("b", true)));
        assert!(matches!(&other, State::Claimed(job) if !job.untouched), "{other:?}");
    }
    let cut_off = after(State::default(), Event::Offered(job("a", true)));
    assert!(matches!(&cut_off, State::Claimed(job) if !job.untouched), "{cut_off:?}");
}

#[test]
fn the_machine_is_handed_over_only_after_a_success_on_record() {
    let attempt = job("a", false).attempt;
    let finish = |outcome| Finish { outcome, handover: Some(Mode::Reboot) };
    let running = State::Running { job: job("a", false), container: Some(container()), resumed: false };
    let failed = Outcome::Failed(Failure::new(Code::Handover, "no"));
    let state = after(running.clone(), Event::Finished(attempt.clone(), finish(failed), took(0)));
    assert!(matches!(&state, State::Reporting(Ended { handover: None, .. })), "{state:?}");
    let state = after(running, Event::Finished(attempt.clone(), finish(Outcome::Succeeded), took(0)));
    for (answer, leaves) in [(Answer::Acknowledged, true), (DOUBTFUL, true), (REFUSED, false), (GONE, false)] {
        let state = after(state.clone(), Event::EndAnswered(attempt.clone(), answer));
        assert_eq!(matches!(state, State::Leaving { asked: false, .. }), leaves, "{answer:?}");
    }
}

#[test]
fn a_server_that_lost_a_report_gets_it_again_and_a_fresh_attempt_is_run() {
    let idle = idle_after("a");
    let again = after(idle.clone(), Event::Offered(job("a", true)));
    assert_eq!(again, State::Reporting(Ended { doubt: true, ..ended("a", None) }));
    let fresh = after(idle.clone(), Event::Offered(job("a", false)));
    assert!(matches!(&fresh, State::Claimed(job) if job.attempt.number == 2), "{fresh:?}");
    assert_eq!(after(idle, Event::Offered(job("b", true))), claimed("b", true));
}

#[test]
fn a_malformed_action_is_reported_and_never_run() {
    let attempt = job("a", false).attempt;
    let failure = Failure::new(Code::BadInput, "field image is empty");
    let (_, command) = decide(State::default(), Event::Malformed(attempt, failure.clone(), took(0)));
    assert!(matches!(command, Command::ReportEnd(ended) if ended.outcome == Outcome::Failed(failure)));
}

#[test]
fn a_restart_asks_again_for_what_it_cannot_know() {
    let leaving = State::Leaving { mode: Mode::Kexec, by: job("a", false).attempt, asked: true };
    assert!(matches!(decide(leaving, Event::Restarted).1, Command::HandOver { mode: Mode::Kexec, .. }));
    let running = State::Running { job: job("a", false), container: None, resumed: false };
    assert!(matches!(decide(running, Event::Restarted).1, Command::Prepare { resumed: true, .. }));
}

fn with_id(name: &str, id: &str, begun: bool) -> Job {
    let mut job = job(name, begun);
    job.attempt.id = id.into();
    job
}

#[test]
fn a_server_with_ids_is_taken_at_its_word() {
    let last = Ended { attempt: with_id("a", "1", false).attempt, ..ended("a", None) };
    let idle = State::Idle { last: Some(last), claimed: None };
    for begun in [false, true] {
        let again = after(idle.clone(), Event::Offered(with_id("a", "1", begun)));
        assert!(matches!(&again, State::Reporting(ended) if ended.doubt), "{again:?}");
        let other = after(idle.clone(), Event::Offered(with_id("a", "2", begun)));
        assert!(matches!(&other, State::Claimed(job) if job.attempt.number == 1), "{other:?}");
    }
}

pub(super) fn reacting(job: &mut Job) {
    job.action.on_failure = vec!["collect".into()];
    job.action.on_timeout = vec!["reset".into()];
}

#[test]
fn what_the_template_wants_after_a_failure_is_run_once_and_told_with_it() {
    let timed_out = Outcome::TimedOut(Failure::new(Code::Timeout, "60 s"));
    let failed = Outcome::Failed(Failure::new(Code::ExitStatus, "seven"));
    let cancelled = Outcome::Failed(Failure::new(Code::Cancelled, "stopped"));
    for (outcome, command, name) in [
        (failed.clone(), Some("collect"), "a (on-failure)"),
        (timed_out, Some("reset"), "a (on-timeout)"),
        (cancelled, None, ""),
        (Outcome::Succeeded, None, ""),
    ] {
        let mut a = job("a", false);
        reacting(&mut a);
        let attempt = a.attempt.clone();
        let running = State::Running { job: a, container: Some(container()), resumed: false };
        let finish = Finish { outcome: outcome.clone(), handover: None };
        let (state, next) = decide(running, Event::Finished(attempt.clone(), finish, took(3)));
        let Some(command) = command else {
            assert!(matches!(&state, State::Reporting(ended) if ended.outcome == outcome), "{state:?}");
            continue;
        };
        let Command::Prepare { job: reaction, resumed: false } = next else { panic!("{next:?}") };
        assert_eq!(
            (reaction.action.command.as_slice(), reaction.action.name.as_str()),
            (&[command.to_owned()][..], name)
        );
        assert_eq!(reaction.told_as(), &attempt);
        let state = after(state, Event::Prepared(reaction.attempt.clone(), container()));
        // A restart in the middle finds it again and never runs the action.
        let (state, next) = restarted(&state);
        assert!(matches!(&next, Command::Run { job, .. } if job.attempt == reaction.attempt), "{next:?}");
        let finish = Finish { outcome: Outcome::Succeeded, handover: Some(Mode::Reboot) };
        let state = after(state, Event::Finished(reaction.attempt.clone(), finish, took(9)));
        let State::Reporting(ended) = state else { panic!() };
        assert_eq!((&ended.attempt, ended.span, ended.handover), (&attempt, took(3), None));
        assert_eq!(ended.reaction, Some(reaction.attempt));
        let (Outcome::Failed(told) | Outcome::TimedOut(told)) = &ended.outcome else { panic!() };
        assert!(
            told.message.ends_with("; then on-failure succeeded") || told.message.ends_with("on-timeout succeeded")
        );
    }
    let mut unstarted = job("a", false);
    reacting(&mut unstarted);
    let attempt = unstarted.attempt.clone();
    let running = State::Running { job: unstarted, container: None, resumed: false };
    let state = after(running, Event::Finished(attempt, Finish::from(failed), took(0)));
    assert!(matches!(state, State::Reporting(_)), "an action without an image has nothing to react with");
}

/// What happens to one step of the agent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Killed before the command was carried out.
    CrashBefore,
    /// Killed after, before what came of it was written down.
    CrashAfter,
    /// The server's answer was lost, so the call was made twice.
    AnswerLost,
    /// The event arrives twice.
    Duplicate,
    /// An event of another time arrives first.
    Stray,
}

/// A server and an engine as the agent sees them.
struct World {
    plan: Vec<Outcome>,
    /// A server of the field refuses what it already has; ours takes it as done.
    strict: bool,
    /// It gives every attempt an id, and does not say what it holds for running.
    newer: bool,
    /// The template wants something run after a failure.
    reacts: bool,
    recorded: Vec<Option<Outcome>>,
    running: Option<usize>,
    containers: HashMap<String, bool>,
    starts: HashMap<String, u32>,
    handed_over: bool,
}

impl World {
    fn new(plan: Vec<Outcome>, strict: bool, newer: bool, reacts: bool) -> Self {
        let n = plan.len();
        Self {
            plan,
            strict,
            newer,
            reacts,
            recorded: vec![None; n],
            running: None,
            containers: HashMap::new(),
            starts: HashMap::new(),
            handed_over: false,
        }
    }

    fn index(attempt: &Attempt) -> usize {
        attempt.action.split(' ').next().unwrap().parse().unwrap()
    }

    fn offer(&self, i: usize) -> Job {
        let mut job = job(&i.to_string(), !self.newer && self.running == Some(i));
        if self.newer {
            job.attempt.id = format!("id {i}");
        }
        if self.reacts {
            reacting(&mut job);
        }
        job
    }

    fn starts(&self, name: &str) -> u32 {
        self.starts.get(name).copied().unwrap_or_default()
    }

    /// The action that the server wants next.
    fn current(&self) -> Option<usize> {
        let failed = self.recorded.iter().flatten().any(|outcome| *outcome != Outcome::Succeeded);
        let next = self.recorded.iter().position(Option::is_none);
        if failed { None } else { next }
    }

    fn last(&self, i: usize) -> bool {
        i + 1 == self.plan.len()
    }

    fn start(&mut self, i: usize) -> Answer {
        if self.current() == Some(i) && (!self.strict || self.running != Some(i)) {
            self.running = Some(i);
            return Answer::Acknowledged;
        }
        REFUSED
    }

    fn end(&mut self, ended: &Ended) -> Answer {
        let i = Self::index(&ended.attempt);
        if self.current() == Some(i) {
            assert_eq!(code(&ended.outcome), code(&self.plan[i]), "a report that nobody made");
            assert_eq!(self.starts(&i.to_string()), 1, "reported without having run");
            if let Some(reaction) = &ended.reaction {
                assert_eq!(self.starts(&reaction.action), 1, "told of what was not run");
            }
            self.recorded[i] = Some(ended.outcome.clone());
            self.running = None;
            return Answer::Acknowledged;
        }
        assert_eq!(self.recorded[i].as_ref(), Some(&ended.outcome), "a report differs from the one on record");
        if self.strict { REFUSED } else { Answer::Acknowledged }
    }

    fn doubtful(answer: Answer) -> Answer {
        match answer {
            Answer::Refused { gone, .. } => Answer::Refused { gone, doubt: true },
            answer => answer,
        }
    }

    fn perform(&mut self, command: Command, answer_lost: bool) -> Option<Event> {
        Some(match command {
            Command::Poll => {
                let i = self.current()?;
                Event::Offered(self.offer(i))
            }
            Command::ReportStart(attempt) => {
                let i = Self::index(&attempt);
                let first = self.start(i);
                let answer = if answer_lost { Self::doubtful(self.start(i)) } else { first };
                Event::StartAnswered(attempt, answer)
            }
            Command::Prepare { job, resumed } => {
                let name = job.attempt.action.clone();
                let known = job.untouched || self.containers.contains_key(&name);
                assert!(known, "taken for a job that was cut off by a loss of power");
                if !resumed || !self.containers.contains_key(&name) {
                    self.containers.insert(name, false);
                }
                Event::Prepared(job.attempt, container())
            }
            Command::Run { job, .. } => {
                let i = Self::index(&job.attempt);
                let name = job.attempt.action.clone();
                let started =
                    self.containers.get_mut(&name).expect("the container is there until its report is recorded");
                *self.starts.entry(name).or_default() += u32::from(!*started);
                *started = true;
                if job.reacts_to.is_some() {
                    return Some(Event::Finished(job.attempt, Finish::from(Outcome::Succeeded), took(0)));
                }
                let handover = self.last(i).then_some(Mode::Reboot);
                Event::Finished(job.attempt, Finish { outcome: self.plan[i].clone(), handover }, took(0))
            }
            Command::ReportEnd(ended) => {
                let first = self.end(&ended);
                let answer = if answer_lost { Self::doubtful(self.end(&ended)) } else { first };
                self.containers.remove(&ended.attempt.action);
                if let Some(reaction) = &ended.reaction {
                    self.containers.remove(&reaction.action);
                }
                Event::EndAnswered(ended.attempt, answer)
            }
            Command::HandOver { .. } => {
                assert!(self.recorded.iter().all(|outcome| *outcome == Some(Outcome::Succeeded)), "too early");
                self.handed_over = true;
                Event::HandedOver
            }
            Command::Stay => return None,
        })
    }
}

fn code(outcome: &Outcome) -> (bool, String) {
    match outcome {
        Outcome::Succeeded => (true, String::new()),
        Outcome::Failed(failure) | Outcome::TimedOut(failure) => (false, failure.code.clone()),
    }
}

/// As the journal does it.
fn restarted(state: &State) -> (State, Command) {
    let text = serde_json::to_string(state).unwrap();
    decide(serde_json::from_str(&text).unwrap(), Event::Restarted)
}

fn stray() -> Event {
    Event::EndAnswered(Attempt { action: "99".into(), ..job("0", false).attempt }, Answer::Acknowledged)
}

fn drive(world: &mut World, faults: &[Fault]) {
    let (mut state, mut command) = decide(State::default(), Event::Restarted);
    let calm = std::iter::repeat_n(Fault::None, 60);
    for fault in faults.iter().copied().chain(calm) {
        if fault == Fault::CrashBefore {
            (state, command) = restarted(&state);
            continue;
        }
        let event = world.perform(command.clone(), fault == Fault::AnswerLost);
        (state, command) = match (fault, event) {
            (Fault::CrashAfter, _) => restarted(&state),
            (_, None) => (state, command),
            (Fault::Duplicate, Some(event)) => {
                let state = after(state, event.clone());
                // The same news twice changes nothing, unless it is another offer, which is only made to an idle agent.
                if matches!(event, Event::Offered(_)) { decide(state.clone(), stray()) } else { decide(state, event) }
            }
            (Fault::Stray, Some(event)) => decide(after(state, stray()), event),
            (_, Some(event)) => decide(state, event),
        };
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::None),
        1 => Just(Fault::CrashBefore),
        1 => Just(Fault::CrashAfter),
        1 => Just(Fault::AnswerLost),
        1 => Just(Fault::Duplicate),
        1 => Just(Fault::Stray),
    ]
}

fn plan() -> impl Strategy<Value = Vec<Outcome>> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Succeeded),
        1 => Just(Outcome::Failed(Failure::new(Code::ExitStatus, "7"))),
        1 => Just(Outcome::TimedOut(Failure::new(Code::Timeout, "long"))),
    ];
    proptest::collection::vec(outcome, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens: every action runs at most once, no report is lost, none is invented, none is changed, and the
    /// machine is handed over exactly when all has succeeded.
    #[test]
    fn no_order_of_events_loses_or_repeats_anything(
        plan in plan(), kind in any::<[bool; 3]>(), faults in proptest::collection::vec(fault(), 0..60),
    ) {
        let [strict, newer, reacts] = kind;
        // No server of the newer generation refuses a duplicate.
        let mut world = World::new(plan.clone(), strict && !newer, newer, reacts);
        drive(&mut world, &faults);
        let until = plan.iter().position(|outcome| *outcome != Outcome::Succeeded).map_or(plan.len(), |i| i + 1);
        for (i, outcome) in plan.iter().enumerate() {
            let expected = (i < until).then(|| code(outcome));
            prop_assert_eq!(world.recorded[i].as_ref().map(code), expected, "action {}", i);
            prop_assert_eq!(world.starts(&i.to_string()), u32::from(i < until));
            let reactions = world.starts(&format!("{i} (on-failure)")) + world.starts(&format!("{i} (on-timeout)"));
            prop_assert_eq!(reactions, u32::from(i < until && reacts && *outcome != Outcome::Succeeded));
        }
        prop_assert_eq!(world.handed_over, plan.iter().all(|outcome| *outcome == Outcome::Succeeded));
    }
}
