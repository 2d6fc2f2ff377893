//! What holds for every action whatever it does (docs/actions-contract.md).
#![allow(clippy::unwrap_used)] // Also in what the tests share.

mod common;

use std::fs;
use std::io::Read;
use std::process::Stdio;

use actions::input::{COMMON, Presence};
use actions::table::ACTIONS;
use common::server::{Faults, serve};
use common::{Loop, MIB, bare, image, root, run, sha256, tool};
use spec::Event;

/// Inputs with which an action would do something to a disk.
fn inputs(action: &str, disk: &Loop, dir: &std::path::Path) -> Vec<(&'static str, String)> {
    let file = |name: &str, bytes: &[u8]| {
        fs::write(dir.join(name), bytes).unwrap();
        dir.join(name).display().to_string()
    };
    let disk_is = |name: &'static str| (name, disk.path().to_owned());
    match action {
        "disk-wipe" => vec![disk_is("DISK")],
        "image-write" => vec![
            disk_is("DEST_DISK"),
            ("IMG_URL", file("x.img", &image(8 * MIB, 512))),
            ("IMG_CHECKSUM", "none".into()),
        ],
        "disk-partition" => {
            vec![disk_is("BLOCK_DEVICE"), ("PARTITIONS", r#"[{"label":"a","size":"rest","type":"linux"}]"#.into())]
        }
        "archive-extract" => vec![
            disk_is("DEST_DISK"),
            ("ARCHIVE_URL", file("x.tar", &[0; 10240])),
            ("ARCHIVE_CHECKSUM", "none".into()),
            ("FS_TYPE", "ext4".into()),
        ],
        "file-write" => vec![disk_is("DEST_DISK"), ("DEST_PATH", "/a".into()), ("FS_TYPE", "ext4".into())],
        "boot" => vec![],
        "disk-capture" => vec![disk_is("SOURCE_DISK"), ("DEST_URL", dir.join("out.img").display().to_string())],
        other => panic!("{other} has no inputs here"),
    }
}

fn with(action: &str, pairs: &[(&'static str, String)], more: &[(&str, &str)]) -> common::Run {
    let mut env: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.extend(more);
    run(action, &env)
}

#[test]
fn a_dry_run_of_every_action_prints_a_plan_and_changes_nothing() {
    if !root("a_dry_run_of_every_action_prints_a_plan_and_changes_nothing") {
        return;
    }
    for action in ACTIONS {
        let dir = tempfile::tempdir().unwrap();
        let disk = Loop::new(16 * MIB, 512);
        if action.name == "disk-partition" {
            fs::write(&disk.path, vec![0; 16 * MIB]).unwrap();
        }
        let before = disk.bytes();
        let report = dir.path().join("report").display().to_string();
        let more = [("DRY_RUN", "true"), ("REPORT_PATH", &*report)];
        let done = with(action.name, &inputs(action.name, &disk, dir.path()), &more);
        assert!(done.ok().log.starts_with("plan: "), "{}: {done:?}", action.name);
        assert_eq!(done.events, [], "{}", action.name);
        assert!(disk.bytes() == before, "{} changed the disk", action.name);
        assert!(!dir.path().join("out.img").exists());
        let result: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        let steps = result["plan"].as_array().unwrap();
        let lines: Vec<_> = done.log.lines().filter_map(|line| line.strip_prefix("plan: ")).collect();
        assert!(!steps.is_empty() && steps.iter().all(|s| lines.contains(&s.as_str().unwrap())), "{result}");
        assert_eq!(steps.len(), lines.len(), "{}: {result}", action.name);
    }
}

#[test]
fn every_action_reports_all_its_problems_at_once() {
    for action in ACTIONS {
        let mut env = Vec::new();
        let mut bad = Vec::new();
        for input in action.inputs.iter().chain(COMMON) {
            let value = match input.presence {
                Presence::Default("true" | "false") => "perhaps",
                Presence::Default(number) if number.parse::<u32>().is_ok() => "-many",
                _ => continue,
            };
            env.push((input.name, value));
            bad.push(input.name);
        }
        env.extend([("LOG_LEVEL", "loud"), ("REPORT_PATH", "relative"), ("REPORT_URL", "ftp://h/x")]);
        bad.extend(["LOG_LEVEL", "REPORT_PATH", "REPORT_URL"]);
        let done = run(action.name, &env);
        let failure = done.failure();
        assert_eq!(failure.code, "bad_input", "{}: {failure:?}", action.name);
        for name in bad {
            assert!(failure.message.contains(&format!("{name} ")), "{}: {name}: {}", action.name, failure.message);
        }
        for input in action.inputs.iter().filter(|i| matches!(i.presence, Presence::Required)) {
            assert!(failure.message.contains(&format!("{} is required", input.name)), "{}", input.name);
        }
    }
}

#[test]
fn a_failure_is_the_last_line_the_last_event_and_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report");
    let env = [
        ("DEST_DISK", "/dev/no-such-disk"),
        ("DEST_PATH", "/a"),
        ("WAIT_DEVICE_SECONDS", "0"),
        ("REPORT_PATH", report.to_str().unwrap()),
    ];
    let done = run("writefile", &env);
    let failure = done.failure();
    assert!(done.log.trim_end().lines().last().unwrap().starts_with("failed: disk_not_found: "), "{done:?}");
    assert_eq!(done.events.iter().filter(|e| matches!(e, Event::Error(_))).count(), 1);
    let result: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(result["outcome"], "failed");
    assert_eq!(result["failure"]["message"], failure.message.as_str());
    assert_eq!(result["action"], "writefile");
}

#[test]
fn a_log_for_programs_is_json_to_its_last_line() {
    let output = bare().arg("boot").env("DRY_RUN", "1").env("LOG_FORMAT", "json").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines.last().unwrap()["outcome"], "succeeded");
    let output = bare().arg("boot").env("DRY_RUN", "1").env("LOG_LEVEL", "warn").output().unwrap();
    assert_eq!(output.stdout, b"");
}

#[test]
fn an_image_says_which_action_it_is_and_names_of_the_field_are_answered() {
    let by_image = bare().env("IRONHOOK_ACTION", "image2disk").arg("--help").output().unwrap();
    assert!(String::from_utf8(by_image.stdout).unwrap().starts_with("image-write: "));
    let unknown = bare().arg("cexec").output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stdout).unwrap().starts_with("cexec: not there yet"));
}

#[test]
fn an_archive_of_any_size_takes_little_memory() {
    if !root("an_archive_of_any_size_takes_little_memory") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::File::create(from.join("large")).unwrap().set_len(600 * MIB as u64).unwrap();
    let tar = dir.path().join("x.tar.zst");
    tool("tar", &["--zstd", "-cf", tar.to_str().unwrap(), "-C", from.to_str().unwrap(), "."]);
    let bytes = fs::read(&tar).unwrap();
    let sum = sha256(&bytes);
    let url = serve(bytes, Faults::default());
    let disk = Loop::sparse(1024 * MIB as u64);
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    let mut child = bare()
        .arg("archive-extract")
        .envs([("ARCHIVE_URL", &*url), ("ARCHIVE_CHECKSUM", &sum), ("DEST_DISK", disk.path())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut most = 0;
    let status = loop {
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(peak.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    let mut log = String::new();
    out.read_to_string(&mut log).unwrap();
    assert!(status.success(), "{log}");
    assert!(most > 0 && most < 256 << 10, "{most} KiB");
    println!("600 MiB of content, at most {} MiB of memory", most >> 10);
}
