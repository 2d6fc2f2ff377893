//! Who is who: an index of Hardware and of the workflows that wait for it, kept up with the store. It answers netboot
//! and the metadata service at once and from memory; what must be exact to the last report is asked of the store.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use netboot::{Custom, Installer, Lease, Machine, Workflow, WorkflowState};
use spec::{Mac, WorkerId};
use tokio::sync::watch;

use crate::apply::stored;
use crate::netboot::Seen;
use crate::objects::hardware::{Dhcp, HardwareSpec, Interface};
use crate::objects::workflow::{State, WorkflowSpec, WorkflowStatus};
use crate::objects::{Key, Kind, Object};
use crate::store::{Store, StoreError};

#[cfg(test)]
mod tests;

/// For leases without a time of their own; 0 makes clients loop (wire §12.37).
const LEASE_SECONDS: u32 = 86_400;
/// For interfaces that say nothing of their subnet.
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// For interfaces that say nothing of their machine.
const ARCH: &str = "x86_64";
/// The label of a Hardware that gets the environment although no workflow waits.
const ALWAYS: &str = "ironhook.dev/always-netboot";

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
    ended: Option<Workflow>,
    /// Of its object.
    labels: BTreeMap<String, String>,
}

/// What a workflow means to a machine.
#[derive(Clone, Debug)]
struct Waiting {
    /// `namespace/name`.
    name: String,
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
    /// As netboot sees them, made once and not for every packet.
    machines: HashMap<Mac, Arc<Machine>>,
    /// Of addresses that DHCP gives.
    reserved: HashMap<Ipv4Addr, Mac>,
}

/// The index of one moment; cheap to clone and to ask.
#[derive(Clone)]
pub struct Machines {
    index: watch::Receiver<Arc<Index>>,
    /// Where machines were seen that somebody else gave an address.
    seen: Arc<Seen>,
}

/// Keeps the index up to date until the store is closed.
pub struct Keeper {
    store: Arc<dyn Store>,
    sender: watch::Sender<Arc<Index>>,
}

/// Reads the index for the first time.
pub fn open(store: Arc<dyn Store>, seen: Arc<Seen>) -> Result<(Machines, Keeper), StoreError> {
    let (sender, index) = watch::channel(Arc::new(Index::read(&*store)?));
    Ok((Machines { index, seen }, Keeper { store, sender }))
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
    /// The machine whose reserved or instance address this is, or else that was last seen there.
    pub fn record_by_address(&self, address: IpAddr) -> Option<Arc<Record>> {
        let index = self.index.borrow();
        let seen = || match address {
            IpAddr::V4(address) => index.by_mac.get(&self.seen.at(address)?),
            IpAddr::V6(_) => None,
        };
        let at = index.by_address.get(&address).or_else(seen)?;
        Some(Arc::clone(&index.records[*at]))
    }

    /// The machine with this interface.
    pub fn record_by_mac(&self, mac: Mac) -> Option<Arc<Record>> {
        let index = self.index.borrow();
        index.by_mac.get(&mac).map(|at| Arc::clone(&index.records[*at]))
    }

    /// The machine of this Hardware.
    pub fn record(&self, key: &Key) -> Option<Arc<Record>> {
        self.index.borrow().records.iter().find(|record| record.key == *key).cloned()
    }

    /// The machine of this worker.
    pub fn record_by_worker(&self, worker: &str) -> Option<Arc<Record>> {
        let index = self.index.borrow();
        index.by_worker.get(worker).map(|at| Arc::clone(&index.records[*at]))
    }

    /// As netboot sees the machine with this interface.
    pub fn machine(&self, mac: Mac) -> Option<Arc<Machine>> {
        self.index.borrow().machines.get(&mac).cloned()
    }

    /// As netboot sees the machine whose reserved address this is.
    pub fn machine_at(&self, address: Ipv4Addr) -> Option<Arc<Machine>> {
        let index = self.index.borrow();
        index.machines.get(index.reserved.get(&address)?).cloned()
    }

    /// Of every interface that is known.
    pub fn macs(&self) -> Vec<Mac> {
        let mut all: Vec<Mac> = self.index.borrow().machines.keys().copied().collect();
        all.sort();
        all
    }
}

