//! The agent in the guest lab, for what a build machine cannot do: privileged containers of the image's own engine, groups
//! with limits under crun, and a full disk. One machine for all cases.

#![allow(clippy::unwrap_used)]

#[path = "../../../agent/tests/lab/layout.rs"]
mod layout;

use std::fs;
use std::path::Path;

use e2e::guest::{Flavour, Guest};
use e2e::lab::Places;
use serde_json::Value;

const PLAIN: &str = "ironhook-test:1";
const SMALL: &str = "ironhook-test-small:1";
const LIMITS: &str = r#"{"dev.ironhook.privileges": "memory:32M pids:20 cap:SYS_BOOT device:/dev/mem:r"}"#;

/// Takes more memory than it may have; keeps what it takes.
const GREEDY: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1";
const CAPABLE: &str =
    "grep CapEff /proc/self/status; test -e /dev/kmsg || exit 3; echo privileged > /proc/sys/kernel/hostname; exit 0";
const BOUNDED: &str = "grep -q 'CapEff:.00000000a84425fb' /proc/self/status || exit 3; test -e /dev/mem || exit 4; echo x > /proc/sys/kernel/hostname && exit 5; exit 0";

fn workflow(image: &str, script: &str) -> String {
    let action = serde_json::json!({"name": "a", "image": image, "command": ["/bin/sh", "-c", script], "timeout": 120});
    serde_json::json!({"tasks": [{"name": "t", "actions": [action]}]}).to_string()
}

#[test]
#[ignore = "make test-full: a VM"]
fn privileged_and_limited_actions_run_in_the_guest_under_docker_and_crun() {
    let places = Places::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    layout::add(dir.path(), &format!("docker.io/library/{PLAIN}"), "{}");
    layout::add(dir.path(), &format!("docker.io/library/{SMALL}"), LIMITS);
    let mut guest = Guest::new("agent", &["sh", "/etc/script"]);
    guest.flavour = Flavour::Engine;
    guest.memory_mib = 2048;
    guest.payload.program("curl").unwrap();
    guest.payload.program("crun").unwrap();
    let agent = places.programs.join("ironhook-agent");
    guest.payload.file(&agent, "/usr/bin/ironhook-agent");
    for (name, path) in files(dir.path()) {
        guest.payload.file(&path, &format!("/images/{name}"));
    }
    let layer = files(dir.path()).into_iter().map(|(_, path)| path).max_by_key(|path| path.metadata().unwrap().len());
    guest.payload.file(&layer.unwrap(), "/root.tar");
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
