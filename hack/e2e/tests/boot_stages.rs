//! An image in two stages: what can wait comes over HTTP or as a second initramfs, is proven, and is mounted before the
//! component that needs it starts; a layer of another build is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::direct::{Build, Machine, SERIAL, image_with};
use e2e::httpd;
use e2e::lab::Places;

const BOOT: Duration = Duration::from_secs(300);
const YAML: &str = r#"kernel: {image: docker.io/ironhook/kernel:dev}
init: [docker.io/ironhook/init:dev]
services:
  - name: network
    image: docker.io/ironhook/bootkit:dev
    command: [/usr/bin/bootkit, network]
    net: host
    capabilities: [CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN]
    binds: ["/run/ironhook:/run/ironhook", "/run/resolvconf:/run/resolvconf"]
    annotations: {dev.ironhook.console: "true"}
  - name: stage2
    image: docker.io/ironhook/bootkit:dev
    command: [/usr/bin/bootkit, stage2]
    net: host
    binds: ["/run/ironhook:/run/ironhook", "/etc/ironhook:/etc/ironhook:ro"]
    annotations: {dev.ironhook.restart: on-failure, dev.ironhook.console: "true"}
  - name: late
    image: docker.io/ironhook/busybox:dev
    command: [/bin/sh, -c, "echo late is here; sleep 3600"]
    annotations: {dev.ironhook.stage: "2", dev.ironhook.console: "true"}
"#;
const CARD: [&str; 4] = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="];

fn two_stages(name: &str) -> PathBuf {
    image_with(name, &[YAML], &["--two-stages"]).unwrap_or_else(|e| panic!("{e:?}"))
}

/// The machine sees the host at 10.0.2.2.
fn boot(name: &str, image: &Path, append: &str) -> Machine {
    boot_in(768, name, image, append)
}

fn boot_in(memory_mib: u32, name: &str, image: &Path, append: &str) -> Machine {
    let qemu = [&SERIAL[..], &CARD].concat();
    let append = format!("console=ttyS0 quiet {append}");
    let build = Build { name, yaml: &[], append: &append, memory_mib, qemu: &qemu };
    Machine::boot(&build, image).unwrap_or_else(|e| panic!("{e:?}"))
}

fn sees(machine: &Machine, text: &str) -> String {
    machine.line(text, BOOT).unwrap_or_else(|e| panic!("{e}")).text
}

/// Serves one file under every name, and says under which it was asked for.
fn serve(file: PathBuf) -> (std::net::SocketAddr, std::sync::mpsc::Receiver<String>) {
    let (tell, asked) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let address = httpd::serve(Ipv4Addr::LOCALHOST, move |request, client| {
        let _ = tell.lock().unwrap().send(request.path.clone());
        let bytes = fs::read(&file)?;
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
        client.write_all(&bytes)
    });
    (address.unwrap(), asked)
}

#[test]
#[ignore = "make test-full: a machine"]
fn what_can_wait_comes_over_http_and_is_mounted_before_it_is_needed() {
    let image = two_stages("boot-stage-http");
    let (address, asked) = serve(image.join("stage2-x86_64"));
    let machine = boot("http", &image, &format!("ironhook.stage2=http://10.0.2.2:{}/boot/", address.port()));
    sees(&machine, "service late: waits for stage two");
    sees(&machine, "ironhook: stage2: ");
    sees(&machine, "ironhook: stage two ... ");
    sees(&machine, "late: late is here");
    assert_eq!(asked.recv().unwrap(), "/boot/stage2-x86_64");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_second_initramfs_brings_it_without_a_network() {
    let image = two_stages("boot-stage-initrd");
    let both = image.join("both");
    fs::create_dir_all(&both).unwrap();
    fs::copy(image.join("vmlinuz-x86_64"), both.join("vmlinuz-x86_64")).unwrap();
    // As a loader leaves several initramfs in memory: one behind the other, each at a multiple of four bytes.
    let mut first = fs::read(image.join("initramfs-x86_64")).unwrap();
    first.resize(first.len().next_multiple_of(4), 0);
    first.extend(fs::read(image.join("stage2-x86_64.cpio")).unwrap());
    fs::write(both.join("initramfs-x86_64"), first).unwrap();
    let machine = boot("initrd", &both, "");
    sees(&machine, "ironhook: stage2: the layer is there");
    sees(&machine, "late: late is here");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_layer_of_another_build_is_refused_with_both_digests() {
    let image = two_stages("boot-stage-wrong");
    let mut bytes = fs::read(image.join("stage2-x86_64")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let wrong = image.join("wrong");
    fs::write(&wrong, bytes).unwrap();
    let (address, _asked) = serve(wrong);
    let machine = boot("wrong", &image, &format!("ironhook.stage2=http://10.0.2.2:{}", address.port()));
    let line = sees(&machine, "stage2 failed [digest_mismatch]: ");
    assert!(line.contains("the layer belongs to another initramfs"), "{line}");
    let digests = line.split_whitespace().filter(|word| word.trim_end_matches([',', ':']).len() == 64).count();
    assert_eq!(digests, 2, "{line}");
}

#[test]
#[ignore = "make test-full: a machine"]
fn the_flavour_that_ships_gets_its_engine_in_stage_two() {
    let directory = Places::find().unwrap().repo.join("linuxkit");
    let [base, stage2] = ["ironhook.yaml", "stage2.yaml"].map(|name| fs::read_to_string(directory.join(name)).unwrap());
    let image = image_with("boot-stage-full", &[&base, &stage2], &["--two-stages"]).unwrap_or_else(|e| panic!("{e:?}"));
    let (address, asked) = serve(image.join("stage2-x86_64"));
    let append = format!("ironhook.stage2=http://10.0.2.2:{}/boot", address.port());
    let machine = boot_in(2048, "full", &image, &format!("{append} grpc_authority=10.0.2.2:9 tinkerbell_tls=false"));
    sees(&machine, "service docker: waits for stage two");
    sees(&machine, "ironhook: stage2: ");
    sees(&machine, "engine ready ... ");
    assert_eq!(asked.recv().unwrap(), "/boot/stage2-x86_64");
}
