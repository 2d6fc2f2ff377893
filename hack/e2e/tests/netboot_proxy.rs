//! Machines that boot beside somebody else's DHCP: firmware, iPXE and the agent take their addresses from dnsmasq or Kea
//! and their boot files from the proxy; metadata finds the machine although nobody here gave it the address.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::Ipv4Addr;
use std::process::Command;

use common::{BOOT, SOON, disk, hardware, lab, random};
use e2e::command::run;
use e2e::lab::Lab;
use e2e::manifests::{Hardware, Step, workflow};
use e2e::neighbour::Neighbour;
use e2e::network::{ADDRESS, BRIDGE};
use e2e::vm::{Build, Firmware, Vm};
use e2e::wait::{self, TimedOut};
use spec::Mac;

const DHCP: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 2);

fn dnsmasq(lab: &Lab, address: Ipv4Addr, range: &str) -> Neighbour {
    let range = format!("--dhcp-range={range},255.255.255.0,1h");
    let [a, b, c, _] = address.octets();
    let gateway = format!("--dhcp-option=3,{a}.{b}.{c}.1");
    let program = [
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=eth0",
        "--user=root",
        "--leasefile-ro",
        "--dhcp-authoritative",
        "--log-dhcp",
        &range,
        &gateway,
    ];
    Neighbour::on_bridge("foreign", address, &program, &lab.dir().join("dnsmasq.log")).unwrap()
}

fn kea(lab: &Lab) -> Neighbour {
    let config = lab.dir().join("kea.json");
    let text = format!(
        r#"{{"Dhcp4": {{"interfaces-config": {{"interfaces": ["eth0"], "dhcp-socket-type": "raw"}},
            "lease-database": {{"type": "memfile", "persist": false}}, "valid-lifetime": 3600,
            "subnet4": [{{"subnet": "192.168.56.0/24", "pools": [{{"pool": "192.168.56.150 - 192.168.56.160"}}],
            "option-data": [{{"name": "routers", "data": "{ADDRESS}"}}]}}]}}}}"#
    );
    std::fs::write(&config, text).unwrap();
    let program = ["env", "KEA_PIDFILE_DIR=/tmp", "KEA_LOCKFILE_DIR=none", "kea-dhcp4", "-c", config.to_str().unwrap()];
    Neighbour::on_bridge("foreign", DHCP, &program, &lab.dir().join("kea.log")).unwrap()
}

/// A machine whose Hardware knows nothing of addresses.
fn machine(lab: &Lab, last: u8) -> Hardware {
    let machine = hardware(last, &random());
    let text = machine.yaml();
    let begin = text.find("        ip:\n").unwrap();
    let end = text.find("        lease_time").unwrap();
    let text = format!("{}{}", &text[..begin], &text[end..]);
    // Nor has its instance any.
    let begin = text.find("      ips:\n").unwrap();
    let end = text.find("  interfaces:").unwrap();
    lab.apply("hardware", &format!("{}{}", &text[..begin], &text[end..])).unwrap();
    machine
}

fn proxy(lab: &Lab) {
    lab.ironhook(&["netboot", "set", "--mode", "proxy"]).unwrap();
}

fn boots(lab: &Lab, machine: &Hardware, name: &str, firmware: Firmware) -> Ipv4Addr {
    let vm = lab.boot(name, machine.mac, firmware, &[disk(lab, &format!("{name}.raw"))]).unwrap();
    let ready = format!("ironhook: agent ready (worker {}, server {ADDRESS}:42113)", machine.mac);
    vm.wait_for(&ready, BOOT).unwrap_or_else(|e| panic!("{e}; see {}", lab.server_log().display()));
    asked_from(lab, machine)
}

/// As the server remembers it.
fn asked_from(lab: &Lab, machine: &Hardware) -> Ipv4Addr {
    let story = lab.ironhook(&["netboot", "explain", "--mac", &machine.mac.to_string(), "-o", "json"]).unwrap();
    let story: serde_json::Value = serde_json::from_str(&story).unwrap();
    story["facts"]["address"].as_str().unwrap().parse().unwrap()
}

/// Asked from the machine's own address, once the machine is off.
fn metadata_at(address: Ipv4Addr) -> String {
    let own = format!("{address}/32");
    run(Command::new("ip").args(["address", "add", &own, "dev", BRIDGE])).unwrap();
    let url = format!("http://{ADDRESS}:50061/2009-04-04/meta-data/instance-id");
    let answer = run(Command::new("curl").args(["-sS", "--interface", &address.to_string(), &url]));
    run(Command::new("ip").args(["address", "delete", &own, "dev", BRIDGE])).unwrap();
    answer.unwrap()
}