impl Record {
    /// Its first MAC address, for what is told about it.
    pub fn mac(&self) -> Option<Mac> {
        self.spec.interfaces.iter().find_map(|i| i.dhcp.as_ref()?.mac)
    }

    fn machine(&self, mac: Mac, interface: &Interface, dhcp: &Dhcp) -> Machine {
        let netboot = interface.netboot.clone().unwrap_or_default();
        let toggled = self.waiting.as_ref().is_some_and(|waiting| waiting.toggled);
        let ipxe = netboot.ipxe.clone().unwrap_or_default();
        let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let instance = self.spec.instance();
        let labelled = self.labels.get(ALWAYS).is_some_and(|value| value == "true");
        Machine {
            name: self.key.id(),
            mac,
            lease: if interface.disable_dhcp { None } else { self.lease(dhcp) },
            allow_pxe: netboot.allow_pxe.unwrap_or(false) || toggled,
            always_netboot: labelled || instance.and_then(|i| i.always_pxe).unwrap_or(false),
            arch: dhcp.arch.clone().filter(|arch| !arch.is_empty()).unwrap_or_else(|| ARCH.into()),
            labels: self.labels.clone(),
            instance: some(instance.and_then(|i| i.state.clone())),
            workflow: self.workflow(),
            custom: some(instance.and_then(|i| i.ipxe_script_url.clone()))
                .map(Custom::Url)
                .or_else(|| some(ipxe.contents).map(Custom::Script))
                .or_else(|| some(ipxe.url).map(Custom::Url)),
            loaders: ipxe.binary.iter().flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect(),
            pxelinux: netboot.pxelinux.as_ref().and_then(|own| some(own.config.clone())),
            iso: interface.isoboot.as_ref().and_then(|own| some(own.source_iso.clone())),
            installer: self.installer(mac, &netboot, dhcp),
        }
    }

    fn workflow(&self) -> Workflow {
        match (&self.waiting, &self.ended) {
            (Some(waiting), _) => {
                let state = if waiting.running { WorkflowState::Running } else { WorkflowState::Pending };
                Workflow { name: waiting.name.clone(), state, reason: String::new() }
            }
            (None, Some(ended)) => ended.clone(),
            (None, None) => Workflow::default(),
        }
    }

    fn installer(
        &self,
        mac: Mac,
        netboot: &crate::objects::hardware::Netboot,
        dhcp: &Dhcp,
    ) -> Result<Installer, String> {
        let agent_id = || self.spec.agent_id.clone().filter(|id| !id.is_empty());
        let spelled = self.waiting.as_ref().and_then(|waiting| waiting.worker.clone());
        let worker = spelled.or_else(agent_id).unwrap_or_else(|| mac.to_string());
        let worker_id = WorkerId::try_from(worker).map_err(|error| format!("its worker id cannot be used: {error}"))?;
        let vlan = match dhcp.vlan_id.as_deref().filter(|tag| !tag.is_empty()) {
            None => None,
            Some(tag) => {
                let number = tag.parse().ok().filter(|number| (1..4095).contains(number));
                Some(
                    number
                        .ok_or_else(|| format!("its Hardware has the VLAN {tag:?}, which is no number of 1 to 4094"))?,
                )
            }
        };
        let osie = netboot.osie.clone().unwrap_or_default();
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Installer {
            facility: self.facility(),
            vlan,
            extra_args: osie.kernel_params,
            base_url: some(osie.base_url),
            kernel: some(osie.kernel),
            initrd: some(osie.initrd),
            ..Installer::of(worker_id)
        })
    }

    fn facility(&self) -> Option<String> {
        let facility = self.spec.metadata.as_ref()?.facility.as_ref()?;
        facility.get("facility_code")?.as_str().filter(|code| !code.is_empty()).map(str::to_owned)
    }
}

