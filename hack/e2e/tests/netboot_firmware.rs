//! Real firmware: UEFI's HTTP boot, arm64's PXE, and Secure Boot with Microsoft's keys, where a kernel with one flipped
//! byte is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::{BOOT, disk, hardware, lab, random};
use e2e::command::run;
use e2e::console::Console;
use e2e::lab::Lab;
use e2e::manifests::{Hardware, Step, workflow};
use e2e::network::{ADDRESS, BRIDGE};
use e2e::process::Process;
use e2e::vm::Firmware;

fn waits_for_its_workflow(lab: &Lab, machine: &Hardware, hardware: &str) {
    let steps = [Step::new("disk-wipe", [("DEST_DISK", "/dev/vda".into())])];
    lab.apply("hardware", hardware).unwrap();
    lab.apply("workflow", &workflow("firmware", machine, &steps)).unwrap();
}

fn ready(machine: &Hardware) -> String {
    format!("ironhook: agent ready (worker {}, server {ADDRESS}:42113)", machine.mac)
}

#[test]
#[ignore = "make test-full: boots a machine"]
fn ovmf_boots_over_http_to_the_agent() {
    let lab = lab("http-boot");
    let machine = hardware(31, &random());
    waits_for_its_workflow(&lab, &machine, &machine.yaml());
    let vm = lab.boot("http", machine.mac, Firmware::OvmfHttp, &[disk(&lab, "disk.raw")]).unwrap();
    vm.wait_for(&ready(&machine), BOOT).unwrap_or_else(|e| panic!("{e}"));
    let log = fs::read_to_string(lab.server_log()).unwrap();
    let (http, tftp) = (log.contains("/ipxe/binary/"), log.contains("TFTP: sent"));
    assert!(http && !tftp, "the loader came by HTTP: {log}");
}

/// shim by Microsoft's key, GRUB and kernel by Debian's: none of it ours, none of it changed.
#[test]
#[ignore = "make test-full: boots a machine with SMM twice"]
fn secure_boot_runs_debians_chain_and_refuses_a_kernel_with_one_flipped_byte() {
    let mut lab = lab("secure");
    let machine = hardware(32, &random());
    let text =
        machine.yaml().replace("        allowPXE: true", "        allowPXE: true\n        ipxe: {binary: shimx64.efi}");
    waits_for_its_workflow(&lab, &machine, &text);
    let disks = [disk(&lab, "disk.raw")];
    let vm = lab.boot("secure", machine.mac, Firmware::OvmfSecure, &disks).unwrap();
    vm.wait_for("Secure boot enabled", BOOT).unwrap_or_else(|e| panic!("{e}"));
    vm.wait_for(&ready(&machine), BOOT).unwrap_or_else(|e| panic!("{e}"));
    drop(vm);

    let artifacts = lab.dir().join("flipped");
    fs::create_dir(&artifacts).unwrap();
    let out = lab.dir().join("../..").canonicalize().unwrap();
    std::os::unix::fs::symlink(out.join("initramfs-x86_64"), artifacts.join("initramfs-x86_64")).unwrap();
    let mut kernel = fs::read(out.join("vmlinuz-x86_64")).unwrap();
    let middle = kernel.len() / 2;
    kernel[middle] ^= 1;
    fs::write(artifacts.join("vmlinuz-x86_64"), kernel).unwrap();
    let config = lab.dir().join("serve.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let changed =
        text.replace(&format!("artifacts: {}", out.display()), &format!("artifacts: {}", artifacts.display()));
    assert_ne!(text, changed);
    fs::write(&config, changed).unwrap();
    lab.kill_server();
    lab.start_server().unwrap();
    let vm = lab.boot("flipped", machine.mac, Firmware::OvmfSecure, &disks).unwrap();
    vm.wait_for("bad shim signature", BOOT).unwrap_or_else(|e| panic!("{e}"));
    vm.wait_for("kernel or initramfs cannot be loaded", BOOT).unwrap_or_else(|e| panic!("{e}"));
    assert!(!vm.console().lines_from(0).iter().any(|line| line.text.contains("Linux version")));
}

/// There is no image for arm64 yet: what is shown is that its firmware and its iPXE get what is theirs.
#[test]
#[ignore = "make test-full: boots a machine"]
fn arm64_firmware_loads_its_ipxe_and_its_script() {
    let lab = lab("arm64");
    let machine = hardware(33, &random());
    let text = machine.yaml().replace("arch: x86_64", "arch: aarch64").replace("uefi: false", "uefi: true");
    lab.apply("hardware", &text).unwrap();
    let tap = "tap-arm64";
    for words in [format!("tuntap add {tap} mode tap"), format!("link set {tap} master {BRIDGE} up")] {
        run(Command::new("ip").args(words.split(' '))).unwrap();
    }
    let vars = lab.dir().join("vars");
    fs::copy("/usr/share/AAVMF/AAVMF_VARS.fd", &vars).unwrap();
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args([
        "-machine",
        "virt",
        "-accel",
        "tcg",
        "-cpu",
        "cortex-a57",
        "-m",
        "512M",
        "-nodefaults",
        "-display",
        "none",
    ]);
    qemu.args(["-monitor", "none", "-serial", "stdio", "-netdev"]);
    qemu.arg(format!("tap,id=n,ifname={tap},script=no,downscript=no"));
    qemu.args(["-device", &format!("virtio-net-pci,netdev=n,mac={},romfile=,bootindex=1", machine.mac)]);
    qemu.args(["-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd", "-drive"]);
    qemu.arg(format!("if=pflash,format=raw,file={}", vars.display()));
    let (_process, output) = Process::piped("qemu", &mut qemu, &lab.dir().join("qemu.log")).unwrap();
    let console = Console::new(output, &lab.dir().join("arm64.serial.log")).unwrap();
    let wanted = "boots from its own disk: no workflow is waiting";
    console.wait_for(&[wanted], 0, Duration::from_secs(300)).unwrap_or_else(|e| panic!("{e}"));
    let log = fs::read_to_string(lab.server_log()).unwrap();
    assert!(log.contains("ipxe-arm64.efi"), "{log}");
}
