//! The built program on a real engine: `IRONHOOK_TEST_DOCKER=<socket>` names one that has the image `ironhook-test:1`
//! (busybox with `/bin/sh`, as made by `docker import`). Containers are not privileged, so any host will do.
//! Without the variable nothing is tried, and the test says so.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Server, Serving, Speaks, WORKER, action};
use proto::workflow::{State, WorkflowAction};

const IMAGE: &str = "ironhook-test:1";

struct Lab {
    dir: tempfile::TempDir,
    server: Server,
    serving: Serving,
    socket: String,
    agent: Option<Child>,
}

impl Lab {
    fn start() -> Option<Self> {
        let Ok(socket) = std::env::var("IRONHOOK_TEST_DOCKER") else {
            // Around the capture of the test harness: a skip is always seen.
            let _ = writeln!(std::io::stderr(), "SKIP docker: IRONHOOK_TEST_DOCKER names no engine's socket");
            return None;
        };
        let server = Server::new();
        let serving = server.serve("127.0.0.1:0", Speaks::Both);
        let mut lab = Self { dir: tempfile::tempdir().unwrap(), server, serving, socket, agent: None };
        lab.start_agent();
        Some(lab)
    }

    fn start_agent(&mut self) {
        self.start_agent_on(Stdio::inherit());
    }

    /// Starts it anew with an output that takes 100 KB a second, as a good serial console does.
    fn restart_agent_on_a_slow_console(&mut self) {
        self.kill_agent();
        self.start_agent_on(Stdio::piped());
        let mut output = self.agent.as_mut().unwrap().stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 1000];
            while output.read(&mut bytes).is_ok_and(|n| n > 0) {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }

    fn start_agent_on(&mut self, stdout: Stdio) {
        let agent = Command::new(env!("CARGO_BIN_EXE_ironhook-agent"))
            .env_clear()
            .arg(format!("--id={WORKER}"))
            .arg(format!("--tinkerbell-grpc-authority={}", self.serving.address))
            .args(["--tinkerbell-tls=false", "--privileges=declared", "--retry-interval=200ms"])
            .arg(format!("--docker-socket={}", self.socket))
            .arg(format!("--run-dir={}", self.dir.path().join("run").display()))
            .arg(format!("--worker-dir={}", self.dir.path().join("worker").display()))
            .stdout(stdout)
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// How many lines an action has written to the witness of its workflow.
    fn witness(&self, workflow: &str) -> usize {
        let path = self.dir.path().join("worker").join(workflow).join("witness");
        std::fs::read_to_string(path).unwrap_or_default().lines().count()
    }

    async fn run(&self, workflow: &str, action: WorkflowAction) -> (State, String) {
        self.server.add(workflow, vec![action]);
        let seen = self.server.wait(&format!("the end of {workflow}"), |seen| seen.end(workflow).is_some()).await;
        let end = seen.end(workflow).unwrap();
        (end.action_status(), end.message.clone())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn sh(script: &str) -> WorkflowAction {
    WorkflowAction { command: vec!["/bin/sh".into(), "-c".into(), script.into()], ..action("act", IMAGE) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_end_is_told_apart() {
    let Some(lab) = Lab::start() else { return };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_takes_its_running_action_up_again_and_nothing_runs_twice() {
    let Some(mut lab) = Lab::start() else { return };
    let script = "echo x >> /workflow/witness; while ! test -e /workflow/go; do sleep 1; done";
    lab.server.add("ns/adopt", vec![sh(script)]);
    let witness = lab.dir.path().join("worker/ns/adopt/witness");
    wait_for(&witness).await;
    lab.kill_agent();
    lab.start_agent();
    std::fs::write(witness.with_file_name("go"), "").unwrap();
    let seen = lab.server.wait("its end", |seen| seen.end("ns/adopt").is_some()).await;
    assert_eq!(seen.end("ns/adopt").unwrap().action_status(), State::Success);
    assert_eq!(lab.witness("ns/adopt"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_action_is_reported_although_agent_and_server_were_away() {
    let Some(mut lab) = Lab::start() else { return };
    lab.server.add("ns/away", vec![sh("echo x >> /workflow/witness; exit 7")]);
    wait_for(&lab.dir.path().join("worker/ns/away/witness")).await;
    lab.kill_agent();
    lab.server.fail_next(&[common::Fault::Unavailable, common::Fault::AnswerLost]);
    lab.start_agent();
    let seen = lab.server.wait("its end", |seen| seen.end("ns/away").is_some()).await;
    assert!(seen.end("ns/away").unwrap().message.starts_with("exit_status: "));
    assert_eq!(lab.witness("ns/away"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_in_time_is_no_timeout_although_the_agent_comes_back_after_it() {
    let Some(mut lab) = Lab::start() else { return };
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
    assert_eq!(lab.witness("ns/lapsed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_was_cut_off_runs_again_only_if_its_image_says_so() {
    let Some(lab) = Lab::start() else { return };
    let repeatable = labelled(&lab.socket, "safe").await;
    let script = "echo x >> /workflow/witness";
    lab.server.begin("ns/cut", vec![sh(script)]);
    lab.server.begin("ns/again", vec![WorkflowAction { image: repeatable, ..sh(script) }]);
    let over = |seen: &common::Seen| seen.end("ns/cut").is_some() && seen.end("ns/again").is_some();
    let seen = lab.server.wait("both ends", over).await;
    let cut = seen.end("ns/cut").unwrap();
    assert_eq!((cut.action_status(), lab.witness("ns/cut")), (State::Failed, 0));
    assert!(cut.message.starts_with("lost: the machine restarted while it ran"), "{}", cut.message);
    assert_eq!(seen.end("ns/again").unwrap().action_status(), State::Success);
    assert_eq!(lab.witness("ns/again"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chatty_action_on_a_slow_console_keeps_the_end_of_its_log() {
    let Some(mut lab) = Lab::start() else { return };
    lab.restart_agent_on_a_slow_console();
    let end = lab.run("ns/chatty", sh("seq 1 300000; echo the very end; exit 7")).await;
    assert_eq!(end.1, "exit_status: it ended with exit status 7; its last line: the very end");
    let seen = lab.server.seen();
    let tail = &seen.details.iter().find(|detail| detail.code == "exit_status").unwrap().log_tail;
    assert!(tail.ends_with("299999\n300000\nthe very end"), "{}", &tail[tail.len().saturating_sub(100)..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_comes_after_the_success_on_record() {
    let Some(lab) = Lab::start() else { return };
    let script = r#"echo '{"v":1,"type":"handover","mode":"reboot"}' >> $IRONHOOK_EVENTS"#;
    let reboot = lab.dir.path().join("worker/reboot");
    assert_eq!(lab.run("ns/boot", sh(script)).await.0, State::Success);
    wait_for(&reboot).await;
}

/// The test's image with a word about repeating it.
async fn labelled(socket: &str, value: &str) -> String {
    use bollard::models::{ContainerConfig, ContainerCreateBody};
    use bollard::query_parameters::{CommitContainerOptions, CreateContainerOptions};
    let engine = bollard::Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
    let body = ContainerCreateBody { image: Some(IMAGE.into()), cmd: Some(vec!["true".into()]), ..Default::default() };
    let made = engine.create_container(None::<CreateContainerOptions>, body).await.unwrap();
    let tag = CommitContainerOptions {
        container: Some(made.id),
        repo: Some("ironhook-test-repeat".into()),
        tag: Some(value.into()),
        ..Default::default()
    };
    let labels = [("dev.ironhook.repeat".to_owned(), value.to_owned())].into();
    engine.commit_container(tag, ContainerConfig { labels: Some(labels), ..Default::default() }).await.unwrap();
    format!("ironhook-test-repeat:{value}")
}

async fn wait_for(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), there).await.unwrap();
}
