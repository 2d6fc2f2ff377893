//! The agent in the guest lab, for what a build machine cannot do: privileged containers of the image's own engine, groups
//! with limits under crun, and a full disk. One machine for all cases.

#![allow(clippy::unwrap_used)]

#[path = "../../../agent/tests/lab/layout.rs"]
mod layout;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use e2e::guest::{Flavour, Guest};
use e2e::lab::Places;
use serde_json::{Value, json};

const PLAIN: &str = "ironhook-test:1";
const SMALL: &str = "ironhook-test-small:1";
const LIMITS: &str = r#"{"dev.ironhook.privileges": "memory:32M pids:20 cap:SYS_BOOT device:/dev/mem:r"}"#;

/// Takes more memory than it may have; keeps what it takes.
const GREEDY: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1";
const CAPABLE: &str =
    "grep CapEff /proc/self/status; test -e /dev/kmsg || exit 3; echo privileged > /proc/sys/kernel/hostname; exit 0";
const BOUNDED: &str = "grep -q 'CapEff:.00000000a84425fb' /proc/self/status || exit 3; test -e /dev/mem || exit 4; echo x > /proc/sys/kernel/hostname && exit 5; exit 0";

fn workflow(image: &str, script: &str) -> String {
    let action = json!({"name": "a", "image": image, "command": ["/bin/sh", "-c", script], "timeout": 120});
    json!({"tasks": [{"name": "t", "actions": [action]}]}).to_string()
}

/// A machine with an engine, our agent, crun, and the images of the tests for both executors.
fn machine(name: &str, places: &Places, layout: &Path) -> Guest {
    layout::add(layout, &format!("docker.io/library/{PLAIN}"), "{}");
    layout::add(layout, &format!("docker.io/library/{SMALL}"), LIMITS);
    let mut guest = Guest::new(name, &["sh", "/etc/script"]);
    guest.flavour = Flavour::Engine;
    guest.memory_mib = 2048;
    guest.payload.program("curl").unwrap();
    guest.payload.program("crun").unwrap();
    guest.payload.file(&places.programs.join("ironhook-agent"), "/usr/bin/ironhook-agent");
    for (name, path) in files(layout) {
        guest.payload.file(&path, &format!("/images/{name}"));
    }
    let layer = files(layout).into_iter().map(|(_, path)| path).max_by_key(|path| path.metadata().unwrap().len());
    guest.payload.file(&layer.unwrap(), "/root.tar");
    guest
}

#[test]
#[ignore = "make test-full: a VM"]
fn privileged_and_limited_actions_run_in_the_guest_under_docker_and_crun() {
    let places = Places::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut guest = machine("agent", &places, dir.path());
    let cases = [
        ("capable", "docker", "privileged", PLAIN, CAPABLE, ""),
        ("capable", "crun", "privileged", PLAIN, CAPABLE, ""),
        ("bounded", "docker", "declared", SMALL, BOUNDED, ""),
        ("bounded", "crun", "declared", SMALL, BOUNDED, ""),
        ("greedy", "docker", "declared", SMALL, GREEDY, "out_of_memory"),
        ("greedy", "crun", "declared", SMALL, GREEDY, "out_of_memory"),
        ("full", "crun", "declared", PLAIN, "true", "no_space"),
    ];
    let mut script = String::from(PREPARE);
    for (name, executor, privileges, image, shell, _) in cases {
        let file = format!("/etc/{name}-{executor}.yaml");
        guest.payload.text(&file, &workflow(image, shell));
        let place = if name == "full" { "/full" } else { "/run/ironhook" };
        script += &format!(
            "ironhook-agent run {file} --executor={executor} --privileges={privileges} --images=/images --run-dir={place} --results=/tmp/r >/tmp/log 2>&1\n\
             echo \"RESULT $(cat /tmp/r | tr -d '\\n')\"; rm -f /tmp/r\n"
        );
    }
    guest.payload.text("/etc/script", &script);
    let ended = guest.run(&places).unwrap();
    let results: Vec<Value> = ended
        .output
        .lines()
        .filter_map(|line| line.strip_prefix("RESULT "))
        .map(|line| serde_json::from_str(line).unwrap_or_default())
        .collect();
    assert_eq!((ended.status, results.len()), (0, cases.len()), "{}", ended.output);
    for ((name, executor, .., code), result) in cases.into_iter().zip(results) {
        let found = result["actions"][0]["failure"]["code"].as_str().unwrap_or_default();
        assert_eq!(found, code, "{name} under {executor}: {result:#}");
    }
}

