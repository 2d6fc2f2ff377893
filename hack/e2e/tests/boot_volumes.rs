//! Volumes: what one container writes another one reads, and what the image brings for a volume is in it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use e2e::direct::{Build, Machine, SERIAL};

const BOOT: Duration = Duration::from_secs(300);
const YAML: &str = r#"kernel: {image: docker.io/ironhook/kernel:dev}
init: [docker.io/ironhook/init:dev]
volumes:
  - {name: shared}
  - {name: files, image: docker.io/ironhook/busybox:dev}
onboot:
  - name: write
    image: docker.io/ironhook/busybox:dev
    command: [/bin/sh, -c, "echo a word >/shared/word"]
    binds: ["shared:/shared"]
services:
  - name: read
    image: docker.io/ironhook/busybox:dev
    command:
      - /bin/sh
      - -c
      - |
        echo found $(cat /shared/word)
        [ -e /files/bin/sh ] && echo the files of the image are there
        echo x >/files/new || echo nothing is written here
        sleep 3600
    binds: ["shared:/shared", "files:/files:ro"]
    annotations: {dev.ironhook.console: "true"}
"#;

#[test]
#[ignore = "make test-full: a machine"]
fn a_volume_is_shared_and_has_the_files_of_its_image() {
    let build =
        Build { name: "boot-volumes", yaml: &[YAML], append: "console=ttyS0 quiet", memory_mib: 512, qemu: &SERIAL };
    let machine = Machine::start(&build).unwrap_or_else(|e| panic!("{e:?}"));
    for line in ["read: found a word", "read: the files of the image are there", "read: nothing is written here"] {
        machine.line(line, BOOT).unwrap_or_else(|e| panic!("{e}"));
    }
}
