//! The built program against workers of each era in another language (`hack/peers`), with their quirks: whether a start
//! is reported once a turn only, refused reports repeated for ever, the year 1, sizes as numbers, leaving for good.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{HARDWARE, Server, TEMPLATE, WORKER, WORKFLOW, text};
use serde_json::Value;

fn peers_can_run(test: &str) -> bool {
    let works =
        Command::new("/usr/bin/python3").args(["-c", "import grpc, google.protobuf"]).stderr(Stdio::null()).status();
    let protoc = Command::new("protoc").arg("--version").stdout(Stdio::null()).status();
    let can = works.is_ok_and(|it| it.success()) && protoc.is_ok();
    if !can {
        eprintln!("SKIP {test}: no python3-grpcio or protoc here (make deps)");
    }
    can
}

fn started(template: &str) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let applied = server.apply(dir.path(), &[("h.yaml", HARDWARE), ("t.yaml", template), ("w.yaml", WORKFLOW)]);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    (dir, server)
}

/// Runs a peer to its end and gives what it said.
fn peer(script: &str, era: &str, server: &Server, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/peers").join(script);
    let grpc = server.url("grpc").replace("http://", "");
    let output =
        Command::new("/usr/bin/python3").arg("-B").arg(path).args([era, &grpc, WORKER]).args(more).output().unwrap();
    let lines = text(&output.stdout).lines().map(|line| line.parse().unwrap_or(Value::Null)).collect();
    assert!(output.status.success(), "{script} {era}: {:?} {}", text(&output.stdout), text(&output.stderr));
    (output.status.code(), lines)
}

fn workflow(server: &Server) -> Value {
    text(&server.cli(&["get", "workflow", "w1", "-o", "json"]).stdout).parse().unwrap()
}

fn runs(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["runs"].is_string()).collect()
}

#[test]
fn workers_of_the_classic_eras_get_a_workflow_to_its_end() {
    if !peers_can_run("workers_of_the_classic_eras_get_a_workflow_to_its_end") {
        return;
    }
    for era in ["0.6", "0.9"] {
        // Through the data file from one action to the next, where there is one.
        let first = "            image: one:1\n            command: [sh, -c, \"if test -e data; then echo '{\\\"n\\\":1}' > data; fi\"]\n";
        let second =
            "            image: two:2\n            command: [sh, -c, 'if test -e data; then grep -q n data; fi']\n";
        let template =
            TEMPLATE.replace("            image: one:1\n", first).replace("            image: two:2\n", second);
        let (dir, server) = started(&template);
        let (_, lines) = peer("tink_worker.py", era, &server, &[&dir.path().join("worker").display().to_string()]);
        let runs = runs(&lines);
        assert_eq!(runs.len(), 2, "{era}: {lines:?}");
        assert_eq!((&runs[0]["runs"], &runs[0]["timeout"]), (&"first".into(), &3600.into()));
        assert_eq!(runs[0]["environment"], serde_json::json!(["DISK=/dev/vda", "MODE=0644", "SHARED=action"]));
        assert_eq!(runs[1]["volumes"], serde_json::json!(["/dev:/dev", "/run:/run"]));
        assert!(!lines.iter().any(|line| line["refused"].is_string()), "{era}: {lines:?}");
        assert_eq!(workflow(&server)["status"]["state"], "SUCCESS", "{era}");
    }
}

#[test]
fn a_classic_worker_that_fails_ends_its_workflow_and_retries_serve_it_again() {
    if !peers_can_run("a_classic_worker_that_fails_ends_its_workflow_and_retries_serve_it_again") {
        return;
    }
    let failing = TEMPLATE.replace(
        "            image: one:1\n",
        "            image: one:1\n            command: ['false']\n            retries: 2\n",
    );
    let (dir, server) = started(&failing);
    let (_, lines) = peer("tink_worker.py", "0.9", &server, &[&dir.path().join("worker").display().to_string()]);
    assert_eq!(runs(&lines).len(), 3, "{lines:?}");
    let status = &workflow(&server)["status"];
    assert_eq!((&status["state"], &status["tasks"][0]["actions"][0]["attempt"]), (&"FAILED".into(), &3.into()));
}

#[test]
fn agents_of_the_newer_service_get_a_workflow_to_its_end() {
    if !peers_can_run("agents_of_the_newer_service_get_a_workflow_to_its_end") {
        return;
    }
    for (era, serial) in [("0.17", "S017"), ("0.25", "S025")] {
        let spaces = "            image: two:2\n            namespaces: {network: host, pid: host}\n";
        let (_dir, server) = started(&TEMPLATE.replace("            image: two:2\n", spaces));
        // Every end told twice, as after a lost answer.
        let (code, lines) = peer("tink_agent.py", era, &server, &["--twice"]);
        let runs = runs(&lines);
        assert_eq!((runs.len(), code), (2, Some(0)), "{era}: {lines:?}");
        assert_eq!(
            (&runs[0]["timeout"], &runs[1]["pid"], &runs[1]["network"]),
            (&3600.into(), &"host".into(), &"host".into())
        );
        assert_ne!(runs[0]["id"], runs[1]["id"]);
        assert!(!lines.iter().any(|line| line["refused"].is_string() || line["left"].is_string()), "{era}: {lines:?}");
        let workflow = workflow(&server);
        assert_eq!(workflow["status"]["state"], "SUCCESS", "{era}");
        let start = workflow["status"]["tasks"][0]["actions"][0]["executionStart"].as_str().unwrap();
        assert!(start.starts_with("20"), "{era}: the year 1 is nobody's start: {start}");
        let url =
            format!("{}/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware/m1/inventory", server.url("api"));
        let what = Command::new("curl").args(["-sf", &url]).output().unwrap().stdout;
        let what: Value = text(&what).parse().unwrap();
        assert_eq!(what["chassis"]["serial"], serial, "{era}: {what}");
    }
}

#[test]
fn an_agent_of_the_newer_service_that_fails_is_on_record() {
    if !peers_can_run("an_agent_of_the_newer_service_that_fails_is_on_record") {
        return;
    }
    let failing =
        TEMPLATE.replace("            image: one:1\n", "            image: one:1\n            command: ['false']\n");
    let (_dir, server) = started(&failing);
    let (_, lines) = peer("tink_agent.py", "0.25", &server, &[]);
    assert_eq!(runs(&lines).len(), 1, "{lines:?}");
    let status = &workflow(&server)["status"];
    assert_eq!(
        (&status["state"], &status["tasks"][0]["actions"][0]["message"]),
        (&"FAILED".into(), &"action completed".into())
    );
}