/// What can go wrong with an action: a name, its code, and the action, without its name.
fn failures() -> [(&'static str, &'static str, Value); 10] {
    let sh = |image: &str, script: &str| json!({"image": image, "command": ["/bin/sh", "-c", script]});
    let with = |mut action: Value, key: &str, value: Value| {
        action[key] = value;
        action
    };
    let waits = "echo begun > /workflow/witness; sleep 600";
    [
        ("exit", "exit_status", sh(PLAIN, "echo last words >&2; exit 7")),
        // The first process of a container is deaf to its own signals, so a child is ended, as shells tell it on.
        ("signal", "signal", sh(PLAIN, "sh -c 'kill -9 $$'; exit $?")),
        ("memory", "out_of_memory", sh(SMALL, GREEDY)),
        ("timeout", "timeout", with(sh(PLAIN, "sleep 600"), "timeout", json!(5))),
        ("pull", "image_pull", sh("127.0.0.1:9/no/registry:1", "true")),
        ("start", "start", with(sh(PLAIN, ""), "command", json!(["/absent"]))),
        ("lost", "lost", sh(PLAIN, waits)),
        ("image", "image_not_found", sh("127.0.0.1:5000/no/such:1", "true")),
        ("mount", "bad_mount", with(sh(PLAIN, "true"), "volumes", json!(["/proc/sys/none/such:/x"]))),
        ("full", "no_space", sh(PLAIN, "true")),
    ]
}

fn objects(executor: &str, name: &str, action: &Value) -> String {
    let mut action = action.clone();
    action["name"] = json!("act");
    let timeout = action["timeout"].as_u64().unwrap_or(300);
    action["timeout"] = json!(timeout);
    let name = format!("{name}-{executor}");
    let template = json!({"version": "0.1", "name": name, "global_timeout": 1800, "tasks": [{"name": "os", "worker": "{{.device_1}}", "actions": [action]}]});
    let object = |kind: &str, spec: Value| json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let workflow = json!({"templateRef": name, "hardwareRef": executor, "hardwareMap": {"device_1": mac(executor)}});
    format!("{}\n---\n{}\n", object("Template", json!({"data": template.to_string()})), object("Workflow", workflow))
}

fn mac(executor: &str) -> &'static str {
    if executor == "docker" { "02:00:00:00:00:01" } else { "02:00:00:00:00:02" }
}

fn hardware(executor: &str) -> String {
    let address = if executor == "docker" { "127.0.0.2" } else { "127.0.0.3" };
    let interface = json!({"netboot": {"allowPXE": true, "allowWorkflow": true}, "dhcp": {"mac": mac(executor), "ip": {"address": address, "netmask": "255.0.0.0"}}});
    json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": executor, "namespace": "default"}, "spec": {"interfaces": [interface]}})
        .to_string()
}

#[test]
#[ignore = "make test-full: a VM"]
fn ten_failures_are_told_apart_by_get_workflow_under_docker_and_crun() {
    let places = Places::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut guest = machine("failures", &places, dir.path());
    guest.memory_mib = 3072;
    guest.payload.file(&places.programs.join("ironhook"), "/usr/bin/ironhook");
    // Clients are not built without authorities, wherever they go.
    guest.payload.file(Path::new(AUTHORITIES), AUTHORITIES);
    guest.payload.program("docker-registry").unwrap();
    guest.payload.text("/etc/serve.yaml", SERVE);
    guest.payload.text("/etc/registry.yaml", REGISTRY);
    guest.payload.text("/etc/hardware.yaml", &format!("{}\n---\n{}\n", hardware("docker"), hardware("crun")));
    for (name, _, action) in failures() {
        for executor in ["docker", "crun"] {
            guest.payload.text(&format!("/etc/{name}-{executor}.yaml"), &objects(executor, name, &action));
        }
    }
    let names = failures().map(|(name, ..)| name).join(" ");
    guest.payload.text("/etc/script", &[PREPARE, &FAIL.replace("NAMES", &names)].concat());
    let ended = guest.run(&places).unwrap();
    assert_eq!(ended.status, 0, "{}", ended.output);
    for executor in ["docker", "crun"] {
        let mut sentences = BTreeSet::new();
        for (name, code, _) in failures() {
            let line = |kind: &str| {
                let prefix = format!("{kind} {name} {executor} ");
                ended.output.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
            };
            let workflow: Value = serde_json::from_str(line("JSON")).unwrap_or_default();
            let failure = &workflow["status"]["tasks"][0]["actions"][0]["failure"];
            assert_eq!(failure["code"], code, "{name} under {executor}: {workflow:#}\n{}", ended.output);
            let message = failure["message"].as_str().unwrap();
            assert!(sentences.insert(message.to_owned()), "{name} under {executor}: {message:?} is said twice");
            let text = line("TEXT");
            assert!(text.contains(code) && text.contains(message), "{name} under {executor}: {text}");
            eprintln!("{executor:>6}  {code:<15}  {message}");
        }
    }
}

