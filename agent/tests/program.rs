//! The built program against a server on the real wire: readiness, timeline, orderly end, and what it says about a
//! bad configuration. What needs a container engine is in `docker.rs`.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{Server, Speaks, WORKER};

fn agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ironhook-agent"));
    command.env_clear();
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_when_it_is_ready_sends_the_timeline_and_ends_on_sigterm() {
    let run = tempfile::tempdir().unwrap();
    std::fs::write(run.path().join("timeline.jsonl"), "{\"name\":\"modules\",\"start_ms\":1,\"duration_ms\":2}\n")
        .unwrap();
    let server = Server::new();
    let serving = server.serve("127.0.0.1:0", Speaks::Both);
    let mut agent = agent()
        .env("WORKER_ID", WORKER)
        .env("TINKERBELL_GRPC_AUTHORITY", serving.address.to_string())
        .env("TINKERBELL_TLS", "false")
        .arg(format!("--run-dir={}", run.path().display()))
        .arg(format!("--worker-dir={}", run.path().join("worker").display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ready = format!("ironhook: agent ready (worker {WORKER}, server {})", serving.address);
    assert!(lines.any(|line| line == ready));
    let idle = lines.find(|line| line.contains("idle: ")).unwrap();
    assert!(idle.ends_with(&format!("the server has no workflow for worker {WORKER}")), "{idle}");
    let seen = server.wait("the timeline", |seen| !seen.timelines.is_empty()).await;
    let names: Vec<&str> = seen.timelines[0].phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["modules", "agent ready"]);
    assert_eq!(seen.timelines[0].boot_id.len(), 36);
    // Later polls say nothing new.
    let polls = |seen: &common::Seen| seen.calls.iter().filter(|call| *call == "GetWorkflowContexts").count();
    server.wait("a third poll", |seen| polls(seen) >= 3).await;
    assert!(Command::new("kill").arg(agent.id().to_string()).status().unwrap().success());
    assert!(agent.wait().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert!(rest.len() == 1 && rest[0].contains("SIGTERM"), "{rest:?}");
}

#[test]
fn a_bad_configuration_is_one_line_with_every_problem() {
    let run = agent().args(["--run-dir=/nonexistent", "--tinkerbell-tls=perhaps"]).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let line = String::from_utf8(run.stdout).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in ["no worker id", "no server", "--tinkerbell-tls: \"perhaps\""] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
}

#[test]
fn every_option_is_in_the_help_with_its_variable() {
    let help = agent().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut options: Vec<String> = Vec::new();
    for line in help.lines() {
        match options.last_mut() {
            _ if line.trim_start().starts_with('-') => options.push(line.to_owned()),
            Some(option) => option.push_str(line),
            None => {}
        }
    }
    assert!(options.len() > 15, "{help}");
    for option in options {
        let named = option.contains('[') && option.contains(']');
        assert!(named || option.contains("--help") || option.contains("--version"), "no variable in: {option}");
    }
    for variable in ["TINKERBELL_GRPC_AUTHORITY", "AGENT_GRPC_SERVER", "IRONHOOK_PROTOCOL", "IRONHOOK_CA_FILE"] {
        assert!(help.contains(variable), "{variable}");
    }
}
