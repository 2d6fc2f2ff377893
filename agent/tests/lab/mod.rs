//! An agent with an executor, and a server in this process, for what is the same for every executor.

#![allow(dead_code)]

pub mod layout;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::workflow::{State, WorkflowAction};

use crate::common::{Server, Serving, Speaks, WORKER, action};

/// busybox, without labels.
pub const IMAGE: &str = "ironhook-test:1";
/// The same, with the word that it may be repeated.
pub const REPEATABLE: &str = "ironhook-test-repeat:safe";

/// What runs the actions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// The engine of `IRONHOOK_TEST_DOCKER`.
    Docker,
    /// `/usr/bin/crun`, by `hack/with-crun`.
    Crun,
}

pub struct Lab {
    pub kind: Kind,
    pub dir: tempfile::TempDir,
    pub server: Server,
    pub serving: Serving,
    pub agent: Option<Child>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// Whether this host can do it; a skip is always seen, around the capture of the test harness.
pub fn can(kind: Kind) -> bool {
    let why = match kind {
        Kind::Docker if std::env::var_os("IRONHOOK_TEST_DOCKER").is_none() => {
            "docker: IRONHOOK_TEST_DOCKER names no engine's socket"
        }
        Kind::Crun if !is_root() => "crun: containers without an engine need root",
        Kind::Crun if !Path::new("/usr/bin/crun").exists() => "crun: /usr/bin/crun is not there",
        _ => return true,
    };
    let _ = writeln!(std::io::stderr(), "SKIP {why}");
    false
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t"))
}

impl Lab {
    pub fn start(kind: Kind) -> Option<Self> {
        Self::start_with(kind, &[])
    }

    pub fn start_with(kind: Kind, arguments: &[&str]) -> Option<Self> {
        Self::start_in(kind, arguments, &[])
    }

    pub fn start_in(kind: Kind, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Self> {
        if !can(kind) {
            return None;
        }
        let server = Server::new();
        let serving = server.serve("127.0.0.1:0", Speaks::Both);
        let dir = tempfile::tempdir().unwrap();
        if kind == Kind::Crun {
            let images = dir.path().join("images");
            layout::add(&images, &format!("docker.io/library/{IMAGE}"), "{}");
            layout::add(&images, &format!("docker.io/library/{REPEATABLE}"), r#"{"dev.ironhook.repeat": "safe"}"#);
        }
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut lab = Self { kind, dir, server, serving, agent: None, arguments, environment };
        lab.start_agent();
        Some(lab)
    }

    /// The program with all it needs to work here.
    pub fn command(&self) -> Command {
        let mut command = self.program();
        self.options(&mut command);
        command
    }

    /// `run FILE`, to its end.
    pub fn run_file(&self, file: &Path, results: &Path) -> std::process::ExitStatus {
        let mut command = self.program();
        command.arg("run").arg(file).arg("--results").arg(results);
        self.options(&mut command);
        command.status().unwrap()
    }

    fn program(&self) -> Command {
        let mut command = match self.kind {
            Kind::Docker => Command::new(env!("CARGO_BIN_EXE_ironhook-agent")),
            Kind::Crun => {
                let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/with-crun"));
                command.arg(env!("CARGO_BIN_EXE_ironhook-agent"));
                command
            }
        };
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(self.environment.iter().cloned());
        command
    }

    fn options(&self, command: &mut Command) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let executor = if self.kind == Kind::Docker { "docker" } else { "crun" };
        command.arg(format!("--executor={executor}")).arg(format!("--images={}", path("images")));
        command.args(["--privileges=declared", "--retry-interval=200ms"]);
        if !self.arguments.iter().any(|argument| argument.starts_with("--run-dir=")) {
            command.arg(format!("--run-dir={}", path("run")));
        }
        command.arg(format!("--worker-dir={}", path("worker")));
        if let Some(socket) = std::env::var_os("IRONHOOK_TEST_DOCKER") {
            command.arg("--docker-socket").arg(socket);
        }
        command.args(&self.arguments);
    }

    pub fn start_agent(&mut self) {
        self.start_agent_on(Stdio::inherit());
    }

    /// Starts it anew with an output that takes 100 KB a second, as a good serial console does.
    pub fn restart_agent_on_a_slow_console(&mut self) {
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

    pub fn start_agent_on(&mut self, stdout: Stdio) {
        let mut agent = self.command();
        agent.arg(format!("--id={WORKER}")).arg("--tinkerbell-tls=false");
        agent.arg(format!("--tinkerbell-grpc-authority={}", self.serving.address));
        self.agent = Some(agent.stdout(stdout).spawn().unwrap());
    }

    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Asks it to end, as a machine that goes down does.
    pub fn end_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        assert!(Command::new("kill").arg(agent.id().to_string()).status().unwrap().success());
        assert!(agent.wait().unwrap().success());
    }

    /// What an action has written for the test.
    pub fn file(&self, workflow: &str, name: &str) -> PathBuf {
        self.dir.path().join("worker").join(workflow).join(name)
    }

    /// The lines that actions have written to the witness of their workflow.
    pub fn witness(&self, workflow: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(workflow, "witness")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub async fn run(&self, workflow: &str, action: WorkflowAction) -> (State, String) {
        self.server.add(workflow, vec![action]);
        let seen = self.server.wait(&format!("the end of {workflow}"), |seen| seen.end(workflow).is_some()).await;
        let end = seen.end(workflow).unwrap();
        (end.action_status(), end.message.clone())
    }

    /// What actions have left behind, once the agent had the time to take it away.
    pub async fn left(&self) -> Vec<String> {
        for _ in 0..100 {
            if self.what_is_left().await.is_empty() {
                return Vec::new();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.what_is_left().await
    }

    async fn what_is_left(&self) -> Vec<String> {
        let names = |path: PathBuf| {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path().display().to_string()).collect::<Vec<_>>()
        };
        let mut left = names(self.dir.path().join("worker/events"));
        match self.kind {
            Kind::Crun => left.extend(
                names(self.dir.path().join("run/actions")).into_iter().chain(names(self.dir.path().join("run/crun"))),
            ),
            Kind::Docker => {
                let options = bollard::query_parameters::ListContainersOptions { all: true, ..Default::default() };
                let found = engine().list_containers(Some(options)).await.unwrap();
                // Other tests use the same engine at the same time: ours are known by their mounts.
                let here = self.dir.path().display().to_string();
                let ours = found.into_iter().filter(|it| format!("{:?}", it.mounts).contains(&here));
                left.extend(ours.filter_map(|container| container.id));
            }
        }
        left
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

/// The engine of the test itself.
pub fn engine() -> bollard::Docker {
    let socket = std::env::var("IRONHOOK_TEST_DOCKER").unwrap();
    bollard::Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap()
}

/// An action of a script.
pub fn sh(script: &str) -> WorkflowAction {
    WorkflowAction { command: vec!["/bin/sh".into(), "-c".into(), script.into()], ..action("act", IMAGE) }
}

pub async fn wait_for(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), there).await.unwrap();
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..1200 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within a minute");
}
