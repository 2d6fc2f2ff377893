//! `bootkit cmdline`, `bootkit engine` and `bootkit worker` as programs: what they print, start and pass on.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use lab::{Lab, eventually, lab};
use spec::phase::Phase;

/// A program for bootkit to start, beside the test's other files.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The engine writes below `/etc` and `/var/lib`, which the machine shares with its host.
fn for_the_engine(test: &str, cmdline: &str) -> Option<Lab> {
    let lab = lab(test, cmdline)?;
    lab.machine_does("mount -t tmpfs tmpfs /etc; mount -t tmpfs tmpfs /var/lib");
    Some(lab)
}

#[test]
fn a_good_command_line_is_described_without_its_secrets() {
    let line = "quiet console=ttyS0 grpc_authority=10.0.0.1:42113 registry_password=hunter2 facility=a facility=b";
    let Some(lab) = lab("a_good_command_line_is_described_without_its_secrets", line) else { return };
    let (status, output) = lab.bootkit(&["cmdline"]).end();
    assert!(status.success(), "{output}");
    assert!(output.contains("ironhook: command line: 4 keys known, 2 others"), "{output}");
    assert!(output.contains("grpc_authority=10.0.0.1:42113") && !output.contains("hunter2"), "{output}");
    assert!(output.contains("command line: facility: given more than once"), "{output}");
}

#[test]
fn all_problems_are_told_before_the_boot_fails() {
    let line = "grpc_authority=tink hw_addr=1 vlan_id=7 syslog_port=x";
    let Some(lab) = lab("all_problems_are_told_before_the_boot_fails", line) else { return };
    let (status, output) = lab.bootkit(&["cmdline"]).end();
    assert_eq!(status.code(), Some(1), "{output}");
    for key in ["ERROR: grpc_authority: ", "ERROR: hw_addr: ", "ERROR: vlan_id: ", "command line: syslog_port: "] {
        assert!(output.contains(key), "{key} in:\n{output}");
    }
    assert!(output.contains("ironhook: cmdline failed [bad_config]: 3 of the problems above"), "{output}");
}

#[test]
fn a_line_that_the_kernel_has_cut_fails() {
    let Some(lab) = lab("a_line_that_the_kernel_has_cut_fails", &"x".repeat(2046)) else { return };
    let (status, output) = lab.bootkit(&["cmdline"]).end();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("2046 bytes long: loader and kernel keep 2046 or one more and have cut the rest off"),
        "{output}"
    );
}

#[test]
fn an_image_without_dockerd_is_said_to_be_incomplete() {
    let Some(lab) = for_the_engine("an_image_without_dockerd_is_said_to_be_incomplete", "quiet") else { return };
    let (status, output) = lab.bootkit(&["engine", "--dockerd", "/nowhere/dockerd"]).end();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.starts_with("ironhook: engine failed [engine_missing]: no dockerd at /nowhere/dockerd"), "{output}");
}

#[test]
fn an_engine_that_ends_early_is_explained_by_its_last_lines() {
    let Some(lab) = for_the_engine("an_engine_that_ends_early_is_explained_by_its_last_lines", "quiet") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "for i in $(seq 1 70); do echo said-$i >&2; done; exit 3");
    let (status, output) = lab.bootkit(&["engine", "--dockerd", path.to_str().unwrap()]).end();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("engine failed [engine]: dockerd ended before it was ready (exit status: 3)"), "{output}");
    // Both streams come mixed: what the error repeats is indented, what was passed on is not.
    let repeated: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("  said-")).collect();
    assert_eq!(repeated, (21..=70).map(|number| number.to_string()).collect::<Vec<_>>(), "{output}");
}

