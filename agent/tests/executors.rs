//! The built program with each executor: every case runs through docker and through crun. The engine's socket is named by
//! `IRONHOOK_TEST_DOCKER` (hack/with-dockerd); crun is Debian's. Without them nothing is tried, and the test says so.
//! Containers are not privileged, so any host will do; what needs cgroup v2 runs in the guest lab.

#![allow(clippy::unwrap_used)]

mod common;
mod lab;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use common::Seen;
use lab::{IMAGE, Kind, Lab, REPEATABLE, engine, sh, wait_for};
use proto::workflow::{State, WorkflowAction};

/// A case of both executors.
macro_rules! cases {
    ($($case:ident,)*) => {
        mod docker { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case(super::Kind::Docker).await; })* }
        mod crun { $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case(super::Kind::Crun).await; })* }
    };
}

cases! {
    every_way_to_end_is_told_apart,
    a_killed_agent_takes_its_running_action_up_again_and_nothing_runs_twice,
    the_end_of_an_action_is_reported_although_agent_and_server_were_away,
    what_ended_in_time_is_no_timeout_although_the_agent_comes_back_after_it,
    an_action_that_was_cut_off_runs_again_only_if_its_image_says_so,
    a_chatty_action_on_a_slow_console_keeps_the_end_of_its_log,
    a_handover_comes_after_the_success_on_record,
    ten_thousand_lines_arrive_complete_and_in_order_per_stream,
    nothing_is_left_behind_by_any_end,
    an_unprivileged_action_has_only_what_its_image_declares,
    a_bad_volume_is_told_as_such,
    a_cancel_ends_an_action_that_does_not_want_to,
}

async fn every_way_to_end_is_told_apart(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    let event = r#"echo '{"v":1,"type":"error","code":"disk_busy","message":"mounted"}' >> $IRONHOOK_EVENTS; exit 3"#;
    let progress = r#"echo '{"v":1,"type":"progress","done":5,"total":9}' >> $IRONHOOK_EVENTS; sleep 1"#;
    // The first process of a container is deaf to its own signals, so a child is ended, as shells tell it on.
    let signal = "sh -c 'kill -9 $$'; exit $?";
    let cases = [
        ("ns/ok", sh(progress), State::Success, "finished execution"),
        (
            "ns/seven",
            sh("echo out; echo last words >&2; exit 7"),
            State::Failed,
            "exit_status: it ended with exit status 7",
        ),
        ("ns/told", sh(event), State::Failed, "disk_busy: mounted"),
        ("ns/signal", sh(signal), State::Failed, "signal: it was ended by signal 9"),
        (
            "ns/absent",
            WorkflowAction { command: vec!["/absent".into()], ..sh("") },
            State::Failed,
            "start: the container",
        ),
        ("ns/long", WorkflowAction { timeout: 1, ..sh("sleep 60") }, State::Timeout, "timeout: it ran longer"),
        ("ns/image", WorkflowAction { image: "Not A Ref".into(), ..sh("") }, State::Failed, "image_not_found: "),
        (
            "ns/env",
            WorkflowAction { environment: vec!["MODE=0644".into()], ..sh("test \"$MODE\" = 0644") },
            State::Success,
            "",
        ),
    ];
    for (workflow, action, state, message) in cases {
        let end = lab.run(workflow, action).await;
        assert!(end.0 == state && end.1.starts_with(message), "{workflow}: {end:?}");
    }
    let seen = lab.server.seen();
    assert_eq!(seen.progress.iter().filter(|progress| progress.done == 5).count(), 1);
    let detail = seen.details.iter().find(|detail| detail.action.as_ref().unwrap().workflow_id == "ns/seven").unwrap();
    assert!(detail.log_tail.contains("out") && detail.log_tail.contains("last words") && detail.exit_status == Some(7));
    let told = seen.details.iter().find(|detail| detail.code == "disk_busy").unwrap();
    assert_eq!(told.exit_status, Some(3));
}

async fn a_killed_agent_takes_its_running_action_up_again_and_nothing_runs_twice(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    let script = "echo x >> /workflow/witness; while ! test -e /workflow/go; do sleep 1; done";
    lab.server.add("ns/adopt", vec![sh(script)]);
    let witness = lab.dir.path().join("worker/ns/adopt/witness");
    wait_for(&witness).await;
    lab.kill_agent();
    lab.start_agent();
    std::fs::write(witness.with_file_name("go"), "").unwrap();
    let seen = lab.server.wait("its end", |seen| seen.end("ns/adopt").is_some()).await;
    assert_eq!(seen.end("ns/adopt").unwrap().action_status(), State::Success);
    assert_eq!(lab.witness("ns/adopt").len(), 1);
}

