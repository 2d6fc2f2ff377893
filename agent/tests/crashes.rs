//! What an operator may rely on at 3 a.m.: an agent killed at any instant, an engine killed under a running action, a
//! hundred actions in a row. Each action writes to a witness of its own, so that one run twice or not at all is seen.

#![allow(clippy::unwrap_used)]

mod common;
mod lab;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use lab::{IMAGE, Kind, Lab, sh};
use proto::workflow::{State, WorkflowAction};

const ACTIONS: usize = 5;
const KILLS: usize = 50;

fn workflow(actions: usize) -> Vec<WorkflowAction> {
    let step =
        |i| WorkflowAction { name: format!("step {i}"), ..sh(&format!("echo {i} >> /workflow/witness; sleep 0.05")) };
    (0..actions).map(step).collect()
}

fn all_succeeded(seen: &common::Seen, id: &str) -> bool {
    let workflow = seen.workflows.iter().find(|workflow| workflow.id == id).unwrap();
    // A failure is an end too: waiting on would only hide it.
    workflow.states.iter().all(|state| *state == State::Success)
        || seen.end(id).is_some_and(|end| end.action_status() != State::Success)
}

fn is_bad(report: &proto::workflow::WorkflowActionStatus) -> bool {
    report.action_status() != State::Success
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|i| i.to_string()).collect()
}

async fn run_to_end(lab: &Lab, id: &str) -> Duration {
    let begun = Instant::now();
    lab.server.wait(&format!("the end of {id}"), |seen| all_succeeded(seen, id)).await;
    begun.elapsed()
}

async fn killed_at_50_instants(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    lab.server.add("ns/whole", workflow(ACTIONS));
    let whole = run_to_end(&lab, "ns/whole").await;
    for i in 0..KILLS {
        let id = format!("ns/kill{i}");
        let part = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let instant = whole.mul_f64(part);
        lab.server.add(&id, workflow(ACTIONS));
        tokio::time::sleep(instant).await;
        lab.kill_agent();
        lab.start_agent();
        run_to_end(&lab, &id).await;
        let ran = lab.witness(&id);
        let end = lab.server.seen().reports.iter().rev().find(|report| report.workflow_id == id).cloned();
        assert_eq!(ran, numbers(ACTIONS), "killed after {instant:?} of {whole:?}; last report: {end:?}");
    }
    assert_eq!(lab.left().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-full: some minutes"]
async fn docker_agent_killed_at_50_random_instants_runs_each_action_once() {
    killed_at_50_instants(Kind::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-full: some minutes"]
async fn crun_agent_killed_at_50_random_instants_runs_each_action_once() {
    killed_at_50_instants(Kind::Crun).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-full: a minute"]
async fn docker_100_actions_in_declared_mode_each_run_once_and_leave_nothing() {
    let Some(lab) = Lab::start(Kind::Docker) else { return };
    lab.server.add("ns/hundred", workflow(100));
    // Each wait has a limit of its own: a hundred actions take a while where others work too.
    for part in 1..=10 {
        let enough =
            move |seen: &common::Seen| seen.reports.len() >= part * 20 || seen.end("ns/hundred").is_some_and(is_bad);
        lab.server.wait(&format!("action {}", part * 10), enough).await;
    }
    let seen = lab.server.seen();
    assert!(seen.workflows[0].states.iter().all(|state| *state == State::Success));
    assert_eq!(lab.witness("ns/hundred"), numbers(100));
    assert_eq!(lab.left().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make test-full: ends an engine"]
async fn docker_engine_killed_under_a_running_action_changes_nothing() {
    let Some(lab) = Lab::start(Kind::Docker) else { return };
    let pid = std::path::PathBuf::from(std::env::var_os("IRONHOOK_TEST_DOCKERD_PID").unwrap());
    let script = "echo begun >> /workflow/witness; while ! test -e /workflow/go; do sleep 0.1; done; echo over >> /workflow/witness; exit 7";
    lab.server.add("ns/engine", vec![WorkflowAction { image: IMAGE.into(), ..sh(script) }]);
    lab::wait_for(&lab.file("ns/engine", "witness")).await;
    let old = std::fs::read_to_string(&pid).unwrap();
    assert!(std::process::Command::new("kill").args(["-9", old.trim()]).status().unwrap().success());
    lab::until("another engine", || std::fs::read_to_string(&pid).is_ok_and(|new| !new.is_empty() && new != old)).await;
    std::fs::write(lab.file("ns/engine", "go"), "").unwrap();
    let seen = lab.server.wait("its end", |seen| seen.end("ns/engine").is_some()).await;
    let end = seen.end("ns/engine").unwrap();
    assert!(end.message.starts_with("exit_status: it ended with exit status 7"), "{}", end.message);
    assert_eq!(lab.witness("ns/engine"), ["begun", "over"]);
    assert_eq!(lab.left().await, Vec::<String>::new());
}
