//! `bootkit network` against Debian's dnsmasq, over real interfaces.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod lab;

use lab::{Lab, MAC, eventually, lab, lab_with_dnsmasq};
use spec::dhcp::lease::Lease;
use spec::phase::Phase;

const LEASE: &str = "/run/ironhook/lease.json";
const RANGE: &str = "--dhcp-range=10.77.0.10,10.77.0.19,255.255.255.0,2m";
const OTHER_RANGE: &str = "--dhcp-range=10.77.0.100,10.77.0.109,255.255.255.0,2m";

fn booted_by_eth0() -> String {
    format!("quiet hw_addr={MAC}")
}

fn lease(lab: &Lab) -> Lease {
    serde_json::from_str(&lab.text(LEASE)).unwrap()
}

/// A route that the kernel drops together with the address, should anybody take that away even for a moment.
fn mark(lab: &Lab) {
    lab.machine_does(&format!("ip route add 198.51.100.0/24 via 10.77.0.1 src {}", lease(lab).address));
}

fn assert_unmoved(lab: &Lab) {
    let routes = lab.machine_does("ip route");
    assert!(routes.contains("198.51.100.0/24"), "{routes}");
}

#[test]
fn a_lease_is_put_to_use_whole() {
    let Some(lab) = lab_with_dnsmasq("a_lease_is_put_to_use_whole", &booted_by_eth0()) else { return };
    lab.plug("eth0", MAC);
    let options = ["--dhcp-option=26,1400", "--dhcp-option=6,10.77.0.53,10.77.0.54", "--domain=rack.example"];
    let host = format!("--dhcp-host={MAC},10.77.0.15,node-15");
    let _server = lab.dnsmasq("eth0", &[&[RANGE, &host], &options[..]].concat());
    let network = lab.bootkit(&["network"]);
    let line = network.expect("ironhook: network eth0");
    assert!(line.starts_with("ironhook: network eth0 10.77.0.15/24 from 10.77.0.1 ... "), "{line}");
    assert!(line.ends_with(" ms"), "{line}");
    let lease = lease(&lab);
    assert_eq!((lease.interface.as_str(), lease.mac.to_string().as_str()), ("eth0", MAC));
    assert_eq!((lease.address.to_string().as_str(), lease.prefix, lease.seconds), ("10.77.0.15", 24, 120));
    assert_eq!((lease.hostname.as_deref(), lease.gateway), (Some("node-15"), Some(lease.server)));
    let resolv = lab.text("/run/resolvconf/resolv.conf");
    assert!(resolv.ends_with("search rack.example\nnameserver 10.77.0.53\nnameserver 10.77.0.54\n"), "{resolv}");
    let address = lab.machine_does("ip -4 addr show eth0");
    assert!(address.contains("inet 10.77.0.15/24 brd 10.77.0.255") && address.contains("mtu 1400"), "{address}");
    assert_eq!(lab.machine_does("ip route show default").trim(), "default via 10.77.0.1 dev eth0");
    assert_eq!(lab.machine_does("hostname").trim(), "node-15");
    let phases = Phase::parse_lines(&lab.text("/run/ironhook/timeline.jsonl"));
    assert_eq!(phases.iter().map(|phase| phase.name.as_str()).collect::<Vec<_>>(), ["network"]);
}

#[test]
fn a_lease_is_renewed_without_cutting_the_address() {
    let Some(lab) = lab_with_dnsmasq("a_lease_is_renewed_without_cutting_the_address", &booted_by_eth0()) else {
        return;
    };
    lab.plug("eth0", MAC);
    let server = lab.dnsmasq("eth0", &[RANGE, "--dhcp-option=58,3", "--dhcp-option=59,50"]);
    let _network = lab.bootkit(&["network"]);
    server.expect("DHCPACK(s-eth0)");
    eventually("there is a lease", || !lab.text(LEASE).is_empty());
    mark(&lab);
    for _ in 0..2 {
        let lines = server.until("DHCPACK(s-eth0)");
        assert!(!lines.iter().any(|line| line.contains("DHCPDISCOVER")), "{lines:?}");
    }
    assert_unmoved(&lab);
}

#[test]
fn no_link_then_no_server_then_both() {
    let Some(lab) = lab_with_dnsmasq("no_link_then_no_server_then_both", &booted_by_eth0()) else { return };
    lab.plug("eth0", MAC);
    lab.outside_does("ip link set s-eth0 down");
    let network = lab.bootkit(&["network"]);
    network.expect(&format!("network: waiting for a link on eth0 {MAC}; is a cable plugged in?"));
    assert_eq!(lab.text(LEASE), "");
    lab.outside_does("ip link set s-eth0 up");
    network.expect("network: link is up on eth0, no DHCP answer for 10 s");
    let _server = lab.dnsmasq("eth0", &[RANGE]);
    network.expect("ironhook: network eth0 10.77.0.1");
    assert_eq!(lease(&lab).interface, "eth0");
}

