//! The state machine as a table, and under any order of reports.

use jiff::Timestamp;
use proptest::prelude::*;
use spec::{Code, Failure};

use super::state::{Applied, News, Refused, Report, apply, expire};
use crate::objects::workflow::{Action, State, Task, WorkflowStatus};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Two workers: `one` has a and b, `two` has c.
fn fresh() -> WorkflowStatus {
    let action = |name: &str| Action { name: name.into(), timeout: 60, ..Action::default() };
    let task = |name: &str, worker: &str, actions: &[&str]| Task {
        name: name.into(),
        agent_id: worker.into(),
        actions: actions.iter().copied().map(action).collect(),
        ..Task::default()
    };
    let tasks = vec![task("first", "one", &["a", "b"]), task("second", "two", &["c"])];
    WorkflowStatus { agent_id: "one".into(), tasks, ..WorkflowStatus::default() }
}

fn report(worker: &str, task: &str, action: &str, news: News) -> Report {
    Report { worker: worker.into(), task: task.into(), action: action.into(), news }
}

fn of(action: &str, news: News) -> Report {
    let (worker, task) = if action == "c" { ("two", "second") } else { ("one", "first") };
    report(worker, task, action, news)
}

fn success() -> News {
    News::Succeeded { message: "done".into() }
}

fn failed() -> News {
    News::Failed { message: "exit status 7".into() }
}

fn after(reports: &[(&str, News)]) -> WorkflowStatus {
    reports.iter().fold(fresh(), |status, (action, news)| match apply(&status, &of(action, news.clone()), NOW) {
        Ok(Applied::Changed(new)) => *new,
        other => panic!("{action} {news:?}: {other:?}"),
    })
}

fn states(status: &WorkflowStatus) -> Vec<State> {
    status.actions().map(|(_, action)| action.state).collect()
}

#[test]
fn the_way_to_success() {
    let status = after(&[("a", News::Running)]);
    assert_eq!((status.state, states(&status)), (State::Running, vec![State::Running, State::Pending, State::Pending]));
    let status = after(&[("a", News::Running), ("a", success()), ("b", success())]);
    assert_eq!((status.state, status.agent_id.as_str()), (State::Running, "two"));
    let status = after(&[("a", success()), ("b", News::Running), ("b", success()), ("c", success())]);
    assert_eq!((status.state, states(&status)), (State::Success, vec![State::Success; 3]));
    assert_eq!(status.reason(), "");
}

#[test]
fn the_ways_to_fail() {
    let status = after(&[("a", News::Running), ("a", failed())]);
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.reason(), "first/a: unknown: exit status 7");

    let detail = Failure { exit_status: Some(7), ..Failure::new(Code::Truncated, "12 of 40 bytes") };
    let status = after(&[("a", News::Running), ("a", News::Detail(detail.clone())), ("a", failed())]);
    assert_eq!(status.tasks[0].actions[0].failure, Some(detail));
    assert_eq!(status.reason(), "first/a: truncated: 12 of 40 bytes");

    let status = after(&[("a", News::TimedOut { message: "after 60 s".into() })]);
    assert_eq!((status.state, status.reason().as_str()), (State::Timeout, "first/a: timeout: after 60 s"));
}

#[test]
fn a_detail_alone_fails_nothing_and_a_success_forgets_it() {
    let detail = News::Detail(Failure::new(Code::Fetch, "reset"));
    let status = after(&[("a", News::Running), ("a", detail.clone())]);
    assert_eq!(status.state, State::Running);
    let status = after(&[("a", News::Running), ("a", detail), ("a", success())]);
    assert_eq!(status.tasks[0].actions[0].failure, None);
}

#[test]
fn what_is_known_or_late_changes_nothing() {
    let status = after(&[("a", News::Running), ("a", success()), ("b", News::Running)]);
    for (action, news) in [("a", success()), ("a", News::Detail(Failure::default())), ("b", News::Running)] {
        assert_eq!(apply(&status, &of(action, news), NOW), Ok(Applied::Known), "{action}");
    }
}

