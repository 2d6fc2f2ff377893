//! The built program, serving on ports of its own, and the files it is fed with. Each test has its own server.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use proto::ironhook::machine_client::MachineClient;
use proto::workflow::workflow_service_client::WorkflowServiceClient;
use proto::workflow::{State, WorkflowActionStatus, WorkflowContext, WorkflowContextRequest};
use tonic::transport::Channel;

pub const WORKER: &str = "52:54:00:12:34:01";
const PATIENCE: Duration = Duration::from_secs(30);

pub const HARDWARE: &str = r##"apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata:
  name: m1
spec:
  disks: [{device: /dev/vda}]
  interfaces:
    - netboot: {allowPXE: true}
      dhcp:
        mac: 52:54:00:12:34:01
        ip: {address: 127.0.0.1, netmask: 255.0.0.0}
  metadata:
    instance:
      id: i-42
      hostname: host-42
      ssh_keys: [ssh-ed25519 AAAA one, ssh-ed25519 BBBB two]
      operating_system: {slug: debian_13}
  userData: |
    #cloud-config
    marker: 1
"##;

pub const TEMPLATE: &str = r#"apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata:
  name: t1
spec:
  data: |
    name: install
    global_timeout: 600
    tasks:
      - name: os
        worker: "{{.device_1}}"
        volumes: [/dev:/dev]
        environment:
          MODE: 0644
          SHARED: task
        actions:
          - name: first
            image: one:1
            environment:
              SHARED: action
              DISK: {{ index .Hardware.Disks 0 }}
          - name: second
            image: two:2
            timeout: 60
            volumes: [/run:/run]
"#;

pub const WORKFLOW: &str = r#"apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata:
  name: w1
spec:
  templateRef: t1
  hardwareRef: m1
  hardwareMap:
    device_1: 52:54:00:12:34:01
"#;

/// A running `ironhook serve`; killed when dropped.
pub struct Server {
    child: Child,
    addresses: Vec<(String, SocketAddr)>,
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, "")
    }

    /// With more lines in its configuration.
    pub fn start_with(dir: &Path, more: &str) -> Self {
        let at = |name: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let any = "{listen: 127.0.0.1:0}";
        let config = format!(
            "address: 127.0.0.1\nstate: {}\nartifacts: {}\nloaders: {}\nfiles: {}\ndhcp: off\ntftp: off\n\
             http: {any}\ngrpc: {any}\nmetadata: {any}\napi: {any}\n{more}",
            at("state"),
            at("artifacts"),
            at("loaders"),
            at("files")
        );
        let path = dir.join("serve.yaml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ironhook"))
            .args(["serve", "--config"])
            .arg(&path)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let addresses = listening(child.stderr.take().unwrap());
        Self { child, addresses }
    }

    pub fn url(&self, service: &str) -> String {
        let found = self.addresses.iter().find(|(name, _)| name == service);
        format!("http://{}", found.unwrap_or_else(|| panic!("{service} does not listen")).1)
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ironhook"))
            .args(args)
            .env("IRONHOOK_SERVER", self.url("api"))
            .output()
            .unwrap()
    }

    /// Applies texts as files of a directory.
    pub fn apply(&self, dir: &Path, texts: &[(&str, &str)]) -> Output {
        let mut args = vec!["apply".to_owned()];
        for (name, text) in texts {
            std::fs::write(dir.join(name), text).unwrap();
            args.extend(["-f".to_owned(), dir.join(name).display().to_string()]);
        }
        self.cli(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub async fn classic(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel().await)
    }

    pub async fn machine(&self) -> MachineClient<Channel> {
        MachineClient::new(self.channel().await)
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url("grpc")).unwrap().connect().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> serde_json::Value {
        http(&format!("{}{path}", self.url("api"))).await.1.parse().unwrap()
    }

    pub async fn workflow(&self) -> serde_json::Value {
        self.get("/apis/tinkerbell.org/v1alpha1/namespaces/default/workflows/w1").await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log until every service has said where it listens; the rest goes to the test's own output.
fn listening(stderr: impl Read + Send + 'static) -> Vec<(String, SocketAddr)> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("server: {line}");
            let word = |key: &str| line.split(key).nth(1).and_then(|rest| rest.split_whitespace().next());
            if line.contains("listening")
                && let (Some(service), Some(address)) = (word("service=\""), word("address="))
            {
                let service = service.trim_end_matches('"').to_owned();
                let _ = sender.send((service, address.parse().unwrap()));
            }
        }
    });
    (0..4).map(|_| receiver.recv_timeout(PATIENCE).expect("the server does not listen")).collect()
}

pub async fn http(url: &str) -> (u16, String) {
    // Fails only when a test before has done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub async fn contexts(client: &mut WorkflowServiceClient<Channel>, worker: &str) -> Vec<WorkflowContext> {
    let request = WorkflowContextRequest { worker_id: worker.into() };
    let mut stream = client.get_workflow_contexts(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(context) = stream.message().await.unwrap() {
        all.push(context);
    }
    all
}

pub fn report(action: &str, state: State) -> WorkflowActionStatus {
    WorkflowActionStatus {
        workflow_id: "default/w1".into(),
        task_name: "os".into(),
        action_name: action.into(),
        action_status: state.into(),
        worker_id: WORKER.into(),
        message: "as told".into(),
        ..WorkflowActionStatus::default()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