#[test]
fn a_refused_renewal_starts_over() {
    let Some(lab) = lab_with_dnsmasq("a_refused_renewal_starts_over", &booted_by_eth0()) else { return };
    lab.plug("eth0", MAC);
    let first = lab.dnsmasq("eth0", &[RANGE, "--dhcp-option=58,4", "--dhcp-option=59,50"]);
    let network = lab.bootkit(&["network"]);
    network.expect("ironhook: network eth0 10.77.0.1");
    drop(first);
    let second = lab.dnsmasq("eth0", &[OTHER_RANGE, "--dhcp-authoritative"]);
    second.expect("DHCPNAK(s-eth0)");
    network.expect("network: lost the lease of eth0: its server refused the address");
    network.expect("ironhook: network eth0 10.77.0.10");
    let address = lab.machine_does("ip -4 -o addr show eth0");
    assert_eq!((address.lines().count(), address.contains("10.77.0.10")), (1, true), "{address}");
    assert_eq!(lease(&lab).address.octets()[3] / 10, 10);
    // A phase of the boot happens once.
    assert_eq!(Phase::parse_lines(&lab.text("/run/ironhook/timeline.jsonl")).len(), 1);
}

#[test]
fn a_killed_service_takes_its_address_up_again_without_cutting_it() {
    let test = "a_killed_service_takes_its_address_up_again_without_cutting_it";
    let Some(lab) = lab_with_dnsmasq(test, &booted_by_eth0()) else { return };
    lab.plug("eth0", MAC);
    let _server = lab.dnsmasq("eth0", &[RANGE]);
    let first = lab.bootkit(&["network"]);
    first.expect("ironhook: network eth0");
    drop(first);
    let before = lease(&lab);
    mark(&lab);
    lab.bootkit(&["network"]).expect("ironhook: network eth0");
    assert_eq!(lease(&lab), before);
    assert_unmoved(&lab);
}

#[test]
fn an_interface_that_appears_late_is_used() {
    let Some(lab) = lab_with_dnsmasq("an_interface_that_appears_late_is_used", &booted_by_eth0()) else { return };
    let network = lab.bootkit(&["network"]);
    network.expect(&format!("network: waiting for the interface {MAC} that the command line names"));
    lab.plug("eth0", MAC);
    let _server = lab.dnsmasq("eth0", &[RANGE]);
    network.expect("ironhook: network eth0 10.77.0.1");
}

#[test]
fn of_all_hardware_the_first_with_an_answer_wins() {
    let Some(lab) = lab_with_dnsmasq("of_all_hardware_the_first_with_an_answer_wins", "quiet") else { return };
    for (name, mac) in [("eth0", MAC), ("eth1", "02:00:00:77:00:02"), ("eth2", "02:00:00:77:00:03")] {
        lab.plug(name, mac);
    }
    lab.outside_does("ip link set s-eth0 down");
    // To sysfs a veth is no hardware: these look like it, with the kernel's own files inside.
    lab.machine_does(
        "mount -t tmpfs tmpfs /sys/class/net; cd /sys/class/net
         for name in eth0 eth1 eth2; do
             mkdir -p $name/device
             for file in address type carrier; do
                 touch $name/$file; mount --bind /sys/devices/virtual/net/$name/$file $name/$file
             done
         done",
    );
    let _server = lab.dnsmasq("eth2", &[RANGE]);
    let network = lab.bootkit(&["network"]);
    network.expect("ironhook: network eth2 10.77.0.1");
    assert_eq!(lease(&lab).mac.to_string(), "02:00:00:77:00:03");
}

#[test]
fn what_is_not_there_yet_is_refused_by_its_key() {
    for key in ["vlan_id=12", "ipam=02-00-00-77-00-01::10.0.0.2:255.255.255.0:::::"] {
        let Some(lab) = lab("what_is_not_there_yet_is_refused_by_its_key", key) else { return };
        let (status, output) = lab.bootkit(&["network"]).end();
        assert_eq!(status.code(), Some(1), "{output}");
        let (name, _) = key.split_once('=').unwrap();
        assert!(output.starts_with(&format!("ironhook: network failed [network]: {name}: ")), "{output}");
        assert_eq!(output.lines().count(), 2, "{output}");
    }
}
