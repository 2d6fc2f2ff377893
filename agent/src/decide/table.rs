//! The state machine as the table of docs/agent.md: every state with every event, of which those that change something are
//! printed. `UPDATE_GOLDENS=1` writes it.

use std::fmt::Write as _;
use std::path::Path;

use spec::Code;

use super::tests::{DOUBTFUL, GONE, REFUSED, claimed, container, ended, idle_after, job, reacting, took};
use super::*;

const BEGIN: &str = "<!-- from agent/src/decide.rs by `make gen`: begin -->\n";
const END: &str = "<!-- end -->\n";

fn states() -> Vec<(&'static str, State)> {
    let running = |begun, container| State::Running { job: job("a", begun), container, resumed: begun };
    let mut wants = job("a", false);
    reacting(&mut wants);
    let failed = Ended { outcome: Outcome::Failed(failure()), ..ended("a", None) };
    let reacting = |container| State::Reacting { ended: failed.clone(), job: wants.clone(), container, resumed: false };
    let leaving = |asked| State::Leaving { mode: Mode::Reboot, by: job("a", false).attempt, asked };
    vec![
        ("Idle", State::default()),
        ("Idle after *a*", idle_after("a")),
        ("Claimed *a*", claimed("a", false)),
        ("Claimed *a*, which the server holds for running", claimed("a", true)),
        ("Running *a*, no container yet", running(false, None)),
        ("Running *a*", running(false, Some(container()))),
        (
            "Running *a*, which has a reaction",
            State::Running { job: wants.clone(), container: Some(container()), resumed: false },
        ),
        ("Reacting, no container yet", reacting(None)),
        ("Reacting", reacting(Some(container()))),
        ("Reporting *a*", State::Reporting(ended("a", None))),
        ("Reporting *a*, which wants a handover", State::Reporting(ended("a", Some(Mode::Reboot)))),
        ("Leaving", leaving(false)),
        ("Leaving, init has taken over", leaving(true)),
    ]
}

fn failure() -> Failure {
    Failure::new(Code::ExitStatus, "7")
}

fn events() -> Vec<(&'static str, Event)> {
    let a = || job("a", false).attempt;
    let start = |answer| Event::StartAnswered(a(), answer);
    let end = |answer| Event::EndAnswered(a(), answer);
    let finish = |outcome, handover| Event::Finished(a(), Finish { outcome, handover }, took(1));
    vec![
        ("the agent is restarted", Event::Restarted),
        ("the server offers *a*", Event::Offered(job("a", false))),
        ("the server offers *a*, held for running", Event::Offered(job("a", true))),
        ("the server offers *b*", Event::Offered(job("b", false))),
        ("the server offers what cannot be understood", Event::Malformed(job("b", false).attempt, failure(), took(0))),
        ("its start is on record", start(Answer::Acknowledged)),
        ("its start is refused", start(REFUSED)),
        ("its start is refused: there is no such action", start(GONE)),
        ("its container is there", Event::Prepared(a(), container())),
        ("it succeeds", finish(Outcome::Succeeded, None)),
        ("it succeeds and wants a handover", finish(Outcome::Succeeded, Some(Mode::Reboot))),
        ("it fails", finish(Outcome::Failed(failure()), None)),
        ("it is over its time", finish(Outcome::TimedOut(failure()), None)),
        ("its end is on record", end(Answer::Acknowledged)),
        ("its end is refused", end(REFUSED)),
        ("its end is refused after a lost answer", end(DOUBTFUL)),
        ("its end is refused: there is no such action", end(GONE)),
        ("the machine goes down", Event::HandedOver),
        ("init refuses", Event::HandoverRefused),
    ]
}

fn named(state: &State) -> String {
    match state {
        State::Idle { claimed: Some(_), .. } => "Idle, remembering that nothing was started".to_owned(),
        State::Idle { last: Some(_), .. } => "Idle after *a*".to_owned(),
        State::Idle { .. } => "Idle".to_owned(),
        State::Claimed(job) if job.attempt.number > 1 => format!("Claimed *{}*, as a new attempt", job.attempt.action),
        State::Claimed(job) => format!("Claimed *{}*", job.attempt.action),
        State::Running { container: None, resumed: true, .. } => {
            "Running *a*, whose container may exist already".to_owned()
        }
        State::Running { container: None, .. } => "Running *a*, no container yet".to_owned(),
        State::Running { resumed: true, .. } => "Running *a*, taken up again".to_owned(),
        State::Running { .. } => "Running *a*".to_owned(),
        State::Reacting { container: None, resumed, .. } if !resumed => "Reacting, no container yet".to_owned(),
        State::Reacting { resumed: true, .. } => "Reacting, taken up again".to_owned(),
        State::Reacting { .. } => "Reacting".to_owned(),
        State::Reporting(Ended { doubt: true, .. }) => "Reporting, perhaps for the second time".to_owned(),
        State::Reporting(Ended { handover: Some(_), .. }) => "Reporting *a*, which wants a handover".to_owned(),
        State::Reporting(_) => "Reporting".to_owned(),
        State::Leaving { asked: true, .. } => "Leaving, init has taken over".to_owned(),
        State::Leaving { .. } => "Leaving".to_owned(),
    }
}

const fn then(command: &Command) -> &'static str {
    match command {
        Command::Poll => "ask the server for work",
        Command::ReportStart(_) => "report the start until it is answered",
        Command::Prepare { resumed: true, .. } => "find its container, or get one",
        Command::Prepare { .. } => "get a container",
        Command::Run { .. } => "start it unless it runs, and wait",
        Command::ReportEnd(_) => "report the end until it is answered",
        Command::HandOver { .. } => "ask init",
        Command::Stay => "stay",
    }
}

fn table() -> String {
    let mut text = "| state | what happens | next state | and then |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, state) in states() {
        for (what, event) in events() {
            let (next, command) = decide(state.clone(), event);
            if next != state {
                let _ = writeln!(text, "| {name} | {what} | {} | {} |", named(&next), then(&command));
            }
        }
    }
    text
}

#[test]
fn the_table_of_the_manual_is_what_is_decided() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/agent.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == wanted, "docs/agent.md is old: make gen");
}
