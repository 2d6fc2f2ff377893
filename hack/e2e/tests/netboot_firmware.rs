//! Real firmware: UEFI's HTTP boot, arm64's PXE, and Secure Boot with Microsoft's keys, where a kernel with one flipped
//! byte and a module without a signature are refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

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

/// The artifacts of `out` in a directory of the lab's, which its server serves from now on.
fn serve_from(lab: &mut Lab, artifacts: &Path) {
    let config = lab.dir().join("serve.yaml");
    let text = fs::read_to_string(&config).unwrap();
    let begin = text.find("artifacts: ").unwrap();
    let end = begin + text[begin..].find('\n').unwrap();
    fs::write(&config, format!("{}artifacts: {}{}", &text[..begin], artifacts.display(), &text[end..])).unwrap();
    lab.kill_server();
    lab.start_server().unwrap();
}

/// A second initramfs behind ours, with one module more than it has: without a signature, and wanted by a device.
fn with_an_unsigned_module(initramfs: &Path, dir: &Path) -> Vec<u8> {
    let tree = dir.join("tree");
    fs::create_dir(&tree).unwrap();
    let unpack =
        r#"zstd -dc "$1" | (cd "$2" && cpio -id --quiet '*/virtio-rng.ko.xz' '*/modules.dep' '*/modules.alias')"#;
    run(Command::new("sh").args(["-c", unpack, "sh"]).arg(initramfs).arg(&tree)).unwrap();
    let releases = fs::read_dir(tree.join("usr/lib/modules")).unwrap();
    let modules = releases.map(|entry| entry.unwrap().path()).next().unwrap();
    let signed = modules.join("kernel/drivers/char/hw_random/virtio-rng.ko");
    run(Command::new("xz").arg("-d").arg(signed.with_extension("ko.xz"))).unwrap();
    let mut module = fs::read(&signed).unwrap();
    // struct module_signature and its mark stand behind the signature, whose length is the last field.
    let body = module.strip_suffix(b"~Module signature appended~\n").unwrap();
    let (rest, length) = body.split_last_chunk::<4>().unwrap();
    let length = rest.len() - 8 - u32::from_be_bytes(*length) as usize;
    module.truncate(length);
    fs::remove_dir_all(modules.join("kernel")).unwrap();
    fs::create_dir_all(modules.join("kernel/extra")).unwrap();
    fs::write(modules.join("kernel/extra/site_rng.ko"), module).unwrap();
    for (index, line) in
        [("modules.dep", "kernel/extra/site_rng.ko:\n"), ("modules.alias", "alias virtio:d00000004v* site_rng\n")]
    {
        let text = fs::read_to_string(modules.join(index)).unwrap();
        fs::write(modules.join(index), text + line).unwrap();
    }
    let bundle = dir.join("bundle");
    let pack = r#"cd "$1" && find usr | cpio -o -H newc --quiet | zstd -q -o "$2""#;
    run(Command::new("sh").args(["-c", pack, "sh"]).arg(&tree).arg(&bundle)).unwrap();
    [fs::read(initramfs).unwrap(), fs::read(bundle).unwrap()].concat()
}

/// shim by Microsoft's key, GRUB and kernel by Debian's: none of it ours, none of it changed.
#[test]
#[ignore = "make test-full: boots a machine with SMM twice"]
fn secure_boot_runs_debians_chain_and_refuses_a_flipped_kernel_and_an_unsigned_module() {
    let mut lab = lab("secure");
    let machine = hardware(32, &random());
    let text =
        machine.yaml().replace("        allowPXE: true", "        allowPXE: true\n        ipxe: {binary: shimx64.efi}");
    waits_for_its_workflow(&lab, &machine, &text);
    let disks = [disk(&lab, "disk.raw")];
    let out = lab.dir().join("../..").canonicalize().unwrap();
    let artifacts = lab.dir().join("artifacts");
    fs::create_dir(&artifacts).unwrap();
    let initramfs = with_an_unsigned_module(&out.join("initramfs-x86_64"), lab.dir());
    fs::write(artifacts.join("initramfs-x86_64"), initramfs).unwrap();
    fs::copy(out.join("vmlinuz-x86_64"), artifacts.join("vmlinuz-x86_64")).unwrap();
    serve_from(&mut lab, &artifacts);
    let vm = lab.boot("secure", machine.mac, Firmware::OvmfSecure, &disks).unwrap();
    vm.wait_for("Secure boot enabled", BOOT).unwrap_or_else(|e| panic!("{e}"));
    vm.wait_for("/kernel/extra/site_rng.ko: ", BOOT).unwrap_or_else(|e| panic!("{e}"));
    vm.wait_for(&ready(&machine), BOOT).unwrap_or_else(|e| panic!("{e}"));
    drop(vm);

    let mut kernel = fs::read(out.join("vmlinuz-x86_64")).unwrap();
    let middle = kernel.len() / 2;
    kernel[middle] ^= 1;
    fs::write(artifacts.join("vmlinuz-x86_64"), kernel).unwrap();
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
    let (process, output) = Process::piped("qemu", &mut qemu, &lab.dir().join("qemu.log")).unwrap();
    // In the order of their ends: the console's reader waits for that of the process.
    let machine = (process, Console::new(output, &lab.dir().join("arm64.serial.log")).unwrap());
    let wanted = "boots from its own disk: no workflow is waiting";
    machine.1.wait_for(&[wanted], 0, BOOT).unwrap_or_else(|e| panic!("{e}"));
    let log = fs::read_to_string(lab.server_log()).unwrap();
    assert!(log.contains("ipxe-arm64.efi"), "{log}");
}