async fn the_end_of_an_action_is_reported_although_agent_and_server_were_away(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    lab.server.add("ns/away", vec![sh("echo x >> /workflow/witness; exit 7")]);
    wait_for(&lab.dir.path().join("worker/ns/away/witness")).await;
    lab.kill_agent();
    lab.server.fail_next(&[common::Fault::Unavailable, common::Fault::AnswerLost]);
    lab.start_agent();
    let seen = lab.server.wait("its end", |seen| seen.end("ns/away").is_some()).await;
    assert!(seen.end("ns/away").unwrap().message.starts_with("exit_status: "));
    assert_eq!(lab.witness("ns/away").len(), 1);
}

async fn what_ended_in_time_is_no_timeout_although_the_agent_comes_back_after_it(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    let script = "echo x >> /workflow/witness; while ! test -e /workflow/go; do sleep 0.1; done";
    lab.server.add("ns/lapsed", vec![WorkflowAction { timeout: 4, ..sh(script) }]);
    let witness = lab.dir.path().join("worker/ns/lapsed/witness");
    wait_for(&witness).await;
    lab.kill_agent();
    std::fs::write(witness.with_file_name("go"), "").unwrap();
    // Nothing to wait for but the time itself.
    tokio::time::sleep(Duration::from_secs(5)).await;
    lab.start_agent();
    let seen = lab.server.wait("its end", |seen| seen.end("ns/lapsed").is_some()).await;
    assert_eq!(seen.end("ns/lapsed").unwrap().action_status(), State::Success);
    assert_eq!(lab.witness("ns/lapsed").len(), 1);
}

async fn an_action_that_was_cut_off_runs_again_only_if_its_image_says_so(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    if kind == Kind::Docker {
        repeatable().await;
    }
    let script = "echo x >> /workflow/witness";
    lab.server.begin("ns/cut", vec![sh(script)]);
    lab.server.begin("ns/again", vec![WorkflowAction { image: REPEATABLE.into(), ..sh(script) }]);
    let over = |seen: &Seen| seen.end("ns/cut").is_some() && seen.end("ns/again").is_some();
    let seen = lab.server.wait("both ends", over).await;
    let cut = seen.end("ns/cut").unwrap();
    assert_eq!((cut.action_status(), lab.witness("ns/cut").len()), (State::Failed, 0));
    assert!(cut.message.starts_with("lost: the machine restarted while it ran"), "{}", cut.message);
    assert_eq!(seen.end("ns/again").unwrap().action_status(), State::Success);
    assert_eq!(lab.witness("ns/again").len(), 1);
}

async fn a_chatty_action_on_a_slow_console_keeps_the_end_of_its_log(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    lab.restart_agent_on_a_slow_console();
    let end = lab.run("ns/chatty", sh("seq 1 300000; echo the very end; exit 7")).await;
    assert_eq!(end.1, "exit_status: it ended with exit status 7; its last line: the very end");
    let seen = lab.server.seen();
    let tail = &seen.details.iter().find(|detail| detail.code == "exit_status").unwrap().log_tail;
    assert!(tail.ends_with("299999\n300000\nthe very end"), "{}", &tail[tail.len().saturating_sub(100)..]);
}

async fn a_handover_comes_after_the_success_on_record(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    let script = r#"echo '{"v":1,"type":"handover","mode":"reboot"}' >> $IRONHOOK_EVENTS"#;
    let reboot = lab.dir.path().join("worker/reboot");
    assert_eq!(lab.run("ns/boot", sh(script)).await.0, State::Success);
    wait_for(&reboot).await;
}

