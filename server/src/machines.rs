//! Who is who: an index of Hardware and of the workflows that wait for it, kept up with the store. It answers netboot
//! and the metadata service at once and from memory; what must be exact to the last report is asked of the store.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use netboot::{Boot, Installer, Lease, Machine};
use spec::{Mac, WorkerId};
use tokio::sync::watch;

use crate::apply::stored;
use crate::objects::hardware::{Dhcp, HardwareSpec, Interface};
use crate::objects::workflow::{State, WorkflowSpec, WorkflowStatus};
use crate::objects::{Key, Kind, Object};
use crate::store::{Store, StoreError};

/// For leases without a time of their own; 0 makes clients loop (wire §12.37).
const LEASE_SECONDS: u32 = 86_400;
/// For interfaces that say nothing of their subnet.
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// For interfaces that say nothing of their machine.
const ARCH: &str = "x86_64";

/// A Hardware and what waits for it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which one.
    pub key: Key,
    /// Its spec.
    pub spec: HardwareSpec,
    /// The workflow that its next boot is for.
    waiting: Option<Waiting>,
    /// How its newest workflow ended, when none waits.
    ended: Option<String>,
}

/// What a workflow means to a machine.
#[derive(Clone, Debug)]
struct Waiting {
    /// It lets the machine netboot.
    toggled: bool,
    /// It has begun.
    running: bool,
    /// The machine as the template spells it in `worker`, if it does: only a worker of that very name is served.
    worker: Option<String>,
}

#[derive(Default)]
struct Index {
    records: Vec<Arc<Record>>,
    by_mac: HashMap<Mac, usize>,
    by_address: HashMap<IpAddr, usize>,
    by_worker: HashMap<String, usize>,
}

/// The index of one moment; cheap to clone and to ask.
#[derive(Clone)]
pub struct Machines(watch::Receiver<Arc<Index>>);

/// Keeps the index up to date until the store is closed.
pub struct Keeper {
    store: Arc<dyn Store>,
    sender: watch::Sender<Arc<Index>>,
}

/// Reads the index for the first time.
pub fn open(store: Arc<dyn Store>) -> Result<(Machines, Keeper), StoreError> {
    let (sender, receiver) = watch::channel(Arc::new(Index::read(&*store)?));
    Ok((Machines(receiver), Keeper { store, sender }))
}

impl Keeper {
    /// Follows the store until `shutdown` ends.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut revision = self.store.revision();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                changed = revision.changed() => if changed.is_err() { return },
            }
            revision.mark_unchanged();
            match Index::read(&*self.store) {
                Ok(index) => drop(self.sender.send_replace(Arc::new(index))),
                Err(error) => tracing::error!(%error, "machines are as they were, the store cannot be read"),
            }
        }
    }
}

impl Machines {
    /// The machine whose reserved or instance address this is.
    pub fn record_by_address(&self, address: IpAddr) -> Option<Arc<Record>> {
        let index = self.0.borrow();
        index.by_address.get(&address).map(|at| Arc::clone(&index.records[*at]))
    }

    /// The machine of this worker.
    pub fn record_by_worker(&self, worker: &str) -> Option<Arc<Record>> {
        let index = self.0.borrow();
        index.by_worker.get(worker).map(|at| Arc::clone(&index.records[*at]))
    }

    fn record_by_mac(&self, mac: Mac) -> Option<Arc<Record>> {
        let index = self.0.borrow();
        index.by_mac.get(&mac).map(|at| Arc::clone(&index.records[*at]))
    }
}

impl netboot::Machines for Machines {
    fn by_mac(&self, mac: Mac) -> Option<Machine> {
        let record = self.record_by_mac(mac)?;
        let (interface, dhcp) = record.spec.interface(mac)?;
        Some(record.machine(mac, interface, dhcp))
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Machine> {
        let record = self.record_by_address(address.into())?;
        let reserved = |i: &&Interface| {
            i.dhcp.as_ref().and_then(|d| d.ip.as_ref()).is_some_and(|ip| ip.address == IpAddr::V4(address))
        };
        let interface = record.spec.interfaces.iter().find(reserved)?;
        let dhcp = interface.dhcp.as_ref()?;
        Some(record.machine(dhcp.mac?, interface, dhcp))
    }
}

impl Record {
    /// Its first MAC address, for what is told about it.
    pub fn mac(&self) -> Option<Mac> {
        self.spec.interfaces.iter().find_map(|i| i.dhcp.as_ref()?.mac)
    }

    fn machine(&self, mac: Mac, interface: &Interface, dhcp: &Dhcp) -> Machine {
        let netboot = interface.netboot.as_ref();
        let allowed = netboot.and_then(|n| n.allow_pxe).unwrap_or(false);
        let toggled = self.waiting.as_ref().is_some_and(|waiting| waiting.toggled);
        Machine {
            name: self.key.id(),
            mac,
            lease: if interface.disable_dhcp { None } else { lease(dhcp) },
            allow_pxe: allowed || toggled,
            arch: dhcp.arch.clone().filter(|arch| !arch.is_empty()).unwrap_or_else(|| ARCH.into()),
            boot: self.boot(mac, netboot),
        }
    }

