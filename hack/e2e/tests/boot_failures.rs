//! What a person sees when a boot goes wrong: one small machine a story, and the sentence that its console shows.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use e2e::console::Line;
use e2e::direct::{Build, Machine, SERIAL};

const BOOT: Duration = Duration::from_secs(300);
const BASE: &str = "kernel: {image: docker.io/ironhook/kernel:dev}\n";
const INIT: &str = "init: [docker.io/ironhook/init:dev]\n";
const DEBUG: &str = "init: [docker.io/ironhook/init:dev, docker.io/ironhook/busybox:dev]\n";

fn boot(name: &str, yaml: &[&str], append: &str, memory_mib: u32, more: &[&str]) -> Machine {
    let append = format!("console=ttyS0 quiet {append}");
    let qemu = [&SERIAL[..], more].concat();
    let yaml = yaml.concat();
    Machine::start(&Build { name, yaml: &[&yaml], append: &append, memory_mib, qemu: &qemu })
        .unwrap_or_else(|e| panic!("{e:?}"))
}

fn sees(machine: &Machine, text: &str) -> Line {
    machine.line(text, BOOT).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
#[ignore = "make test-full: a machine"]
fn too_little_memory_says_how_much_is_there_and_what_to_do() {
    // What does not compress fills the memory, but not the archive's beginning.
    let ballast = std::env::temp_dir().join(format!("ironhook-ballast-{}", std::process::id()));
    std::fs::write(&ballast, vec![7_u8; 160 << 20]).unwrap();
    let files = format!("files: [{{path: usr/share/ballast, source: {}, mode: \"0644\"}}]\n", ballast.display());
    let machine = boot("boot-memory", &[BASE, INIT, &files], "ironhook.panic_seconds=2", 256, &[]);
    std::fs::remove_file(&ballast).unwrap();
    let line = sees(&machine, "FAILED: ");
    let (_, rest) = line.text.split_once("truncated initramfs: ").unwrap_or_else(|| panic!("{}", line.text));
    let (counts, advice) = rest.split_once("; ").unwrap();
    let numbers: Vec<u32> = counts.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(matches!(numbers[..], [found, of] if found < of && found > 1), "{counts}");
    assert_eq!(advice, "give the machine more memory, or rootfstype=ramfs on the kernel command line");
    sees(&machine, "starting again in 1 s");
}

#[test]
#[ignore = "make test-full: a machine"]
fn an_onboot_step_that_fails_stops_the_boot_with_its_last_words_and_a_countdown() {
    let steps = "onboot:
  - {name: first, image: docker.io/ironhook/busybox:dev, command: [/bin/sh, -c, echo one >/run/order; true]}
  - {name: second, image: docker.io/ironhook/busybox:dev, command: [/bin/sh, -c, 'echo the disk is not there; exit 3']}
  - {name: third, image: docker.io/ironhook/busybox:dev, command: [/bin/sh, -c, echo never]}
";
    let machine = boot("boot-onboot", &[BASE, INIT, steps], "ironhook.rescue ironhook.panic_seconds=3", 512, &[]);
    let words = sees(&machine, "second: the disk is not there");
    let failed = sees(&machine, "ironhook: FAILED: onboot: second failed with exit status 3");
    assert!(words.at <= failed.at && failed.text.contains("/var/log/onboot.second.log"), "{}", failed.text);
    // Not a debug flavour: the wish for a shell is answered, and the machine starts again.
    sees(&machine, "ironhook.rescue: this image has no shell; build it with linuxkit/debug.yaml added");
    for left in [3, 2, 1] {
        sees(&machine, &format!("starting again in {left} s"));
    }
    let said = machine.until_off(BOOT);
    assert!(said.iter().any(|line| line.text.contains("onboot first ... ")));
    assert!(!said.iter().any(|line| line.text.contains("never")), "the boot went on");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_debug_flavour_gives_a_shell_instead() {
    let steps = "onboot:
  - {name: broken, image: docker.io/ironhook/busybox:dev, command: [/bin/sh, -c, exit 1]}
";
    let machine = boot("boot-rescue", &[BASE, DEBUG, steps], "ironhook.rescue ironhook.panic_seconds=1", 512, &[]);
    sees(&machine, "ironhook.rescue: a shell on /dev/console");
    sees(&machine, "rescue# ");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_service_that_dies_in_a_loop_says_one_clear_sentence() {
    let services = "services:
  - {name: moth, image: docker.io/ironhook/busybox:dev, command: [/bin/sh, -c, 'echo no flame here; exit 7']}
  - name: once
    image: docker.io/ironhook/busybox:dev
    command: [/bin/sh, -c, 'echo done; exit 0']
    annotations: {dev.ironhook.restart: on-failure, dev.ironhook.console: 'true'}
";
    let machine = boot("boot-loop", &[BASE, INIT, services], "", 512, &[]);
    sees(&machine, "service once: ended with exit status 0, not started again");
    sees(&machine, "moth: no flame here");
    sees(&machine, "service moth: ended with exit status 7, again in 1 s");
    sees(&machine, "service moth: ended with exit status 7, again in 2 s");
    let line = sees(&machine, "service moth: dies in a loop: ended 3 times");
    assert!(line.text.contains("last with exit status 7 (it said: no flame here)"), "{}", line.text);
    assert!(line.text.contains("tried again in 4 s, then at most every 30 s"), "{}", line.text);
    assert!(line.text.ends_with("its output is in /var/log/moth.log"), "{}", line.text);
}

#[test]
#[ignore = "make test-full: a machine"]
fn devices_without_a_driver_and_missing_firmware_are_named_and_kept() {
    // e100 asks for microcode when it is brought up, and the image has none; e1000 is refused by the operator.
    let services = "services:
  - name: look
    image: docker.io/ironhook/busybox:dev
    net: host
    capabilities: [CAP_NET_ADMIN]
    command: [/bin/sh, -c, 'ifconfig eth0 up; sleep 4; cat /run/ironhook/devices.json; sleep 3600']
    binds: ['/run/ironhook:/run/ironhook']
    annotations: {dev.ironhook.console: 'true'}
";
    let cards = ["-device", "i82551", "-device", "e1000,addr=7"];
    let machine = boot("boot-devices", &[BASE, INIT, services], "modprobe.blacklist=e1000", 512, &cards);
    let name = "pci 0000:00:07.0 [8086:100e] Intel Corporation 82540EM Gigabit Ethernet Controller";
    sees(&machine, &format!("no driver for the network device {name}: "));
    let line = sees(&machine, "firmware e100/d102e_ucode.bin is missing, which pci 0000:00:");
    assert!(
        line.text.contains("[8086:1209] Intel Corporation 8255xER/82551IT Fast Ethernet Controller"),
        "{}",
        line.text
    );
    let json = sees(&machine, "look: {\"without_driver\":");
    let text = json.text.split_once("look: ").unwrap().1;
    let devices: spec::devices::Devices = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(devices.without_driver.iter().any(|device| device.to_string() == name), "{devices:#?}");
    assert_eq!(devices.missing_firmware[0].file, "e100/d102e_ucode.bin");
}