/// Each stream has its own order; both are whole.
async fn ten_thousand_lines_arrive_complete_and_in_order_per_stream(kind: Kind) {
    let Some(mut lab) = Lab::start(kind) else { return };
    lab.kill_agent();
    lab.start_agent_on(Stdio::piped());
    let output = BufReader::new(lab.agent.as_mut().unwrap().stdout.take().unwrap());
    let lines = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
    let script = "i=0; while [ $i -lt 10000 ]; do echo out-$i; echo err-$i >&2; i=$((i+1)); done";
    assert_eq!(lab.run("ns/lines", sh(script)).await.0, State::Success);
    assert_eq!(lab.left().await, Vec::<String>::new());
    lab.end_agent();
    let lines = lines.join().unwrap();
    for stream in ["out", "err"] {
        let prefix = format!("act: {stream}-");
        let got: Vec<usize> = lines.iter().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(got.iter().copied().eq(0..10_000), "{stream}: {} lines on the console", got.len());
        let prefix = format!("{stream}-");
        let sent: Vec<usize> =
            lab.server.seen().log.iter().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(sent.iter().copied().eq(0..10_000), "{stream}: {} lines at the server", sent.len());
    }
}

/// What it was, what it left: nothing.
async fn nothing_is_left_behind_by_any_end(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    for (i, script) in ["exit 0", "exit 7", "sleep 60"].into_iter().enumerate() {
        lab.run(&format!("ns/end{i}"), WorkflowAction { timeout: if i == 2 { 1 } else { 60 }, ..sh(script) }).await;
    }
    lab.run("ns/absent", WorkflowAction { command: vec!["/absent".into()], ..sh("") }).await;
    assert_eq!(lab.left().await, Vec::<String>::new());
}

async fn an_unprivileged_action_has_only_what_its_image_declares(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    let script = "cat /proc/self/status > /workflow/status; ls /dev > /workflow/dev; echo 1 > /proc/sys/kernel/hostname && exit 9; mkdir /x && exit 0";
    assert_eq!(lab.run("ns/caps", sh(script)).await.0, State::Success);
    let text = std::fs::read_to_string(lab.file("ns/caps", "status")).unwrap();
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!((line("CapEff:").as_str(), line("Seccomp:").as_str()), ("00000000a80425fb", "2"));
    let dev = std::fs::read_to_string(lab.file("ns/caps", "dev")).unwrap();
    assert!(dev.contains("null") && !dev.contains("mem") && !dev.contains("kmsg"), "{dev}");
}

async fn a_bad_volume_is_told_as_such(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    let action = WorkflowAction { volumes: vec!["/proc/sys/none/such:/x".into()], ..sh("true") };
    let end = lab.run("ns/mount", action).await;
    assert!(end.0 == State::Failed && end.1.starts_with("bad_mount: ") && end.1.contains("/proc/sys/none"), "{end:?}");
}

/// Asked first, killed five seconds later.
async fn a_cancel_ends_an_action_that_does_not_want_to(kind: Kind) {
    let Some(lab) = Lab::start(kind) else { return };
    lab.server.add("ns/deaf", vec![sh("trap '' TERM; echo x >> /workflow/witness; sleep 600; sleep 600")]);
    wait_for(&lab.file("ns/deaf", "witness")).await;
    let begun = std::time::Instant::now();
    lab.server.cancel("by the operator");
    let seen = lab.server.wait("its end", |seen| seen.end("ns/deaf").is_some()).await;
    let end = seen.end("ns/deaf").unwrap();
    assert_eq!(end.message, "cancelled: it was stopped: by the operator");
    eprintln!("{kind:?}: ended {:?} after the cancel", begun.elapsed());
    // 10 s are promised; a busy machine gets four times that.
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(lab.left().await, Vec::<String>::new());
}

/// The test's image with a word about repeating it, in the engine.
async fn repeatable() {
    use bollard::models::{ContainerConfig, ContainerCreateBody};
    use bollard::query_parameters::{CommitContainerOptions, CreateContainerOptions, RemoveContainerOptions};
    let body = ContainerCreateBody { image: Some(IMAGE.into()), cmd: Some(vec!["true".into()]), ..Default::default() };
    let made = engine().create_container(None::<CreateContainerOptions>, body).await.unwrap();
    let (repo, tag) = REPEATABLE.split_once(':').unwrap();
    let options = CommitContainerOptions {
        container: Some(made.id.clone()),
        repo: Some(repo.into()),
        tag: Some(tag.into()),
        ..Default::default()
    };
    let labels = [("dev.ironhook.repeat".to_owned(), "safe".to_owned())].into();
    engine().commit_container(options, ContainerConfig { labels: Some(labels), ..Default::default() }).await.unwrap();
    engine().remove_container(&made.id, None::<RemoveContainerOptions>).await.unwrap();
}