fn with_workflow(lab: &Lab, name: &str, machine: &Hardware) {
    let steps = [Step::new("disk-wipe", [("DEST_DISK", "/dev/vda".into())])];
    let text = workflow(name, machine, &steps).replace("hardwareRef", "disabled: false\n  hardwareRef");
    lab.apply(name, &text).unwrap();
}

#[test]
#[ignore = "make test-full: boots a machine twice"]
fn bios_boots_beside_dnsmasq_and_metadata_follows_a_new_address() {
    let lab = lab("proxy-bios");
    let machine = machine(&lab, 21);
    proxy(&lab);
    with_workflow(&lab, "proxy", &machine);
    let foreign = dnsmasq(&lab, DHCP, "192.168.56.100,192.168.56.110");
    let first = boots(&lab, &machine, "first", Firmware::SeaBios);
    assert!((100..=110).contains(&first.octets()[3]), "{first}");
    assert_eq!(metadata_at(first), machine.mac.to_string());
    drop(foreign);
    // The same machine, another address: the next boot is what counts.
    let _foreign = dnsmasq(&lab, DHCP, "192.168.56.120,192.168.56.130");
    let disk = disk(&lab, "again.raw");
    let vm = lab.boot("second", machine.mac, Firmware::SeaBios, &[disk]).unwrap();
    vm.wait_for("Ironhook: default/machine-21", BOOT).unwrap_or_else(|e| panic!("{e}"));
    let second = wait::until("the new address", SOON, || {
        let address = asked_from(&lab, &machine);
        Ok::<_, TimedOut>((address != first).then_some(address))
    })
    .unwrap();
    drop(vm);
    assert!((120..=130).contains(&second.octets()[3]), "{second}");
    assert_eq!(metadata_at(second), machine.mac.to_string());
}

#[test]
#[ignore = "make test-full: boots a machine"]
fn uefi_boots_beside_dnsmasq() {
    let lab = lab("proxy-uefi");
    let machine = machine(&lab, 22);
    proxy(&lab);
    with_workflow(&lab, "proxy", &machine);
    let _foreign = dnsmasq(&lab, DHCP, "192.168.56.100,192.168.56.110");
    let address = boots(&lab, &machine, "uefi", Firmware::Ovmf);
    assert_eq!(metadata_at(address), machine.mac.to_string());
}

#[test]
#[ignore = "make test-full: boots a machine"]
fn uefi_boots_beside_kea() {
    let lab = lab("proxy-kea");
    let machine = machine(&lab, 23);
    proxy(&lab);
    with_workflow(&lab, "proxy", &machine);
    let _foreign = kea(&lab);
    let address = boots(&lab, &machine, "kea", Firmware::Ovmf);
    assert!((150..=160).contains(&address.octets()[3]), "{address}");
    assert_eq!(metadata_at(address), machine.mac.to_string());
}

#[test]
#[ignore = "make test-full: boots a machine"]
fn bios_boots_beside_kea() {
    let lab = lab("proxy-kea-bios");
    let machine = machine(&lab, 24);
    proxy(&lab);
    with_workflow(&lab, "proxy", &machine);
    let _foreign = kea(&lab);
    let address = boots(&lab, &machine, "kea-bios", Firmware::SeaBios);
    assert!((150..=160).contains(&address.octets()[3]), "{address}");
    assert_eq!(metadata_at(address), machine.mac.to_string());
}

#[test]
#[ignore = "make test-full: boots a machine"]
fn a_machine_boots_from_its_second_interface() {
    let lab = lab("second-nic");
    let mut machine = hardware(25, &random());
    let second = Mac::new([0x52, 0x54, 0, 0, 0x11, 25]);
    // The first interface of its Hardware is one that is not plugged in; the second is the one that boots.
    let text = machine.yaml();
    let interface = "  interfaces:\n    - netboot: {allowPXE: true}\n      dhcp:\n        mac: \"02:00:00:00:00:01\"\n        ip: {address: 192.168.56.77, netmask: 255.255.255.0}\n";
    let text = text.replace("  interfaces:\n", interface).replace(&machine.mac.to_string(), &second.to_string());
    machine.mac = second;
    lab.apply("hardware", &text).unwrap();
    with_workflow(&lab, "proxy", &machine);
    let address = boots(&lab, &machine, "second", Firmware::SeaBios);
    assert_eq!(address, machine.address);
    assert_eq!(metadata_at(address), second.to_string());
}

