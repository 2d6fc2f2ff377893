//! Server, operator's command line and agent, as built, without a machine: failures as data, cancel, a workflow applied
//! again under its name, retries, what runs in the background, progress and logs. Actions run by the executor of tests.

#![allow(clippy::unwrap_used)]

mod site;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use site::{PATIENCE, Site, WORKER, program, sh};

#[test]
fn nine_failures_are_nine_codes_and_sentences() {
    let site = Site::start();
    let told = |code: &str, words: &str| {
        format!(r#"echo '{{"v":1,"type":"error","code":"{code}","message":"{words}"}}' >> $IRONHOOK_EVENTS; exit 1"#)
    };
    let cases = [
        (
            "f1",
            sh("a", "echo last words >&2; exit 7"),
            "exit_status",
            "it ended with exit status 7; its last line: last words",
        ),
        ("f2", sh("a", "kill -9 $$"), "signal", "it was ended by signal 9"),
        ("f3", sh("a", "sleep 60") + "  timeout: 1\n", "timeout", "it ran longer than its timeout of 1 s"),
        ("f4", sh("a", "true").replace("stock", "missing"), "image_not_found", "there is no image \"missing\""),
        ("f5", sh("a", "kill -9 $PPID; sleep 60"), "lost", "vanished before its exit status was known"),
        ("f6", sh("a", &told("disk_busy", "/dev/sda is mounted")), "disk_busy", "/dev/sda is mounted"),
        ("f7", sh("a", &told("truncated", "1 of 4 bytes")), "truncated", "1 of 4 bytes"),
        ("f8", sh("a", &told("digest_mismatch", "expected 00")), "digest_mismatch", "expected 00"),
        ("f9", sh("a", "sleep 60"), "cancelled", "wrong rack"),
    ];
    let mut codes = std::collections::BTreeSet::new();
    for (name, actions, code, sentence) in cases {
        site.apply(name, &actions);
        if code == "cancelled" {
            site.wait(name, "the start", |status| status["state"] == "RUNNING");
            site.said(&["cancel", name, "--reason", "wrong rack"]);
        }
        let status = site.ended(name);
        let failure = &status["tasks"][0]["actions"][0]["failure"];
        assert_eq!(failure["code"], code, "{status:#}");
        let shown = site.said(&["get", "workflow", name]);
        assert!(shown.contains(&format!("Code:    {code}\n")) && shown.contains(sentence), "{shown}");
        codes.insert(failure["message"].to_string());
    }
    assert_eq!(codes.len(), 9);
    assert!(site.said(&["get", "workflow", "f1"]).contains("Exit:    7"));
}

#[test]
fn cancel_stops_what_runs_within_ten_seconds_and_begins_nothing_more() {
    let site = Site::start();
    let pid = site.path("pid").display().to_string();
    let next = site.path("next").display().to_string();
    site.apply("w", &(sh("long", &format!("echo $$ > {pid}; exec sleep 600")) + &sh("next", &format!("touch {next}"))));
    site.wait("w", "the start", |status| status["tasks"][0]["actions"][0]["state"] == "RUNNING");
    site.wait_for_file("pid");
    let start = Instant::now();
    assert_eq!(site.said(&["cancel", "w", "--reason", "wrong rack"]), "workflow default/w cancelled\n");
    while site.alive("pid") {
        assert!(start.elapsed() < Duration::from_secs(10), "still running after 10 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = site.ended("w");
    assert_eq!(
        (&status["state"], &status["tasks"][0]["actions"][1]["state"]),
        (&"CANCELLED".into(), &"PENDING".into())
    );
    assert!(site.said(&["cancel", "w"]).contains("had ended: CANCELLED"));
    assert_eq!(site.cli(&["watch", "w"]).status.code(), Some(1));
    // The agent is free for the next one.
    site.apply("after", &sh("a", "true"));
    assert_eq!(site.ended("after")["state"], "SUCCESS");
    assert!(!site.path("next").exists());
}

#[test]
fn a_workflow_applied_again_under_its_name_has_a_run_of_its_own() {
    let site = Site::start();
    let (count, gate) = (site.path("count").display().to_string(), site.path("gate").display().to_string());
    let actions =
        sh("a", &format!("echo begun >> {count}; while ! test -e {gate}; do sleep 0.05; done; echo ended >> {count}"));
    site.apply("w", &actions);
    site.wait_for_file("count");
    let mut watch = Command::new(program("ironhook"))
        .args(["watch", "w", "--all"])
        .env("IRONHOOK_SERVER", &site.api)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut watched = BufReader::new(watch.stdout.take().unwrap());
    watched.read_line(&mut String::new()).unwrap();
    // Without the agent, so that its report comes when the workflow is another one.
    let mut agent = site_agent_stopped(&site);
    site.said(&["delete", "workflow", "w"]);
    site.apply("w", &actions);
    fs::write(site.path("gate"), "").unwrap();
    let start = Instant::now();
    while site.lines("count") < 2 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.resume();
    assert_eq!(site.ended("w")["state"], "SUCCESS");
    assert_eq!(fs::read_to_string(site.path("count")).unwrap(), "begun\nended\nbegun\nended\n");
    let code = watch.wait().unwrap().code();
    assert_eq!(code, Some(1), "watch has seen that its workflow was deleted");
}

/// The agent, frozen.
struct Stopped(u32);

impl Stopped {
    fn resume(&mut self) {
        assert!(Command::new("kill").args(["-CONT", &self.0.to_string()]).status().unwrap().success());
    }
}

fn site_agent_stopped(site: &Site) -> Stopped {
    let pid = site.agent(WORKER);
    assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
    Stopped(pid)
}

#[test]
fn retries_conditions_and_what_runs_in_the_background() {
    let site = Site::start();
    let tries = site.path("tries").display().to_string();
    let pid = site.path("pid").display().to_string();
    let beside = sh("beside", &format!("echo $$ > {pid}; exec sleep 600")) + "  background: true\n";
    let left_out = sh("left-out", "exit 9") + "  if: false\n";
    let flaky = sh("flaky", &format!("echo x >> {tries}; test $(wc -l < {tries}) -ge 3"))
        + "  retries: 2\n  timeoutSeconds: 30\n";
    let seen = sh("seen", &format!("kill -0 $(cat {pid})"));
    site.apply("w", &format!("{beside}{left_out}{flaky}{seen}"));
    let status = site.ended("w");
    assert_eq!(status["state"], "SUCCESS", "{status:#}");
    assert_eq!(site.lines("tries"), 3);
    let actions = &status["tasks"][0]["actions"];
    assert_eq!((&actions[2]["attempt"], &actions[2]["timeout"]), (&3.into(), &30.into()));
    assert_eq!(actions[1]["message"], "left out, its condition is false");
    let start = Instant::now();
    while site.alive("pid") {
        assert!(start.elapsed() < PATIENCE, "what ran in the background has outlived its workflow");
        std::thread::sleep(Duration::from_millis(20));
    }
    site.apply("hopeless", &(sh("a", "exit 4") + "  retries: 1\n"));
    let status = site.ended("hopeless");
    assert_eq!((&status["state"], &status["tasks"][0]["actions"][0]["attempt"]), (&"FAILED".into(), &2.into()));
}

#[test]
fn progress_and_logs_are_seen_while_it_runs_and_after() {
    let site = Site::start();
    let gate = site.path("gate").display().to_string();
    let event = r#"{"v":1,"type":"progress","done":5,"total":9,"unit":"bytes"}"#;
    let script = format!(
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; echo '{event}' >> $IRONHOOK_EVENTS; \
         while ! test -e {gate}; do sleep 0.05; done; echo the end; exit 5"
    );
    site.apply("w", &sh("a", &script));
    let status = site.wait("w", "the progress", |status| status["tasks"][0]["actions"][0]["progress"]["done"] == 5);
    assert_eq!(status["tasks"][0]["actions"][0]["progress"]["total"], 9);
    let start = Instant::now();
    while !String::from_utf8(site.cli(&["logs", "w"]).stdout).unwrap().contains("line 299\n") {
        assert!(start.elapsed() < PATIENCE, "the log of a running action is not seen");
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::write(site.path("gate"), "").unwrap();
    let status = site.ended("w");
    let tail = status["tasks"][0]["actions"][0]["failure"]["logTail"].as_str().unwrap();
    assert!(tail.lines().count() == 20 && tail.len() <= 4096 && tail.ends_with("the end"), "{tail}");
    let full = site.said(&["logs", "w", "os/a"]);
    assert!(full.starts_with("line 0\n") && full.ends_with("the end\n"), "{} bytes", full.len());
    assert!(status["tasks"][0]["actions"][0]["progress"].is_null(), "an action that has ended is not under way");
}