#[test]
fn an_engine_is_configured_found_ready_and_ended() {
    let line = "insecure_registries=10.0.0.1:5000 HTTP_PROXY=http://bob:hunter2@proxy:3128";
    let Some(lab) = for_the_engine("an_engine_is_configured_found_ready_and_ended", line) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "echo started $* $HTTP_PROXY; exec sleep 600");
    let engine = lab.bootkit(&["engine", "--dockerd", path.to_str().unwrap()]);
    let started = engine.expect("started");
    assert_eq!(started, "started --config-file /etc/docker/daemon.json http://bob:hunter2@proxy:3128");
    let config = lab.text("/etc/docker/daemon.json");
    assert!(config.contains("10.0.0.1:5000") && !config.contains("hunter2"), "{config}");
    assert_eq!(fs::metadata(lab.path("/etc/docker/daemon.json")).unwrap().permissions().mode() & 0o777, 0o600);

    let listener = UnixListener::bind(lab.path("/run/docker.sock")).unwrap();
    for (answer, ready) in [("HTTP/1.0 503 Not yet\r\n\r\n", false), ("HTTP/1.0 200 OK\r\n\r\nOK", true)] {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /_ping HTTP/1.0\r\n"));
        assert_eq!(lab.text("/run/ironhook/timeline.jsonl"), "", "ready too early");
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);
        if ready {
            engine.expect("ironhook: engine ready ... ");
        }
    }
    // The line is printed first, then written.
    eventually("the phase is in the timeline", || {
        let phases = Phase::parse_lines(&lab.text("/run/ironhook/timeline.jsonl"));
        phases.iter().map(|phase| phase.name.as_str()).eq(["engine"])
    });
    engine.terminate();
    let (status, output) = engine.end();
    assert!(status.success(), "{output}");
}

#[test]
fn the_engine_does_not_outlive_bootkit() {
    let Some(lab) = for_the_engine("the_engine_does_not_outlive_bootkit", "quiet") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "echo pid $$; exec sleep 600");
    let engine = lab.bootkit(&["engine", "--dockerd", path.to_str().unwrap()]);
    let pid = engine.expect("pid ").replace("pid ", "");
    drop(engine);
    // Gone, or a zombie that nobody has collected yet.
    eventually("dockerd is gone", || match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    });
}

#[test]
fn the_worker_waits_for_the_lease_and_becomes_the_agent() {
    let line = "grpc_authority=10.0.0.1:42113 tinkerbell_tls=false registry_password=hunter2";
    let Some(lab) = lab("the_worker_waits_for_the_lease_and_becomes_the_agent", line) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "echo pid $$; tr '\\0' ' ' < /proc/$$/cmdline; echo; env; echo over");
    let worker = lab.bootkit(&["worker", "--agent", path.to_str().unwrap()]);
    worker.expect("ironhook: worker: waiting for the network (/run/ironhook/lease.json)");
    let lease = r#"{"interface":"eth0","mac":"02:00:00:00:00:09","address":"10.0.0.9","prefix":24,"server":"10.0.0.1","seconds":60}"#;
    fs::write(lab.path("/run/ironhook/lease.new"), lease).unwrap();
    fs::rename(lab.path("/run/ironhook/lease.new"), lab.path("/run/ironhook/lease.json")).unwrap();
    let said = worker.until("over");
    assert!(said[1].contains("--docker-socket /run/docker/docker.sock") && !said[1].contains("hunter2"), "{said:?}");
    for variable in [
        "TINKERBELL_GRPC_AUTHORITY=10.0.0.1:42113",
        "TINKERBELL_TLS=false",
        "TINKERBELL_INSECURE_TLS=false",
        "WORKER_ID=02:00:00:00:00:09",
        "ID=02:00:00:00:00:09",
        "REGISTRY_PASSWORD=hunter2",
    ] {
        assert!(said.iter().any(|line| line == variable), "{variable} in {said:?}");
    }
}

#[test]
fn a_worker_without_a_server_says_so_at_once() {
    let Some(lab) = lab("a_worker_without_a_server_says_so_at_once", "quiet") else { return };
    let (status, output) = lab.bootkit(&["worker"]).end();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.starts_with("ironhook: worker failed [no_server]: no server to work for: grpc_authority"),
        "{output}"
    );
}

#[test]
fn services_end_when_asked_also_as_the_first_process_of_their_namespace() {
    let test = "services_end_when_asked_also_as_the_first_process_of_their_namespace";
    let Some(lab) = lab(test, "grpc_authority=10.0.0.1:42113") else { return };
    for (service, says) in [("network", "waiting for an Ethernet interface"), ("worker", "waiting for the network")] {
        let mut command = lab.on_machine("unshare");
        command.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_bootkit"), service]);
        let running = lab::Running::start(command);
        running.expect(says);
        running.terminate_child();
        let (status, output) = running.end();
        assert_eq!(status.code(), Some(128 + 15), "{service}: {output}");
    }
}
