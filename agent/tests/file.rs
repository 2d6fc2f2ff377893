//! `ironhook-agent run FILE` and `ironhook-agent inventory`: the built program, without a server.

#![allow(clippy::unwrap_used)]

mod common;
mod lab;

use std::process::{Command, Stdio};

use lab::{IMAGE, Kind, Lab};
use serde_json::Value;

const WORKFLOW: &str = r#"
name: from a file
tasks:
  - name: os
    worker: local
    environment: {MODE: "0644"}
    actions:
      - {name: first, image: IMAGE, command: [/bin/sh, -c, "echo $MODE > /workflow/witness"]}
      - {name: flaky, image: IMAGE, command: [/bin/sh, -c, "test -e /workflow/tried && exit 0; echo > /workflow/tried; exit 1"], retries: 1}
      - {name: fails, image: IMAGE, command: [/bin/sh, -c, "echo why; exit 7"], on-failure: [/bin/sh, -c, "echo reaction >> /workflow/witness"]}
      - {name: never, image: IMAGE, command: [/bin/sh, -c, "echo never >> /workflow/witness"]}
"#;

async fn a_workflow_is_run_from_a_file(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    lab.kill_agent();
    let file = lab.dir.path().join("workflow.yaml");
    let results = lab.dir.path().join("results.json");
    std::fs::write(&file, WORKFLOW.replace("IMAGE", IMAGE)).unwrap();
    let status = lab.run_file(&file, &results);
    assert_eq!(status.code(), Some(1));
    let found: Value = serde_json::from_slice(&std::fs::read(&results).unwrap()).unwrap();
    assert_eq!((&found["workflow"], &found["state"]), (&Value::from("local/from_a_file"), &Value::from("FAILED")));
    let of = |key: &str| found["actions"].as_array().unwrap().iter().map(|it| it[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("state"), ["SUCCESS", "SUCCESS", "FAILED"]);
    assert_eq!(of("tries"), [1, 2, 1]);
    let failure = &found["actions"][2]["failure"];
    assert_eq!((&failure["code"], &failure["exitStatus"]), (&Value::from("exit_status"), &Value::from(7)));
    assert_eq!(lab.witness("local/from_a_file"), ["0644", "reaction"]);
    assert_eq!(lab.left().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_a_workflow_is_run_from_a_file_without_a_server() {
    a_workflow_is_run_from_a_file(Kind::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crun_a_workflow_is_run_from_a_file_without_a_server() {
    a_workflow_is_run_from_a_file(Kind::Crun).await;
}

#[test]
fn a_file_that_cannot_be_run_is_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.yaml");
    std::fs::write(&file, "tasks:\n- name: t\n  actions:\n  - {name: a, image: '{{ .image }}'}\n").unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_ironhook-agent"));
    let output = agent.arg("run").arg(&file).arg("--run-dir").arg(dir.path().join("run")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("w.yaml") && said.contains("line 4"), "{said}");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn the_inventory_of_this_machine_is_printed_and_no_disk_is_opened() {
    let mut agent = Command::new(env!("CARGO_BIN_EXE_ironhook-agent"));
    let output = agent.arg("inventory").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["cpu"]["totalThreads"].as_u64().unwrap() > 0);
    let usable = found["memory"]["usable"].as_str().unwrap();
    assert!(usable.ends_with('B'), "{usable}");
    let here = std::fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let disks = here.filter(|name| ["nvme", "sd", "vd"].iter().any(|prefix| name.starts_with(prefix))).count();
    assert!(found["block"].as_array().unwrap().len() >= disks, "{found}");
}
