//! Server, operator's command line and agents as built, without a machine, for the tests that need no more. Actions run by
//! the executor of tests; whatever is left of them ends with the site.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;

pub const WORKER: &str = "52:54:00:12:34:01";
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().unwrap();
    beside.parent().unwrap().parent().unwrap().join(name)
}

/// A server, its agents, and a directory for all.
pub struct Site {
    pub dir: tempfile::TempDir,
    server: Option<Child>,
    agents: HashMap<String, Child>,
    pub api: String,
    grpc: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.agents.values_mut().chain(&mut self.server) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let runs = fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        for entry in runs.flat_map(|run| fs::read_dir(run.path().join("process"))).flatten().flatten() {
            if let Ok(pid) = fs::read_to_string(entry.path().join("started/pid")) {
                let _ = Command::new("kill").args(["-9", "--", &format!("-{}", pid.trim())]).output();
            }
        }
    }
}

impl Site {
    /// With the agent of one machine.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["state", "artifacts", "loaders", "files"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let any = || "127.0.0.1:0".to_owned();
        let mut site = Self { dir, server: None, agents: HashMap::new(), api: any(), grpc: any() };
        site.start_server();
        site.start_agent(WORKER);
        site
    }

    /// At the addresses that it had before, if it had any.
    pub fn start_server(&mut self) {
        let at = self.dir.path().display();
        let (api, grpc) = (self.api.trim_start_matches("http://"), &self.grpc);
        let config = format!(
            "address: 127.0.0.1\nstate: {at}/state\nartifacts: {at}/artifacts\nloaders: {at}/loaders\nfiles: {at}/files\n\
             dhcp: off\ntftp: off\nmetadata: off\nhttp: {{listen: 127.0.0.1:0}}\ngrpc: {{listen: {grpc}}}\napi: {{listen: {api}}}\n"
        );
        fs::write(self.path("serve.yaml"), config).unwrap();
        let mut server = Command::new(program("ironhook"))
            .args(["serve", "--config"])
            .arg(self.path("serve.yaml"))
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let log = BufReader::new(server.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                eprintln!("server: {line}");
                let word =
                    |key: &str| Some(line.split(key).nth(1)?.split_whitespace().next()?.trim_matches('"').to_owned());
                if let (true, Some(service), Some(address)) =
                    (line.contains("listening"), word("service="), word("address="))
                {
                    let _ = sender.send((service, address));
                }
            }
        });
        self.server = Some(server);
        let mut addresses = HashMap::new();
        while !(addresses.contains_key("api") && addresses.contains_key("grpc")) {
            let (service, address) = lines.recv_timeout(PATIENCE).unwrap();
            addresses.insert(service, address);
        }
        (self.api, self.grpc) = (format!("http://{}", addresses["api"]), addresses["grpc"].clone());
    }

    /// As `kill -9` does it.
    pub fn kill_server(&mut self) {
        end(self.server.take());
    }

    /// Of one machine, with directories of its own.
    pub fn start_agent(&mut self, worker: &str) {
        let own = worker.replace(':', "");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("agents.log")).unwrap();
        let agent = Command::new(program("ironhook-agent"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("WORKER_ID", worker)
            .env("TINKERBELL_GRPC_AUTHORITY", &self.grpc)
            .env("TINKERBELL_TLS", "false")
            .args(["--executor=process", "--retry-interval=200ms"])
            .arg(format!("--run-dir={}", self.path(&format!("run-{own}")).display()))
            .arg(format!("--worker-dir={}", self.path(&format!("worker-{own}")).display()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agents.insert(worker.to_owned(), agent);
    }

    /// As `kill -9` does it.
    pub fn kill_agent(&mut self, worker: &str) {
        end(self.agents.remove(worker));
    }

    /// The process of an agent.
    pub fn agent(&self, worker: &str) -> u32 {
        self.agents[worker].id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(program("ironhook")).args(args).env("IRONHOOK_SERVER", &self.api).output().unwrap()
    }

    pub fn said(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies a workflow of one task; `actions` is what a template has below `actions:`, at its left margin.
    pub fn apply(&self, name: &str, actions: &str) {
        let indented: String = actions.lines().map(|line| format!("          {line}\n")).collect();
        self.apply_text(name, &format!(
            "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: m1}}\n\
             spec: {{interfaces: [{{dhcp: {{mac: {WORKER:?}}}}}]}}\n---\n\
             apiVersion: tinkerbell.org/v1alpha1\nkind: Template\nmetadata: {{name: {name}}}\nspec:\n  data: |\n    \
             name: {name}\n    tasks:\n      - name: os\n        worker: {WORKER:?}\n        actions:\n{indented}---\n\
             apiVersion: tinkerbell.org/v1alpha1\nkind: Workflow\nmetadata: {{name: {name}}}\nspec: {{templateRef: {name}}}\n"
        ));
    }

    /// Applies objects.
    pub fn apply_text(&self, name: &str, text: &str) {
        let file = self.path(&format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        self.said(&["apply", "-f", &file.display().to_string()]);
    }

    pub fn workflow(&self, name: &str) -> Value {
        self.said(&["get", "workflow", name, "-o", "json"]).parse().unwrap()
    }

    pub fn wait(&self, name: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let workflow = self.workflow(name);
            if condition(&workflow["status"]) {
                return workflow["status"].clone();
            }
            assert!(start.elapsed() < PATIENCE, "{what} has not happened: {:#}", workflow["status"]);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn ended(&self, name: &str) -> Value {
        self.wait(name, "the end", |status| {
            ["SUCCESS", "FAILED", "TIMEOUT", "CANCELLED"].contains(&status["state"].as_str().unwrap())
        })
    }

    pub fn wait_for_file(&self, name: &str) {
        let start = Instant::now();
        while !self.path(name).exists() {
            assert!(start.elapsed() < PATIENCE, "there is no {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().count()
    }

    /// The process whose id an action has written down.
    pub fn alive(&self, name: &str) -> bool {
        let pid = fs::read_to_string(self.path(name)).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    }
}

/// An action of a template.
pub fn sh(name: &str, script: &str) -> String {
    format!("- name: {name}\n  image: stock\n  command: [sh, -c, {script:?}]\n")
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}