    fn boot(&self, mac: Mac, netboot: Option<&crate::objects::hardware::Netboot>) -> Boot {
        let agent_id = || self.spec.agent_id.clone().filter(|id| !id.is_empty());
        let spelled = self.waiting.as_ref().and_then(|waiting| waiting.worker.clone());
        let worker = spelled.or_else(agent_id).unwrap_or_else(|| mac.to_string());
        match (&self.waiting, WorkerId::try_from(worker)) {
            (None, _) => Boot::Disk {
                why: match &self.ended {
                    None => "no workflow is waiting".into(),
                    Some(ended) => format!("no workflow is waiting, {ended}"),
                },
            },
            (Some(_), Err(error)) => Boot::Disk { why: format!("its worker id cannot be used: {error}") },
            (Some(_), Ok(worker_id)) => Boot::Installer(Installer {
                worker_id,
                facility: self.facility(),
                extra_args: netboot.and_then(|n| n.osie.as_ref()).map(|o| o.kernel_params.clone()).unwrap_or_default(),
            }),
        }
    }

    fn facility(&self) -> Option<String> {
        let facility = self.spec.metadata.as_ref()?.facility.as_ref()?;
        facility.get("facility_code")?.as_str().filter(|code| !code.is_empty()).map(str::to_owned)
    }
}

fn lease(dhcp: &Dhcp) -> Option<Lease> {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    let ip = dhcp.ip.as_ref()?;
    Some(Lease {
        address: v4(ip.address)?,
        netmask: ip.netmask.and_then(v4).unwrap_or(NETMASK),
        gateway: ip.gateway.and_then(v4),
        name_servers: dhcp.name_servers.iter().copied().filter_map(v4).collect(),
        time_servers: dhcp.time_servers.iter().filter_map(|text| text.parse().ok()).collect(),
        hostname: dhcp.hostname.clone().filter(|name| !name.is_empty()),
        seconds: dhcp.lease_time.and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(LEASE_SECONDS),
    })
}

impl Index {
    fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let objects = stored(store)?;
        let mut index = Self::default();
        let (hardware, others): (Vec<_>, Vec<_>) = objects.iter().partition(|o| o.key.kind == Kind::Hardware);
        for object in hardware {
            match object.spec::<HardwareSpec>() {
                Ok(spec) => index.add(object.key.clone(), spec),
                Err(error) => tracing::warn!(%error, "left out"),
            }
        }
        for object in others.into_iter().filter(|o| o.key.kind == Kind::Workflow) {
            match (object.spec::<WorkflowSpec>(), object.status::<WorkflowStatus>()) {
                (Ok(spec), Ok(status)) => index.assign(object, &spec, &status),
                (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "left out"),
            }
        }
        Ok(index)
    }

    fn add(&mut self, key: Key, spec: HardwareSpec) {
        let at = self.records.len();
        for dhcp in spec.interfaces.iter().filter_map(|i| i.dhcp.as_ref()) {
            self.by_mac.extend(dhcp.mac.map(|mac| (mac, at)));
            self.by_address.extend(dhcp.ip.as_ref().map(|ip| (ip.address, at)));
        }
        let instance = spec.metadata.as_ref().and_then(|m| m.instance.as_ref());
        for ip in instance.iter().flat_map(|i| &i.ips).filter_map(|ip| ip.address) {
            self.by_address.entry(ip).or_insert(at);
        }
        self.by_worker.extend(spec.worker_ids().into_iter().map(|id| (id, at)));
        self.records.push(Arc::new(Record { key, spec, waiting: None, ended: None }));
    }

    /// A workflow belongs to its Hardware, and to the machines of all its workers.
    fn assign(&mut self, object: &Object, spec: &WorkflowSpec, status: &WorkflowStatus) {
        let waits = matches!(status.state, State::Preparing | State::Pending | State::Running)
            && !spec.disabled.unwrap_or(false);
        let toggled = spec.boot_options.as_ref().and_then(|b| b.toggle_allow_netboot).unwrap_or(false);
        let named = |record: &Record| {
            record.key.namespace == object.key.namespace
                && (spec.hardware_ref.as_ref() == Some(&record.key.name)
                    || status.tasks.iter().any(|task| record.spec.worker_ids().contains(&task.agent_id)))
        };
        for record in self.records.iter_mut().filter(|record| named(record)) {
            let record = Arc::make_mut(record);
            let running = status.state == State::Running;
            // What has begun is finished first.
            if waits && (running || record.waiting.as_ref().is_none_or(|other| !other.running)) {
                let worker = worker_of(&record.spec, status);
                record.waiting = Some(Waiting { toggled, running, worker });
            } else if status.state.is_final() {
                record.ended = Some(format!("workflow {} has ended with {}", object.key.id(), status.state));
            }
        }
    }
}

/// The name that a workflow has for a machine: in the first of its tasks that is not done, or else in any.
fn worker_of(spec: &HardwareSpec, status: &WorkflowStatus) -> Option<String> {
    let ids = spec.worker_ids();
    let mut own = status.tasks.iter().filter(|task| ids.contains(&task.agent_id)).peekable();
    let first = own.peek().map(|task| task.agent_id.clone());
    own.find(|task| task.actions.iter().any(|action| !action.state.is_final()))
        .map(|task| task.agent_id.clone())
        .or(first)
}
