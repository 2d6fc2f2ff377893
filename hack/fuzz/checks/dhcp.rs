//! Any datagram on the DHCP ports: no panic, what was understood survives being sent on, and what is answered, in every
//! mode, to a machine that is known and to one that is not, is a whole message about the same transaction.
//! Shared by the fuzz target and the replay of its seeds.

use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Bytes;
use netboot::dhcp::{Port, probe};
use netboot::rules::Rules;
use netboot::{History, Installer, Interface, Lease, Loaders, Machine, Machines, Mode, Netboot, Settings, Sink};
use spec::dhcp::Packet;
use spec::{Mac, Secret};
use tokio::sync::{mpsc, watch};

/// Every MAC address that ends in an even byte is the known machine.
struct Half(Arc<Machine>);

impl Machines for Half {
    fn by_mac(&self, mac: Mac) -> Option<Arc<Machine>> {
        mac.octets()[5].is_multiple_of(2).then(|| Arc::clone(&self.0))
    }

    fn by_address(&self, _: Ipv4Addr) -> Option<Arc<Machine>> {
        None
    }

    fn history(&self, _: Mac) -> History {
        History::default()
    }

    fn ticket(&self, _: Mac) -> Option<Secret> {
        None
    }
}

struct All;

impl Loaders for All {
    fn get(&self, _: &str) -> Option<Bytes> {
        Some(Bytes::from_static(b"a loader"))
    }
}

fn site() -> Netboot {
    let mac = Mac::new([0x52, 0x54, 0, 0, 0, 2]);
    let lease = Lease {
        address: [10, 0, 0, 5].into(),
        netmask: [255, 255, 255, 0].into(),
        gateway: Some([10, 0, 0, 254].into()),
        name_servers: vec![[10, 0, 0, 2].into(); 3],
        time_servers: vec![],
        hostname: Some("machine".into()),
        seconds: 60,
    };
    let machine = Machine {
        name: "default/one".into(),
        mac,
        lease: Some(lease),
        allow_pxe: true,
        always_netboot: true,
        arch: "x86_64".into(),
        labels: Default::default(),
        instance: None,
        workflow: Default::default(),
        custom: None,
        loaders: vec![],
        pxelinux: None,
        iso: None,
        installer: Ok(Installer::of(mac.to_string().parse().expect("a worker id"))),
    };
    let modes = [("reservation", Mode::Reservation), ("proxy", Mode::Proxy), ("auto", Mode::Auto), ("off", Mode::Off)];
    let interface = |(name, mode): (&str, Mode)| Interface { name: name.into(), mode, address: None };
    let settings = Settings {
        address: [10, 0, 0, 1].into(),
        interfaces: modes.into_iter().map(interface).collect(),
        http_port: 7080,
        grpc_authority: "10.0.0.1:42113".into(),
        grpc_tls: false,
        grpc_insecure_tls: false,
        kernel_args: vec![],
        osie: "/nonexistent".into(),
        files: "/nonexistent".into(),
        raspberry: None,
        rules: Arc::new(Rules::new(vec![]).expect("the built-in rules")),
        loaders: Default::default(),
        patience: Duration::from_secs(60),
    };
    let (_, settings) = watch::channel(Arc::new(settings));
    Netboot::new(settings, Arc::new(Half(Arc::new(machine))), Arc::new(All), Sink::new(mpsc::channel(1).0))
}

static SITE: LazyLock<Netboot> = LazyLock::new(site);

/// Reads it, and has it answered.
pub fn check(bytes: &[u8]) {
    let Ok(packet) = Packet::decode(bytes) else { return };
    let again = Packet::decode(&packet.encode()).expect("what we send can be read");
    assert_eq!(again.xid, packet.xid);
    assert_eq!(again.mac(), packet.mac());
    assert_eq!(again.message_type(), packet.message_type());
    for interface in ["reservation", "proxy", "auto", "off"] {
        for port in [Port::Server, Port::Boot] {
            let Some(reply) = probe(&SITE, (interface, port), bytes) else { continue };
            let reply = Packet::decode(&reply).expect("what we answer can be read");
            assert_eq!((reply.xid, reply.op), (packet.xid, 2));
            assert!(reply.options.truncated().is_none() && interface != "off");
            assert!(interface == "reservation" || reply.yiaddr.is_unspecified(), "a proxy gives no address");
        }
    }
}