#[test]
#[ignore = "make test-full: boots a machine four times from an empty disk"]
fn a_template_that_always_fails_parks_after_three_boots() {
    let mut lab = lab("parked");
    let machine = hardware(26, &random());
    lab.apply("hardware", &machine.yaml()).unwrap();
    // Its only action can only fail: there is no such disk.
    let steps = [Step::new("disk-wipe", [("DEST_DISK", "/dev/none".into())])];
    lab.apply("workflow", &workflow("fails", &machine, &steps)).unwrap();
    let disks = [disk(&lab, "empty.raw")];
    let vm = lab.boot("install", machine.mac, Firmware::SeaBios, &disks).unwrap();
    let ended = lab.finished("fails", BOOT).unwrap();
    assert_eq!(common::state(&ended), "FAILED", "{ended:#}");
    drop(vm);
    for boot in 1..=3 {
        let vm = lab.boot(&format!("disk-{boot}"), machine.mac, Firmware::SeaBios, &disks).unwrap();
        vm.wait_for("boots from its own disk", BOOT).unwrap_or_else(|e| panic!("boot {boot}: {e}"));
        vm.wait_for("the first disk (0x80) does not boot", SOON).unwrap_or_else(|e| panic!("boot {boot}: {e}"));
    }
    let vm = lab.boot("parked", machine.mac, Firmware::SeaBios, &disks).unwrap();
    // iPXE breaks its lines at the 80th column.
    for text in ["is parked (boot_loop): 3 boots", "since workflow default/fails has failed: install/disk-wipe:"] {
        vm.wait_for(text, BOOT).unwrap_or_else(|e| panic!("{e}"));
    }
    let log = std::fs::read_to_string(lab.server_log()).unwrap();
    assert!(log.contains("boot_loop"), "{log}");
}

/// One link where the server gives the addresses, and one where dnsmasq does; a machine on each, at the same time.
#[test]
#[ignore = "make test-full: boots two machines at once"]
fn two_links_with_different_modes_boot_two_machines_at_once() {
    let mut lab = lab("two-links");
    let ip = |words: &str| run(Command::new("ip").args(words.split(' '))).unwrap();
    ip("link add br1 type bridge forward_delay 0");
    ip("address add 192.168.57.1/24 dev br1");
    ip("link set br1 up");
    let config = lab.dir().join("serve.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    // What machines of the other link ask has to be heard there, too.
    let text = text.replace(&format!("listen: \"{ADDRESS}:"), "listen: \"0.0.0.0:");
    std::fs::write(&config, text + "interfaces:\n  - {name: br1, mode: proxy, address: 192.168.57.1}\n").unwrap();
    lab.kill_server();
    lab.start_server().unwrap();

    let given = hardware(27, &random());
    lab.apply("given", &given.yaml()).unwrap();
    with_workflow(&lab, "given", &given);
    let proxied = machine(&lab, 28);
    with_workflow(&lab, "proxied", &proxied);
    let _foreign = dnsmasq(&lab, [192, 168, 57, 2].into(), "192.168.57.100,192.168.57.110");
    let tap = lab.tap("tap-proxied").unwrap();
    for port in ["foreign", "tap-proxied"] {
        ip(&format!("link set {port} master br1"));
    }

    let build = Build {
        name: "proxied",
        mac: proxied.mac,
        firmware: Firmware::SeaBios,
        disks: &[],
        media: None,
        tap: Some(tap),
        memory_mib: 3072,
    };
    let second = Vm::start(build, lab.accel(), lab.dir()).unwrap();
    let first = lab.boot("given", given.mac, Firmware::SeaBios, &[]).unwrap();
    for (vm, machine, server) in [(&first, &given, "192.168.56.1"), (&second, &proxied, "192.168.57.1")] {
        let ready = format!("ironhook: agent ready (worker {}, server {server}:42113)", machine.mac);
        vm.wait_for(&ready, BOOT).unwrap_or_else(|e| panic!("{e}; see {}", lab.server_log().display()));
    }
    drop((first, second));
    assert_eq!(asked_from(&lab, &given), given.address);
    assert_eq!(metadata_at(given.address), given.mac.to_string());
    let address = asked_from(&lab, &proxied);
    assert_eq!(address.octets()[..3], [192, 168, 57]);
    assert_eq!(metadata_at(address), proxied.mac.to_string());
}
