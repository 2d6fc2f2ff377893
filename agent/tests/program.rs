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

#[test]
fn the_fields_options_are_known_as_the_manual_says() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md")).unwrap();
    let section = manual.split("## Options of the field's workers\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let help = String::from_utf8(agent().arg("--help").output().unwrap().stdout).unwrap();
    let mut known = 0;
    for row in section.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (flag, variable, here) = (cells[1], cells[2], cells[4]);
        if here.starts_with("no:") {
            assert!(!help.contains(flag), "{flag} is known");
            continue;
        }
        known += 1;
        let word = |text: &str, word: &str| {
            text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).any(|it| it == word)
        };
        assert!(word(&help, flag) && word(&help, variable), "{flag} or {variable} is not in the help");
        // Alone it is not enough to work: what is missing is said, and nothing about this one.
        let value = match flag {
            "--tinkerbell-grpc-authority" | "--grpc-server" => "h:1",
            "--transport" => "grpc",
            "--runtime" => "docker",
            "--docker-socket" => "/run/x.sock",
            "--cert-url" => "http://h/cert",
            "--registry-password" | "--registry-pass" => "hunter2",
            _ if here.contains("limit") || flag.contains("interval") => "3",
            _ if flag.contains("tls") || flag.contains("detection") || flag.contains("capture") => "true",
            _ => "1",
        };
        let said = agent().args(["--run-dir=/nonexistent", &format!("{flag}={value}")]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap() + &String::from_utf8(said.stderr).unwrap();
        let is_refused = flag.starts_with("--registry-pass");
        assert_eq!(said.contains("--registry-password: give it as REGISTRY_PASSWORD"), is_refused, "{flag}: {said}");
        assert!(said.contains("no worker id") || said.contains("no server"), "{flag}={value}: {said}");
        assert!(!said.contains("unexpected argument") && !said.contains("hunter2"), "{flag}={value}: {said}");
        let said = agent().arg("--run-dir=/nonexistent").env(variable, value).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(!said.contains(variable), "{variable}={value}: {said}");
    }
    assert!(known >= 25, "{known}");
}
