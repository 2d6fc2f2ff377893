//! netboot's questions, answered from the index of machines and from what was seen of them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use netboot::{History, Machine};
use spec::{Mac, Secret};

use super::{Seen, Tickets};
use crate::machines::Machines;

/// Everything that a boot is decided by.
#[derive(Clone)]
pub struct Rack {
    /// Who is who.
    pub machines: Machines,
    /// What they did.
    pub seen: Arc<Seen>,
    /// In their scripts; none on a site that wants none.
    pub tickets: Option<Arc<Tickets>>,
}

impl Rack {
    /// The workflow of a machine and its state, as boots are counted by; none without a Hardware.
    pub fn state(&self, mac: Mac) -> Option<String> {
        self.machines.machine(mac).map(|machine| state(&machine))
    }
}

impl netboot::Machines for Rack {
    fn by_mac(&self, mac: Mac) -> Option<Arc<Machine>> {
        self.machines.machine(mac)
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Arc<Machine>> {
        // What is reserved is certain, what was seen is not.
        self.machines.machine_at(address).or_else(|| self.machines.machine(self.seen.at(address)?))
    }

    fn history(&self, mac: Mac) -> History {
        let state = self.machines.machine(mac).map(|machine| state(&machine)).unwrap_or_default();
        self.seen.history(mac, &state)
    }

    fn ticket(&self, mac: Mac) -> Option<Secret> {
        Some(self.tickets.as_ref()?.mint(mac, Instant::now()))
    }
}

fn state(machine: &Machine) -> String {
    format!("{} {}", machine.workflow.name, machine.workflow.state.as_str())
}
