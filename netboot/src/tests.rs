//! What the tests of all services share: a rack of machines, a site, and the activity that comes out.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use spec::Mac;
use spec::activity::Activity;
use tokio::sync::mpsc;

use crate::{Boot, Installer, Lease, Loaders, Machine, Machines, Netboot, Settings, Sink};

pub(crate) const MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);

/// The machine of most tests: it may netboot, and a workflow waits for it.
pub(crate) fn machine() -> Machine {
    Machine {
        name: "default/machine-1".into(),
        mac: MAC,
        lease: Some(Lease {
            address: Ipv4Addr::new(10, 0, 0, 5),
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            name_servers: vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)],
            time_servers: vec![Ipv4Addr::new(10, 0, 0, 4)],
            hostname: Some("machine-1".into()),
            seconds: 3600,
        }),
        allow_pxe: true,
        arch: "x86_64".into(),
        boot: Boot::Installer(Installer {
            worker_id: "52:54:00:00:00:01".parse().unwrap(),
            facility: None,
            extra_args: vec![],
        }),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        address: Ipv4Addr::new(10, 0, 0, 1),
        interface: "eth0".into(),
        http_port: 7080,
        grpc_authority: "10.0.0.1:42113".into(),
        grpc_tls: false,
        grpc_insecure_tls: false,
        kernel_args: vec![],
        osie: "/nonexistent".into(),
        files: "/nonexistent".into(),
    }
}

/// Machines by MAC address and by the address of their lease.
pub(crate) struct Rack(pub Vec<Machine>);

impl Machines for Rack {
    fn by_mac(&self, mac: Mac) -> Option<Machine> {
        self.0.iter().find(|machine| machine.mac == mac).cloned()
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Machine> {
        self.0.iter().find(|machine| machine.lease.as_ref().is_some_and(|lease| lease.address == address)).cloned()
    }
}

/// A loader of 100,000 bytes, and one that ends with a full block of 512.
pub(crate) struct TwoLoaders;

impl Loaders for TwoLoaders {
    fn get(&self, name: &str) -> Option<Bytes> {
        match name {
            "undionly.kpxe" => Some(pattern(100_000)),
            "full.kpxe" => Some(pattern(1024)),
            _ => None,
        }
    }
}

pub(crate) fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// Services for these machines, with their files in `dir`.
pub(crate) fn netboot(machines: Vec<Machine>, dir: &Path) -> (Netboot, mpsc::Receiver<Activity>) {
    let (sender, receiver) = mpsc::channel(100);
    let settings = Settings { osie: dir.join("osie"), files: dir.join("files"), ..settings() };
    let netboot = Netboot {
        settings: Arc::new(settings),
        machines: Arc::new(Rack(machines)),
        loaders: Arc::new(TwoLoaders),
        sink: Sink::new(sender),
    };
    (netboot, receiver)
}
