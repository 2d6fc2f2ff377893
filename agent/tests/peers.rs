//! The built program against servers of each era in another language (`hack/peers`), with their faults. Its actions run
//! by the executor of tests; each writes a line into a witness file, so that none can be lost or run twice unseen.

#![allow(clippy::unwrap_used)]

#[path = "common/certificates.rs"]
mod certificates;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

const WORKER: &str = "52:54:00:00:00:01";
const PATIENCE: Duration = Duration::from_secs(120);
const OTHER: &str = "52:54:00:00:00:02";
const ERAS: [&str; 3] = ["0.6", "0.9", "v2"];

/// None, and a line that says so, where the peers cannot run.
fn lab(test: &str) -> Option<Lab> {
    let works =
        Command::new("/usr/bin/python3").args(["-c", "import grpc, google.protobuf"]).stderr(Stdio::null()).status();
    let protoc = Command::new("protoc").arg("--version").stdout(Stdio::null()).status();
    if !works.is_ok_and(|it| it.success()) || protoc.is_err() {
        eprintln!("SKIP {test}: no python3-grpcio or protoc here (make deps)");
        return None;
    }
    Some(Lab { dir: tempfile::tempdir().unwrap(), agents: Vec::new() })
}

/// Directories of one test, and its agents.
struct Lab {
    dir: tempfile::TempDir,
    agents: Vec<Child>,
}

/// A peer and what it says.
struct Peer {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    port: u64,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill_agent();
        // What an action left running would hold the directory.
        let places = ["run/process", "run-other/process"].map(|name| std::fs::read_dir(self.path(name)));
        for entry in places.into_iter().flatten().flatten().flatten() {
            if let Ok(pid) = std::fs::read_to_string(entry.path().join("started/pid")) {
                let _ =
                    Command::new("kill").args(["-9", "--", &format!("-{}", pid.trim())]).stderr(Stdio::null()).status();
            }
        }
    }
}

