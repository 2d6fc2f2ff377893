//! The state machine as a table, and under any order of reports.

use jiff::Timestamp;
use proptest::prelude::*;
use spec::event::Progress;
use spec::{Code, Failure};

use super::state::{Applied, News, Refused, Report, advance, apply, cancel, expire};
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
    Report { worker: worker.into(), task: task.into(), action: action.into(), id: String::new(), news }
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
    let (a, c) = (("a", News::Running), ("c", News::Running));
    let status = after(&[a, ("a", success()), ("b", News::Running), ("b", success()), c, ("c", success())]);
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

    let status = after(&[("a", News::Running), ("a", News::TimedOut { message: "after 60 s".into() })]);
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
    let ended = apply(&after(&[("a", News::Running), ("a", failed())]), &of("b", News::Running), NOW);
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
    let status = after(&[("a", News::Running), ("a", detail)]);
    let tail = &status.tasks[0].actions[0].failure.as_ref().unwrap().log_tail;
    assert!(tail.starts_with("line 80 "), "{tail}");
    assert_eq!(tail.lines().count(), 20);
    let detail = News::Detail(Failure { log_tail: "é".repeat(9000), ..Failure::default() });
    let status = after(&[("a", News::Running), ("a", detail)]);
    assert!(status.tasks[0].actions[0].failure.as_ref().unwrap().log_tail.len() <= 4096);
}

fn with_ids(retries: u32) -> WorkflowStatus {
    let mut status = fresh();
    for action in status.tasks.iter_mut().flat_map(|task| &mut task.actions) {
        action.id = format!("id-{}", action.name);
        action.retries = retries;
    }
    status
}

fn told(status: &WorkflowStatus, report: &Report) -> WorkflowStatus {
    match apply(status, report, NOW).unwrap() {
        Applied::Changed(new) => *new,
        Applied::Known => status.clone(),
    }
}

#[test]
fn an_end_without_a_start_is_of_an_earlier_workflow_unless_the_worker_is_in_its_turn() {
    for news in [success(), failed(), News::Detail(Failure::default())] {
        let early = apply(&fresh(), &of("a", news), NOW).unwrap_err();
        assert!(early.is_late() && matches!(early, Refused::Replaced { .. }), "{early}");
    }
    let turn = after(&[("a", News::Running), ("a", success())]);
    assert!(apply(&turn, &of("b", success()), NOW).is_ok());
    let others = after(&[("a", News::Running), ("a", success()), ("b", success())]);
    assert!(apply(&others, &of("c", success()), NOW).unwrap_err().is_late());
}

#[test]
fn a_report_with_the_id_of_another_workflow_of_this_name_does_not_count() {
    let running = told(&with_ids(0), &of("a", News::Running));
    for (id, fits) in [("id-a", true), ("id-of-the-deleted-one", false), ("", true)] {
        let report = Report { id: id.into(), ..of("a", success()) };
        assert_eq!(apply(&running, &report, NOW).is_ok(), fits, "{id:?}");
    }
    // An agent of the newer generation says nothing but the id.
    let newer = Report { id: "id-a".into(), worker: "one".into(), news: success(), ..Report::default() };
    assert_eq!(told(&running, &newer).actions().next().unwrap().1.state, State::Success);
    let unknown = Report { id: "gone".into(), ..newer };
    assert!(matches!(apply(&running, &unknown, NOW), Err(Refused::NoSuchAction { .. })));
}

#[test]
fn a_failure_is_tried_again_as_often_as_the_template_says_and_each_attempt_counts_once() {
    let mut status = with_ids(2);
    let mut ids = Vec::new();
    for attempt in 1..=3 {
        let action = status.tasks[0].actions[0].clone();
        assert_eq!((action.attempt.max(1), action.state), (attempt, State::Pending));
        assert_eq!(action.message.is_empty(), attempt == 1);
        status = told(&status, &Report { id: action.id.clone(), ..of("a", News::Running) });
        let end = Report { id: action.id.clone(), ..of("a", failed()) };
        status = told(&status, &end);
        let late = apply(&status, &end, NOW);
        assert!(matches!((attempt, late), (3, Ok(Applied::Known)) | (1 | 2, Err(Refused::Replaced { .. }))));
        // A stock worker's duplicate has no id.
        let stock = apply(&status, &of("a", failed()), NOW);
        assert!(matches!((attempt, stock), (3, Ok(Applied::Known)) | (1 | 2, Err(Refused::Replaced { .. }))));
        ids.push(action.id);
    }
    assert_eq!(ids, ["id-a", "id-a-2", "id-a-3"]);
    assert_eq!((status.state, states(&status)[0]), (State::Failed, State::Failed));
}

#[test]
fn a_cancelled_workflow_stays_so_and_hears_that_its_action_was_stopped() {
    let running = after(&[("a", News::Running)]);
    let Applied::Changed(over) = cancel(&running, "wrong rack", later(5)) else { panic!() };
    assert_eq!((over.state, states(&over)[0]), (State::Cancelled, State::Cancelled));
    assert_eq!(over.reason(), "first/a: cancelled: wrong rack");
    assert_eq!(cancel(&over, "again", later(6)), Applied::Known);
    assert_eq!(apply(&over, &of("a", failed()), later(7)), Ok(Applied::Known));
    assert!(apply(&over, &of("a", success()), later(7)).unwrap_err().is_late());
    assert!(apply(&over, &of("b", News::Running), later(7)).is_err());
    let Applied::Changed(unbegun) = cancel(&with_ids(3), "", later(5)) else { panic!() };
    assert_eq!(unbegun.state, State::Cancelled);
    assert_eq!(cancel(&after(&[("a", News::Running), ("a", failed())]), "", NOW), Applied::Known);
}

#[test]
fn progress_is_shown_while_it_runs_and_only_of_that_attempt() {
    let progress = Progress { done: 1, total: 2, ..Progress::default() };
    let waiting = with_ids(0);
    assert_eq!(advance(&waiting, "id-a", &progress), Applied::Known);
    let running = told(&waiting, &of("a", News::Running));
    let Applied::Changed(shown) = advance(&running, "id-a", &progress) else { panic!() };
    assert_eq!(shown.tasks[0].actions[0].progress, Some(progress.clone()));
    assert_eq!(advance(&shown, "id-a", &progress), Applied::Known);
    assert_eq!(advance(&shown, "id-b", &progress), Applied::Known);
    assert_eq!(told(&shown, &of("a", success())).tasks[0].actions[0].progress, None);
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