const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const SERVE: &str = "address: 127.0.0.1
state: /var/state
artifacts: /var/none
loaders: /var/none
files: /var/none
dhcp: off
tftp: off
http: {listen: \"127.0.0.1:7080\"}
grpc: {listen: \"127.0.0.1:42113\"}
metadata: {listen: \"127.0.0.1:50061\"}
api: {listen: \"127.0.0.1:7480\"}
";
const REGISTRY: &str = "version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: /var/registry}}\nhttp: {addr: \"127.0.0.1:5000\"}\n";

/// A server, a registry and two agents; each workflow to its end, one after the other for each agent.
const FAIL: &str = r#"
export IRONHOOK_SERVER=http://127.0.0.1:7480
mkdir -p /var/state /var/none /var/registry /worker/docker /worker/crun
ironhook serve --config /etc/serve.yaml >/tmp/server.log 2>&1 &
docker-registry serve /etc/registry.yaml >/tmp/registry.log 2>&1 &
i=0
until ironhook get hardware >/tmp/said 2>&1; do i=$((i+1)); test $i -lt 120 || { cat /tmp/said /tmp/server.log; exit 6; }; sleep 1; done
ironhook apply -f /etc/hardware.yaml || exit 5
agent() {
    ironhook-agent --executor=$1 --id=$2 --tinkerbell-grpc-authority=127.0.0.1:42113 --tinkerbell-tls=false \
        --privileges=declared --images=/images --insecure-registries=127.0.0.1:5000,127.0.0.1:9 --pull-timeout=5s \
        --docker-socket=/run/docker/docker.sock --run-dir=/run/ironhook/$1 --worker-dir=/worker/$1 >>/tmp/agent-$1 2>&1 &
    agent=$!
}
# A container that is gone when its agent comes back, and one whose shim is killed.
lose_docker() {
    kill -9 $agent
    id=$(curl -sf --unix-socket /run/docker/docker.sock http://d/containers/json | grep -o '"Id":"[0-9a-f]*"' | head -n 1 | cut -d '"' -f 4)
    curl -sf -X DELETE --unix-socket /run/docker/docker.sock "http://d/containers/$id?force=1"
    agent docker 02:00:00:00:00:01
}
lose_crun() {
    for process in /proc/[0-9]*; do
        tr '\0' ' ' 2>/dev/null <$process/cmdline | grep -q 'ironhook-agent shim ' && kill -9 ${process#/proc/}
    done
}
one() {
    name=$1-$2
    test $1 != full || mount -t tmpfs -o nr_inodes=1 none /worker/$2 || return 1
    ironhook apply -f /etc/$name.yaml >/tmp/applied-$2 || { cat /tmp/applied-$2; return 1; }
    i=0
    while :; do
        ironhook get workflow $name -o json >/tmp/$name.json
        grep -q '"state": *"\(FAILED\|TIMEOUT\|SUCCESS\)"' /tmp/$name.json && break
        if test $1 = lost && test -e /worker/$2/default/$name/witness; then
            rm /worker/$2/default/$name/witness
            lose_$2
        fi
        i=$((i+1)); test $i -lt 180 || break; sleep 1
    done
    test $1 != full || umount /worker/$2
    echo "JSON $1 $2 $(tr -d '\n' </tmp/$name.json)" >>/tmp/said-$2
    echo "TEXT $1 $2 $(ironhook get workflow $name | tr '\n' ' ')" >>/tmp/said-$2
}
all() {
    agent $1 $2
    for name in NAMES; do one $name $1; done
}
all docker 02:00:00:00:00:01 &
first=$!
all crun 02:00:00:00:00:02 &
wait $first; wait $!
cat /tmp/said-docker /tmp/said-crun
for log in agent-docker agent-crun server.log; do echo "== $log"; tail -n 60 /tmp/$log; done
exit 0
"#;

/// The image for the engine, under both names; a place with no room.
const PREPARE: &str = r#"
i=0
while ! curl -sf --unix-socket /run/docker/docker.sock http://d/_ping; do i=$((i+1)); test $i -lt 600 || exit 9; sleep 0.5; done
import() { curl -sf --unix-socket /run/docker/docker.sock -X POST -H 'Content-Type: application/x-tar' --data-binary @/root.tar "http://d/images/create?fromSrc=-&$1" || exit 8; }
import 'repo=ironhook-test&tag=1'
import 'repo=ironhook-test-small&tag=1&changes=LABEL%20dev.ironhook.privileges%3D%22memory%3A32M%20pids%3A20%20cap%3ASYS_BOOT%20device%3A%2Fdev%2Fmem%3Ar%22'
mkdir /full && mount -t tmpfs -o size=1m none /full || exit 7
"#;

fn files(root: &Path) -> Vec<(String, std::path::PathBuf)> {
    let list = |directory: &Path| {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let all = list(root).into_iter().chain(list(&root.join("blobs/sha256")));
    all.map(|path| (path.strip_prefix(root).unwrap().display().to_string(), path)).collect()
}