impl Lab {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&self, era: &str, scenario: &Value, port: u64) -> Peer {
        let file = self.path("scenario.json");
        std::fs::write(&file, scenario.to_string()).unwrap();
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/peers/tink_server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg("-B")
            .arg(peers)
            .arg(era)
            .arg(&file)
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = sender.send(line.parse::<Value>().unwrap());
            }
        });
        let mut peer = Peer { child, lines, seen: Vec::new(), port: 0 };
        peer.port = peer.wait("its port", |line| line["listening"].is_u64())["listening"].as_u64().unwrap();
        peer
    }

    fn start_agent(&mut self, port: u64, more: &[&str]) {
        self.start_worker(WORKER, port, &[("TINKERBELL_TLS", "false")], more);
    }

    /// The first worker's agent, or one of another machine with directories of its own.
    fn start_worker(&mut self, worker: &str, port: u64, environment: &[(&str, &str)], more: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        let own = if worker == WORKER { "" } else { "-other" };
        let agent = Command::new(env!("CARGO_BIN_EXE_ironhook-agent"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("WORKER_ID", worker)
            .env("TINKERBELL_GRPC_AUTHORITY", format!("127.0.0.1:{port}"))
            .envs(environment.iter().copied())
            .args(["--executor=process", "--retry-interval=200ms"])
            .arg(format!("--run-dir={}", self.path(&format!("run{own}")).display()))
            .arg(format!("--worker-dir={}", self.path(&format!("worker{own}")).display()))
            .args(more)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agents.push(agent);
    }

    fn kill_agent(&mut self) {
        for mut agent in self.agents.drain(..) {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    fn wait_for_log(&self, words: &str) {
        let start = Instant::now();
        while !self.log().contains(words) {
            assert!(start.elapsed() < PATIENCE, "{words:?} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An action that leaves a line in the witness file.
    fn witness(&self, name: &str, more: &str) -> Value {
        let file = self.path("witness").display().to_string();
        let script = format!("echo {name} >> {file}; {more}");
        json!({"task": "t", "name": name, "image": "i", "worker": WORKER, "timeout": 60, "command": ["sh", "-c", script]})
    }

    fn wait_for_witness(&self, name: &str) {
        let start = Instant::now();
        while !self.witnessed().iter().any(|line| line == name) {
            assert!(start.elapsed() < PATIENCE, "{name} has not begun:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn witnessed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("witness")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Peer {
    fn wait(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("{what} has not happened: {:#?}", self.seen));
            self.seen.push(line.clone());
            if condition(&line) {
                return line;
            }
        }
    }

    fn ended(&mut self, workflow: &str) -> Vec<String> {
        let line = self.wait("the end", |line| line["ended"] == workflow);
        line["states"].as_array().unwrap().iter().map(|state| state.as_str().unwrap().to_owned()).collect()
    }

    /// How often each state of each action was recorded.
    fn recorded(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for line in self.seen.iter().filter(|line| line["recorded"].is_string()) {
            let key = format!("{} {}", line["recorded"].as_str().unwrap(), line["state"].as_str().unwrap());
            *count.entry(key).or_default() += 1;
        }
        count
    }
}

fn workflow(actions: &[Value]) -> Value {
    json!({"workflows": [{"id": "default/w", "actions": actions}]})
}

fn with_faults(actions: &[Value], faults: Value) -> Value {
    json!({"workflows": [{"id": "default/w", "actions": actions}], "faults": faults})
}

#[test]
fn a_server_of_each_era_is_recognised_and_its_workflow_run() {
    for era in ERAS {
        let Some(mut lab) = lab("a_server_of_each_era_is_recognised_and_its_workflow_run") else { return };
        let mut first = lab.witness("a", "test \"$MODE\" = 0644");
        first["environment"] = json!(["MODE=0644", "EMPTY="]);
        // Absent: an hour, never at once.
        first.as_object_mut().unwrap().remove("timeout");
        let mut peer =
            lab.serve(era, &workflow(&[first, lab.witness("b", "sleep 0.2"), lab.witness("c", "exit 7")]), 0);
        lab.start_agent(peer.port, &[]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS", "SUCCESS", "FAILED"], "{era}");
        assert_eq!(lab.witnessed(), ["a", "b", "c"], "{era}");
        assert!(peer.recorded().values().all(|count| *count == 1), "{era}: {:?}", peer.recorded());
        let failed = peer.seen.iter().find(|line| line["state"] == "FAILED" && line["recorded"] == "c").unwrap();
        let message = failed["message"].as_str().unwrap();
        assert!(message.starts_with("exit_status: it ended with exit status 7"), "{era}: {message}");
        let service = match era {
            "0.6" => "the classic service of 0.6 to 0.8",
            "0.9" => "the classic service",
            _ => "the newer service (GetAction)",
        };
        lab.wait_for_log(&format!("the server has {service}"));
        lab.wait_for_log("idle: ");
        if era == "v2" {
            let times: Vec<&Value> = peer.seen.iter().filter(|line| line["times"].is_array()).collect();
            assert_eq!(times.len(), 6);
            assert!(peer.seen.iter().any(|line| line["attributes"] == true), "what the machine is goes along");
            assert!(times.iter().all(|line| line["times"][0].as_i64().unwrap() > 1_600_000_000), "{times:?}");
        }
    }
}

#[test]
fn a_forced_protocol_is_kept_to() {
    for (era, protocol) in [("0.6", "classic-0.8"), ("0.9", "classic"), ("v2", "v2")] {
        let Some(mut lab) = lab("a_forced_protocol_is_kept_to") else { return };
        let mut peer = lab.serve(era, &workflow(&[lab.witness("a", "")]), 0);
        lab.start_agent(peer.port, &[&format!("--protocol={protocol}")]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS"], "{protocol}");
    }
    let Some(mut lab) = lab("a_forced_protocol_is_kept_to") else { return };
    let peer = lab.serve("0.9", &workflow(&[lab.witness("a", "")]), 0);
    lab.start_agent(peer.port, &["--protocol=ironhook"]);
    lab.wait_for_log("idle: the server has no ironhook.v1");
    assert!(lab.witnessed().is_empty());
}

#[test]
fn no_fault_of_any_server_loses_or_repeats_anything() {
    let report =
        |state: &str, what: &str| json!({"call": "ReportActionStatus", "action": "a", "state": state, "do": what});
    for era in ERAS {
        for (state, what) in [
            ("RUNNING", "reset"),
            ("RUNNING", "reset-after"),
            ("SUCCESS", "reset"),
            ("SUCCESS", "reset-after"),
            ("SUCCESS", "UNAVAILABLE"),
            ("SUCCESS", "UNKNOWN"),
            ("SUCCESS", "RESOURCE_EXHAUSTED"),
            // What ends the field's agent for good.
            ("RUNNING", "NOT_FOUND"),
            ("SUCCESS", "NOT_FOUND"),
            ("SUCCESS", "INVALID_ARGUMENT"),
            ("SUCCESS", "FAILED_PRECONDITION"),
        ] {
            let Some(mut lab) = lab("no_fault_of_any_server_loses_or_repeats_anything") else { return };
            let actions = [lab.witness("a", ""), lab.witness("b", "")];
            let mut peer = lab.serve(era, &with_faults(&actions, json!([report(state, what)])), 0);
            lab.start_agent(peer.port, &[]);
            assert_eq!(peer.ended("default/w"), ["SUCCESS", "SUCCESS"], "{era} {state} {what}");
            assert_eq!(lab.witnessed(), ["a", "b"], "{era} {state} {what}\n{}", lab.log());
            assert!(lab.agents[0].try_wait().unwrap().is_none(), "{era} {state} {what}: the agent has ended");
        }
    }
}

#[test]
fn a_server_that_stalls_is_asked_again_and_a_refused_duplicate_ends_nothing() {
    for era in ["0.9", "v2"] {
        let Some(mut lab) = lab("a_server_that_stalls_is_asked_again_and_a_refused_duplicate_ends_nothing") else {
            return;
        };
        let fault = json!({"call": "ReportActionStatus", "action": "a", "state": "SUCCESS", "do": "stall-after"});
        let actions = [lab.witness("a", ""), lab.witness("b", "")];
        let mut peer = lab.serve(era, &with_faults(&actions, json!([fault])), 0);
        lab.start_agent(peer.port, &[]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS", "SUCCESS"], "{era}");
        assert_eq!(lab.witnessed(), ["a", "b"], "{era}");
        if era == "0.9" {
            assert!(peer.seen.iter().any(|line| line["refused"].is_string()), "this server refuses duplicates");
            lab.wait_for_log("report refused by the server");
        }
    }
}

#[test]
fn an_action_goes_on_without_the_server_and_is_reported_when_it_is_back() {
    for era in ERAS {
        let Some(mut lab) = lab("an_action_goes_on_without_the_server_and_is_reported_when_it_is_back") else { return };
        let gate = lab.path("gate");
        let script = format!("while ! test -e {}; do sleep 0.05; done", gate.display());
        let actions = [lab.witness("a", &script), lab.witness("b", "")];
        let mut peer = lab.serve(era, &workflow(&actions), 0);
        lab.start_agent(peer.port, &[]);
        peer.wait("the start", |line| line["recorded"] == "a");
        lab.wait_for_witness("a");
        let port = peer.port;
        drop(peer);
        std::fs::write(&gate, "").unwrap();
        lab.wait_for_log("report not answered yet, trying again");
        let over = now();
        while now() < over + 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut scenario = workflow(&actions);
        scenario["workflows"][0]["states"] = json!(["RUNNING"]);
        let mut peer = lab.serve(era, &scenario, port);
        assert_eq!(peer.ended("default/w"), ["SUCCESS", "SUCCESS"], "{era}");
        assert_eq!(lab.witnessed(), ["a", "b"], "{era}");
        if era == "v2" {
            let told = peer.seen.iter().find(|line| line["times"].is_array()).unwrap();
            let stop = told["times"][1].as_u64().unwrap();
            assert!((1_600_000_000..=over).contains(&stop), "its end, not when that was told: {stop}, {over}");
        }
    }
}

#[test]
fn a_server_that_is_back_with_another_opinion_decides() {
    for era in ["0.9", "v2"] {
        let Some(mut lab) = lab("a_server_that_is_back_with_another_opinion_decides") else { return };
        let gate = lab.path("gate");
        let script = format!("while ! test -e {}; do sleep 0.05; done", gate.display());
        let mut peer = lab.serve(era, &workflow(&[lab.witness("a", &script)]), 0);
        lab.start_agent(peer.port, &[]);
        peer.wait("the start", |line| line["recorded"] == "a");
        lab.wait_for_witness("a");
        let port = peer.port;
        drop(peer);
        std::fs::write(&gate, "").unwrap();
        lab.wait_for_log("report not answered yet, trying again");
        let other = json!({"workflows": [{"id": "default/other", "actions": [lab.witness("x", "")]}]});
        let mut peer = lab.serve(era, &other, port);
        assert_eq!(peer.ended("default/other"), ["SUCCESS"], "{era}");
        assert_eq!(lab.witnessed(), ["a", "x"], "{era}");
        lab.wait_for_log("report refused by the server");
    }
}

#[test]
fn a_server_of_another_era_at_the_same_address_is_recognised() {
    let Some(mut lab) = lab("a_server_of_another_era_at_the_same_address_is_recognised") else { return };
    let mut port = 0;
    for (n, era) in ["0.9", "v2", "0.6", "v2", "0.9"].into_iter().enumerate() {
        let id = format!("default/w{n}");
        let scenario = json!({"workflows": [{"id": id, "actions": [lab.witness(&n.to_string(), "")]}]});
        let mut peer = lab.serve(era, &scenario, port);
        port = peer.port;
        if n == 0 {
            lab.start_agent(port, &[]);
        }
        assert_eq!(peer.ended(&id), ["SUCCESS"], "{era}");
    }
    assert_eq!(lab.witnessed(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn what_the_template_wants_after_an_end_really_runs() {
    let Some(mut lab) = lab("what_the_template_wants_after_an_end_really_runs") else { return };
    let witness = lab.path("witness").display().to_string();
    let react = |word: &str| json!(["sh", "-c", format!("echo {word} >> {witness}")]);
    let mut fails = lab.witness("a", "exit 3");
    fails["on_failure"] = react("on-failure");
    fails["on_timeout"] = react("on-timeout");
    let mut late = lab.witness("b", "sleep 60");
    late["timeout"] = json!(1);
    late["on_failure"] = react("never");
    late["on_timeout"] = react("on-timeout");
    let flows =
        json!({"workflows": [{"id": "default/one", "actions": [fails]}, {"id": "default/two", "actions": [late]}]});
    let mut peer = lab.serve("0.9", &flows, 0);
    lab.start_agent(peer.port, &[]);
    assert_eq!(peer.ended("default/one"), ["FAILED"]);
    assert_eq!(peer.ended("default/two"), ["TIMEOUT"]);
    assert_eq!(lab.witnessed(), ["a", "on-failure", "b", "on-timeout"]);
    let told: Vec<&str> =
        peer.seen.iter().filter_map(|line| line["message"].as_str()).filter(|m| m.contains("then")).collect();
    assert!(
        told[0].ends_with("; then on-failure succeeded") && told[1].ends_with("; then on-timeout succeeded"),
        "{told:?}"
    );
}

#[test]
fn a_task_of_another_worker_in_the_middle_is_waited_for_and_finished_by_it() {
    for era in ERAS {
        let name = "a_task_of_another_worker_in_the_middle_is_waited_for_and_finished_by_it";
        let Some(mut lab) = lab(name) else { return };
        let mut theirs = [lab.witness("b", "sleep 0.2"), lab.witness("c", "")];
        for action in &mut theirs {
            (action["worker"], action["task"]) = (json!(OTHER), json!("u"));
        }
        let [b, c] = theirs;
        let mut peer = lab.serve(era, &workflow(&[lab.witness("a", ""), b, c, lab.witness("d", "")]), 0);
        lab.start_agent(peer.port, &[]);
        peer.wait("the first", |line| line["recorded"] == "a" && line["state"] == "SUCCESS");
        lab.wait_for_log("idle: ");
        assert_eq!(lab.witnessed(), ["a"], "{era}");
        lab.start_worker(OTHER, peer.port, &[("TINKERBELL_TLS", "false")], &[]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS"; 4], "{era}");
        assert_eq!(lab.witnessed(), ["a", "b", "c", "d"], "{era}");
        assert!(peer.recorded().values().all(|count| *count == 1), "{era}: {:?}", peer.recorded());
    }
}

#[test]
fn a_server_that_refuses_is_quoted_and_asked_again() {
    for (era, call) in [("0.6", "GetWorkflowContexts"), ("0.9", "GetWorkflowContexts"), ("v2", "GetAction")] {
        let Some(mut lab) = lab("a_server_that_refuses_is_quoted_and_asked_again") else { return };
        let fault = json!({"call": call, "do": "PERMISSION_DENIED", "times": 3});
        let mut peer = lab.serve(era, &with_faults(&[lab.witness("a", "")], json!([fault])), 0);
        lab.start_agent(peer.port, &[]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS"], "{era}");
        lab.wait_for_log("idle: the server refuses: ");
        assert!(lab.log().contains("as the scenario says"), "{era}: {}", lab.log());
    }
}

#[test]
fn a_server_that_takes_sizes_as_numbers_hears_what_the_machine_is() {
    let Some(mut lab) = lab("a_server_that_takes_sizes_as_numbers_hears_what_the_machine_is") else { return };
    let mut peer = lab.serve("v2-0.17", &workflow(&[lab.witness("a", "")]), 0);
    lab.start_agent(peer.port, &[]);
    assert_eq!(peer.ended("default/w"), ["SUCCESS"]);
    let asked = peer.seen.iter().find(|line| line["attributes"] == true).unwrap();
    // Sizes are text here: what does not fit is left out by it, and the rest arrives.
    assert!(asked["threads"].as_u64().unwrap() > 0 && asked["memory"] == 0, "{asked}");
}

#[test]
fn an_agent_that_is_not_to_look_at_its_machine_tells_nothing_of_it() {
    let Some(mut lab) = lab("an_agent_that_is_not_to_look_at_its_machine_tells_nothing_of_it") else { return };
    let mut peer = lab.serve("v2", &workflow(&[lab.witness("a", "")]), 0);
    lab.start_agent(peer.port, &["--attribute-detection=false"]);
    assert_eq!(peer.ended("default/w"), ["SUCCESS"]);
    let asked = peer.seen.iter().find(|line| line["attributes"].is_boolean()).unwrap();
    assert_eq!(asked["threads"], 0, "{asked}");
}

#[test]
fn a_server_of_each_era_is_believed_by_the_sites_authority_and_asks_for_our_certificate() {
    for era in ERAS {
        let name = "a_server_of_each_era_is_believed_by_the_sites_authority_and_asks_for_our_certificate";
        let Some(mut lab) = lab(name) else { return };
        certificates::make(lab.dir.path());
        let path = |name: &str| lab.path(name).display().to_string();
        let mut scenario = workflow(&[lab.witness("a", "")]);
        scenario["tls"] = json!({"key": path("server.key"), "certificate": path("server.pem"),
            "authority": path("ca.pem"), "clients": path("ca.pem")});
        let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
        let mut peer = lab.serve(era, &scenario, 0);
        let site = ("IRONHOOK_CA_FILE", ca.as_str());
        lab.start_worker(WORKER, peer.port, &[site], &[]);
        lab.wait_for_log("cannot ask the server");
        lab.kill_agent();
        let ours = [site, ("IRONHOOK_CLIENT_CERT", cert.as_str()), ("IRONHOOK_CLIENT_KEY", key.as_str())];
        lab.start_worker(WORKER, peer.port, &ours[1..], &[]);
        lab.wait_for_log("UnknownIssuer");
        lab.kill_agent();
        assert!(lab.witnessed().is_empty(), "{era}: served although one of us was not proven");
        lab.start_worker(WORKER, peer.port, &ours, &[]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS"], "{era}\n{}", lab.log());
    }
}

#[test]
fn the_authority_that_a_server_of_0_6_hands_out_is_believed() {
    let Some(mut lab) = lab("the_authority_that_a_server_of_0_6_hands_out_is_believed") else { return };
    certificates::make(lab.dir.path());
    let path = |name: &str| lab.path(name).display().to_string();
    let mut scenario = workflow(&[lab.witness("a", "")]);
    scenario["tls"] =
        json!({"key": path("server.key"), "certificate": path("server.pem"), "authority": path("ca.pem")});
    let mut peer = lab.serve("0.6", &scenario, 0);
    let told = peer.seen.iter().find_map(|line| line["certificates"].as_u64()).unwrap();
    let wrong = format!("http://127.0.0.1:{told}/nothing");
    lab.start_worker(WORKER, peer.port, &[("TINKERBELL_CERT_URL", wrong.as_str())], &[]);
    lab.wait_for_log("no certificate authorities yet, trying again");
    lab.kill_agent();
    let right = format!("http://127.0.0.1:{told}/cert");
    lab.start_worker(WORKER, peer.port, &[("TINKERBELL_CERT_URL", right.as_str())], &[]);
    assert_eq!(peer.ended("default/w"), ["SUCCESS"], "{}", lab.log());
}

#[test]
fn data_of_a_workflow_goes_from_action_to_action_under_a_server_of_0_6() {
    let Some(mut lab) = lab("data_of_a_workflow_goes_from_action_to_action_under_a_server_of_0_6") else { return };
    let data = lab.path("worker/default/w/data").display().to_string();
    let first = lab.witness("a", &format!("echo '{{\"disk\":\"sda\"}}' > {data}"));
    let second = lab.witness("b", &format!("grep -q sda {data}"));
    let mut peer = lab.serve("0.6", &workflow(&[first, second]), 0);
    lab.start_agent(peer.port, &[]);
    assert_eq!(peer.ended("default/w"), ["SUCCESS", "SUCCESS"]);
    let given: Vec<&Value> = peer.seen.iter().filter(|line| line["data"].is_string()).collect();
    assert_eq!(given.len(), 1, "only what changed: {given:?}");
    assert_eq!((&given[0]["metadata"]["actionName"], &given[0]["metadata"]["workerID"]), (&json!("a"), &json!(WORKER)));
}

/// Seconds of the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Small enough for a test to be quick, and different in every run.
fn random() -> u64 {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    u64::from_ne_bytes(bytes)
}

#[test]
fn an_agent_killed_at_any_instant_goes_on_where_it_was() {
    for era in ERAS {
        let Some(mut lab) = lab("an_agent_killed_at_any_instant_goes_on_where_it_was") else { return };
        let names: Vec<String> = (0..5).map(|n| format!("a{n}")).collect();
        let actions: Vec<Value> = names.iter().map(|name| lab.witness(name, "sleep 0.3")).collect();
        let mut peer = lab.serve(era, &workflow(&actions), 0);
        for _ in 0..8 {
            lab.start_agent(peer.port, &[]);
            let instant = random() % 900;
            std::thread::sleep(Duration::from_millis(instant));
            lab.kill_agent();
        }
        lab.start_agent(peer.port, &[]);
        assert_eq!(peer.ended("default/w"), ["SUCCESS"; 5], "{era}\n{}", lab.log());
        assert_eq!(lab.witnessed(), names, "{era}\n{}", lab.log());
    }
}
