//! The orderly end: onshutdown runs, a service that does not listen is killed, what services leave behind is killed and
//! waited for, and the file system that it kept busy is unmounted clean.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use e2e::command::{command, run};
use e2e::direct::{Build, Machine, SERIAL};

const BOOT: Duration = Duration::from_secs(300);

/// `deaf` is the first process of its PID namespace and has no handler, so SIGTERM does nothing to it. `leaver` puts a
/// process that ignores SIGTERM and never stops writing out of its own group, as an engine's containers are.
const YAML: &str = r#"kernel: {image: docker.io/ironhook/kernel:dev}
init: [docker.io/ironhook/init:dev]
onshutdown:
  - {name: goodbye, image: docker.io/ironhook/busybox:dev, command: [/bin/sh, -c, echo goodbye]}
services:
  - {name: deaf, image: docker.io/ironhook/busybox:dev, command: [/usr/bin/busybox, sleep, "3600"]}
  - name: leaver
    image: docker.io/ironhook/busybox:dev
    pid: host
    capabilities: [all]
    command:
      - /bin/sh
      - -c
      - |
        (echo 0 >/sys/fs/cgroup/cgroup.procs; trap '' TERM; while :; do echo more >>/data/file; done) &
        while [ ! -s /data/file ]; do sleep 1; done
        : >/worker/reboot; sleep 3600
    mounts:
      - {type: cgroup2, source: cgroup2, destination: /sys/fs/cgroup, options: [rw]}
    binds: ["/run/worker:/worker", "/run/data:/data"]
    runtime:
      mkdir: [/run/worker]
      mounts: [{type: ext4, source: /dev/vda, destination: /run/data}]
    annotations: {dev.ironhook.console: "true"}
"#;

#[test]
#[ignore = "make test-full: a machine"]
fn the_end_is_orderly_and_leaves_a_clean_file_system() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    run(command("mkfs.ext4", ["-q", "-F"]).arg(disk.path())).unwrap();
    let drive = format!("if=virtio,format=raw,file={}", disk.path().display());
    let qemu = [&SERIAL[..], &["-drive", &drive]].concat();
    let build =
        Build { name: "boot-shutdown", yaml: &[YAML], append: "console=ttyS0 quiet", memory_mib: 512, qemu: &qemu };
    let machine = Machine::start(&build).unwrap_or_else(|e| panic!("{e:?}"));
    machine.wait_for("ironhook: reboot now", BOOT).unwrap_or_else(|e| panic!("{e}"));
    let said: Vec<String> = machine.until_off(BOOT).into_iter().map(|line| line.text).collect();
    let place =
        |text: &str| said.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {said:#?}"));
    let order = [
        "reboot in 10 s, asked for by the file /run/worker/reboot",
        "ironhook: reboot: the file /run/worker/reboot",
        "goodbye: goodbye",
        "service deaf: did not end within 5 s of SIGTERM, so it is killed",
        "ironhook: reboot now",
    ];
    let places: Vec<usize> = order.iter().map(|text| place(text)).collect();
    assert!(places.is_sorted(), "{places:?} {said:#?}");
    assert!(!said.iter().any(|line| line.contains("warning: ")), "a file system stayed busy: {said:#?}");
    let state = run(command("dumpe2fs", ["-h"]).arg(disk.path())).unwrap();
    assert!(state.lines().any(|line| line.starts_with("Filesystem state:") && line.ends_with("clean")), "{state}");
    assert!(!state.contains("needs_recovery"), "the journal was not written back: {state}");
}