#[test]
fn only_how_an_action_has_ended_is_acknowledged_again() {
    let timed_out = || News::TimedOut { message: String::new() };
    for (state, end) in [(State::Success, success()), (State::Failed, failed()), (State::Timeout, timed_out())] {
        let ended = after(&[("a", News::Running), ("a", end.clone())]);
        for news in [News::Running, success(), failed(), timed_out(), News::Detail(Failure::default())] {
            let result = apply(&ended, &of("a", news.clone()), NOW);
            let same = matches!(news, News::Detail(_)) || std::mem::discriminant(&news) == std::mem::discriminant(&end);
            if same {
                assert_eq!(result, Ok(Applied::Known), "{news:?} after {state}");
            } else {
                let late = Refused::Late { task: "first".into(), action: "a".into(), state };
                assert_eq!(result, Err(late), "{news:?} after {state}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let status = after(&[("a", News::Running)]);
    let early = apply(&status, &of("b", News::Running), NOW).unwrap_err();
    assert_eq!(early.to_string(), "action first/b is not the current one, first/a is");
    let foreign = apply(&status, &report("two", "first", "a", success()), NOW).unwrap_err();
    assert_eq!(foreign.to_string(), "action first/a belongs to worker one, not to two");
    let unknown = apply(&status, &report("one", "first", "x", success()), NOW).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no action first/x in this workflow");
    let ended = apply(&after(&[("a", failed())]), &of("b", News::Running), NOW);
    assert!(matches!(ended, Err(Refused::Ended { state: State::Failed, .. })));
    // Workers of older generations do not say who they are.
    assert!(apply(&status, &report("", "first", "a", success()), NOW).is_ok());
}

#[test]
fn the_global_clock_starts_with_the_first_action() {
    let mut status = fresh();
    status.global_timeout = 10;
    assert_eq!(expire(&status, later(1_000_000)), Applied::Known);
    let Ok(Applied::Changed(running)) = apply(&status, &of("a", News::Running), later(100)) else { panic!() };
    assert_eq!(expire(&running, later(109)), Applied::Known);
    let Applied::Changed(over) = expire(&running, later(110)) else { panic!() };
    assert_eq!(over.state, State::Timeout);
    assert!(over.reason().contains("global timeout of 10 s"), "{}", over.reason());
    assert_eq!(expire(&over, later(200)), Applied::Known);
    for news in [News::Running, success()] {
        assert!(matches!(apply(&over, &of("a", news), later(111)), Err(Refused::Late { state: State::Timeout, .. })));
    }
}

#[test]
fn the_log_tail_keeps_the_end_within_bounds() {
    let long = (0..100).map(|n| format!("line {n} é{}\n", "x".repeat(n))).collect::<String>();
    let detail = News::Detail(Failure { log_tail: long, ..Failure::new(Code::ExitStatus, "7") });
    let status = after(&[("a", detail)]);
    let tail = &status.tasks[0].actions[0].failure.as_ref().unwrap().log_tail;
    assert!(tail.starts_with("line 80 "), "{tail}");
    assert_eq!(tail.lines().count(), 20);
    let detail = News::Detail(Failure { log_tail: "é".repeat(9000), ..Failure::default() });
    let status = after(&[("a", detail)]);
    assert!(status.tasks[0].actions[0].failure.as_ref().unwrap().log_tail.len() <= 4096);
}

fn any_report() -> impl Strategy<Value = Report> {
    let news = prop_oneof![
        Just(News::Running),
        Just(success()),
        Just(failed()),
        Just(News::TimedOut { message: String::new() }),
        Just(News::Detail(Failure::new(Code::Fetch, "reset"))),
    ];
    (prop_oneof![Just("a"), Just("b"), Just("c"), Just("x")], news).prop_map(|(action, news)| of(action, news))
}

proptest! {
    /// In any order and any number: no terminal state changes, no accepted report is lost, none counts twice.
    #[test]
    fn reports_in_any_order(reports in proptest::collection::vec(any_report(), 0..60)) {
        let mut status = fresh();
        for report in &reports {
            let before = status.clone();
            let result = apply(&status, report, NOW);
            if let Ok(Applied::Changed(new)) = &result {
                prop_assert!(!before.state.is_final());
                for (was, is) in states(&before).into_iter().zip(states(new)) {
                    prop_assert!(!was.is_final() || was == is);
                }
                status = (**new).clone();
            }
            let told = status.actions().find(|(_, a)| a.name == report.action).map(|(_, a)| a.clone());
            if result.is_ok() {
                let told = told.unwrap();
                match &report.news {
                    News::Running => prop_assert_ne!(told.state, State::Pending),
                    News::Detail(_) => prop_assert!(told.failure.is_some() || told.state.is_final()),
                    _ => prop_assert!(told.state.is_final()),
                }
                let again = apply(&status, report, NOW).unwrap();
                let same = match again { Applied::Known => true, Applied::Changed(new) => *new == status };
                prop_assert!(same, "the same report counted twice");
            }
            // At most one action is under way, and everything before it has succeeded.
            let all = states(&status);
            let next = all.iter().position(|s| *s != State::Success).unwrap_or(all.len());
            prop_assert!(all.iter().skip(next + 1).all(|s| *s == State::Pending));
            prop_assert_eq!(status.state == State::Success, next == all.len());
        }
    }

    /// Whatever came before, a worker that repeats its last report until it is accepted always gets to an end.
    #[test]
    fn a_stubborn_worker_gets_through(lost in proptest::collection::vec(any::<bool>(), 6)) {
        let mut status = fresh();
        for (report, lost) in ["a", "b", "c"].iter().flat_map(|a| [of(a, News::Running), of(a, success())]).zip(lost) {
            for _ in 0..=usize::from(lost) {
                if let Applied::Changed(new) = apply(&status, &report, NOW).unwrap() {
                    status = *new;
                }
            }
        }
        prop_assert_eq!(status.state, State::Success);
    }
}