impl Record {
    /// What the Hardware says, and of the machine's name and address what its instance says, as metadata does.
    fn lease(&self, dhcp: &Dhcp) -> Option<Lease> {
        let instance = self.spec.instance();
        let name = instance.and_then(|instance| instance.hostname.clone());
        let some = |name: &String| !name.is_empty();
        let (address, netmask, gateway) = match &dhcp.ip {
            Some(ip) => (v4(ip.address)?, ip.netmask.and_then(v4), ip.gateway.and_then(v4)),
            // Without one of its own, the one interface of a machine has its instance's.
            None if self.spec.interfaces.len() == 1 => {
                let (ip, address) = instance?.ips.iter().find_map(|ip| Some((ip, ip.address.and_then(v4)?)))?;
                (address, ip.netmask.and_then(v4), ip.gateway.and_then(v4))
            }
            None => return None,
        };
        Some(Lease {
            address,
            netmask: netmask.unwrap_or(NETMASK),
            gateway,
            name_servers: dhcp.name_servers.iter().copied().filter_map(v4).collect(),
            time_servers: dhcp.time_servers.iter().filter_map(|text| text.parse().ok()).collect(),
            hostname: name.filter(some).or_else(|| dhcp.hostname.clone()).filter(some),
            seconds: dhcp.lease_time.and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0).unwrap_or(LEASE_SECONDS),
        })
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

impl Index {
    fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let objects = stored(store)?;
        let mut index = Self::default();
        let (hardware, others): (Vec<_>, Vec<_>) = objects.iter().partition(|o| o.key.kind == Kind::Hardware);
        for object in hardware {
            match object.spec::<HardwareSpec>() {
                Ok(spec) => index.add(object, spec),
                Err(error) => tracing::warn!(%error, "left out"),
            }
        }
        for object in others.into_iter().filter(|o| o.key.kind == Kind::Workflow) {
            match (object.spec::<WorkflowSpec>(), object.status::<WorkflowStatus>()) {
                (Ok(spec), Ok(status)) => index.assign(object, &spec, &status),
                (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "left out"),
            }
        }
        index.boots();
        Ok(index)
    }

    /// Last, when everything of a record is known.
    fn boots(&mut self) {
        for record in &self.records {
            for interface in &record.spec.interfaces {
                let Some((dhcp, mac)) = interface.dhcp.as_ref().and_then(|dhcp| Some((dhcp, dhcp.mac?))) else {
                    continue;
                };
                let machine = record.machine(mac, interface, dhcp);
                self.reserved.extend(machine.lease.as_ref().map(|lease| (lease.address, mac)));
                self.machines.insert(mac, Arc::new(machine));
            }
        }
    }

    fn add(&mut self, object: &Object, spec: HardwareSpec) {
        let at = self.records.len();
        for dhcp in spec.interfaces.iter().filter_map(|i| i.dhcp.as_ref()) {
            self.by_mac.extend(dhcp.mac.map(|mac| (mac, at)));
            self.by_address.extend(dhcp.ip.as_ref().map(|ip| (ip.address, at)));
        }
        let instance = spec.instance();
        for ip in instance.iter().flat_map(|i| &i.ips).filter_map(|ip| ip.address) {
            self.by_address.entry(ip).or_insert(at);
        }
        self.by_worker.extend(spec.worker_ids().into_iter().map(|id| (id, at)));
        let labels = serde_json::from_value(object.value["metadata"]["labels"].clone()).unwrap_or_default();
        self.records.push(Arc::new(Record { key: object.key.clone(), spec, waiting: None, ended: None, labels }));
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
                record.waiting = Some(Waiting { name: object.key.id(), toggled, running, worker });
            } else if status.state.is_final() {
                let state =
                    if status.state == State::Success { WorkflowState::Succeeded } else { WorkflowState::Failed };
                record.ended = Some(Workflow { name: object.key.id(), state, reason: status.reason() });
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
