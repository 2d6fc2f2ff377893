//! What the tests of all services share: a rack of machines, a site, and the activity that comes out.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use spec::Mac;
use spec::Secret;
use spec::activity::Activity;
use tokio::sync::{mpsc, watch};

use crate::rules::Rules;
use crate::{
    Facts, History, Installer, Interface, Lease, Loaders, Machine, Machines, Mode, Netboot, Settings, Sighting, Sink,
    Workflow, WorkflowState,
};

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
        always_netboot: false,
        arch: "x86_64".into(),
        labels: Default::default(),
        instance: None,
        workflow: Workflow { name: "default/w".into(), state: WorkflowState::Pending, reason: String::new() },
        custom: None,
        loaders: vec![],
        pxelinux: None,
        iso: None,
        installer: Ok(Installer::of("52:54:00:00:00:01".parse().unwrap())),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        address: Ipv4Addr::new(10, 0, 0, 1),
        interfaces: vec![Interface { name: "eth0".into(), mode: Mode::Reservation, address: None }],
        http_port: 7080,
        grpc_authority: "10.0.0.1:42113".into(),
        grpc_tls: false,
        grpc_insecure_tls: false,
        kernel_args: vec![],
        osie: "/nonexistent".into(),
        files: "/nonexistent".into(),
        raspberry: None,
        rules: Arc::new(Rules::new(vec![]).unwrap()),
        loaders: Default::default(),
        patience: std::time::Duration::from_secs(180),
    }
}

/// Machines by MAC address and by the address of their lease.
pub(crate) struct Rack(pub Vec<Arc<Machine>>, pub u32);

impl Machines for Rack {
    fn by_mac(&self, mac: Mac) -> Option<Arc<Machine>> {
        self.0.iter().find(|machine| machine.mac == mac).cloned()
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Arc<Machine>> {
        self.0.iter().find(|machine| machine.lease.as_ref().is_some_and(|lease| lease.address == address)).cloned()
    }

    fn history(&self, mac: Mac) -> History {
        History { boots: self.1, facts: Facts { mac: Some(mac), ..Facts::default() } }
    }

    fn ticket(&self, _: Mac) -> Option<Secret> {
        None
    }
}

/// A loader of 100,000 bytes, and one that ends with a full block of 512.
pub(crate) struct TwoLoaders;

impl Loaders for TwoLoaders {
    fn get(&self, name: &str) -> Option<Bytes> {
        match name {
            "undionly.kpxe" => Some(pattern(100_000)),
            "full.kpxe" => Some(pattern(1024)),
            "snponly.efi" | "ipxe.efi" | "ipxe-arm64.efi" => Some(pattern(5000)),
            _ => None,
        }
    }
}

pub(crate) fn pattern(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// What services tell, as far as it is activity.
pub(crate) struct Seen(mpsc::Receiver<Sighting>);

impl Seen {
    pub(crate) async fn recv(&mut self) -> Option<Activity> {
        loop {
            if let Sighting::Activity(activity) = self.0.recv().await? {
                return Some(activity);
            }
        }
    }

    pub(crate) fn try_recv(&mut self) -> Result<Activity, mpsc::error::TryRecvError> {
        loop {
            if let Sighting::Activity(activity) = self.0.try_recv()? {
                return Ok(activity);
            }
        }
    }

    /// Everything so far.
    pub(crate) fn all(&mut self) -> Vec<Sighting> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// Services for these machines, with their files in `dir`.
pub(crate) fn netboot(machines: Vec<Machine>, dir: &Path) -> (Netboot, Seen) {
    netboot_with(machines, dir, |_| {})
}

/// The same on a site that differs.
pub(crate) fn netboot_with(machines: Vec<Machine>, dir: &Path, differ: impl FnOnce(&mut Settings)) -> (Netboot, Seen) {
    let (sender, receiver) = mpsc::channel(100);
    let mut settings = Settings { osie: dir.join("osie"), files: dir.join("files"), ..settings() };
    differ(&mut settings);
    let rack = Rack(machines.into_iter().map(Arc::new).collect(), 0);
    let (_, settings) = watch::channel(Arc::new(settings));
    let netboot = Netboot::new(settings, Arc::new(rack), Arc::new(TwoLoaders), Sink::new(sender));
    (netboot, Seen(receiver))
}
