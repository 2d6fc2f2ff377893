//! Where the phases of the boot are seen: on every console that a machine has, whatever the command line leaves out,
//! and only on the one that an operator names. One machine a row of the matrix.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use e2e::direct::{Build, Machine, SERIAL, image};

const BOOT: Duration = Duration::from_secs(300);
const YAML: &str = "kernel: {image: docker.io/ironhook/kernel:dev}
init: [docker.io/ironhook/init:dev]
services:
  - name: still
    image: docker.io/ironhook/busybox:dev
    command: [/usr/bin/busybox, sleep, \"3600\"]
";

/// Name, QEMU's arguments, command line.
type Row = (&'static str, &'static [&'static str], &'static str);

const MATRIX: [Row; 5] = [
    ("ttyS0", &SERIAL, ""),
    ("only ttyS1", &["-device", "isa-serial,index=1,iobase=0x2f8,irq=3,chardev=console"], ""),
    ("virtio", &["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"], ""),
    // A screen is the kernel's default; the serial port is seen all the same.
    ("ttyS0 beside a screen", &["-device", "VGA", "-serial", "chardev:console"], ""),
    ("named", &["-serial", "null", "-serial", "chardev:console"], "console=ttyS1,9600"),
];

#[test]
#[ignore = "make test-full: six machines"]
fn the_phases_are_seen_on_every_console_that_there_is() {
    let image = image("boot-consoles", &[YAML]).unwrap();
    for (name, qemu, append) in MATRIX {
        eprintln!("console: {name}");
        let build = Build { name: "console", yaml: &[], append, memory_mib: 512, qemu };
        let machine = Machine::boot(&build, &image).unwrap();
        for phase in ["first mounts", "whole image", "re-root", "modules", "entropy", "services"] {
            machine.wait_for(&format!("ironhook: {phase} ... "), BOOT).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_console_that_is_not_named_stays_silent() {
    let image = image("boot-named", &[YAML]).unwrap();
    // The one that is read is not the one that is named, so nothing may come; the file is the one that is named.
    let named = image.join("named.txt");
    let file = format!("file:{}", named.display());
    let qemu = ["-serial", "chardev:console", "-serial", &file];
    let build = Build { name: "named", yaml: &[], append: "console=ttyS1", memory_mib: 512, qemu: &qemu };
    let machine = Machine::boot(&build, &image).unwrap();
    e2e::wait::until("the services on the named console", BOOT, || {
        let text = std::fs::read(&named).unwrap_or_default();
        Ok::<_, e2e::wait::TimedOut>(String::from_utf8_lossy(&text).contains("ironhook: services ... ").then_some(()))
    })
    .unwrap();
    let silent = machine.console().lines_from(0);
    assert!(!silent.iter().any(|line| line.text.contains("ironhook:")), "{silent:#?}");
}
