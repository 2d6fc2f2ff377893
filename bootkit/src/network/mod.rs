//! `bootkit network`: gets an address by DHCP and keeps it, for as long as the machine runs.
//!
//! One loop owns everything: look at the interfaces, let each client hear and time out, use what it brings, wait.
//! The first interface with a lease wins and the others fall silent; when its lease ends all begin again.

mod apply;
mod client;
mod interfaces;
mod message;
mod port;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use spec::Mac;
use spec::boot::BootCode;
use spec::cmdline::{Cmdline, IPAM, VLAN_ID};
use sys::child::end_on_signals;
use sys::clock;
use sys::link::{LinkError, LinkEvents, wait_readable};

use self::apply::ApplyError;
use self::client::{Event, Moment, State};
use self::interfaces::{Interface, ListError};
use self::message::Granted;
use self::port::{Outcome, Port, describe};
use crate::chain;
use crate::console::{Teller, phase, say};
use crate::failure::Coded;

/// Without an answer for this long a person is told, then each time twice as long has passed.
const PATIENCE: u64 = 10_000;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The command line asks for what is not there yet.
    #[error("{0}")]
    Unsupported(String),
    /// The interfaces cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The kernel does not tell of changes.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A lease cannot be used.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Being asked to end.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// Waiting.
    #[error("cannot wait for packets")]
    Wait(#[source] io::Error),
}

impl Coded for NetworkError {
    fn code(&self) -> BootCode {
        BootCode::Network
    }
}

/// What the command line asks of the network that cannot be done, rather than done halfway.
pub fn unsupported(line: &Cmdline) -> Option<String> {
    if line.get(&IPAM).is_some() {
        return Some(
            "ipam: static addressing is not supported yet; remove the key and offer an address by DHCP".into(),
        );
    }
    let vlan = line.get(&VLAN_ID)?;
    Some(format!("vlan_id: tagged VLAN {vlan} is not supported yet; make it the native VLAN of the switch port"))
}

/// Runs until something fails that asking again cannot mend.
pub fn run(line: &Cmdline) -> Result<Infallible, NetworkError> {
    if let Some(reason) = unsupported(line) {
        return Err(NetworkError::Unsupported(reason));
    }
    end_on_signals().map_err(NetworkError::Signals)?;
    // Left by an earlier run of this service: nobody may rely on it while nobody renews it.
    apply::forget()?;
    let mut service = Service {
        boot: line.boot_mac(),
        started: clock::boot_ms(),
        events: LinkEvents::listen()?,
        ports: Vec::new(),
        held: None,
        online: false,
        patience: PATIENCE,
        chance: RandomState::new(),
        teller: Teller::default(),
    };
    loop {
        service.look()?;
        service.hear()?;
        service.time_out()?;
        service.wait()?;
    }
}

struct Service {
    boot: Option<Mac>,
    started: u64,
    events: LinkEvents,
    ports: Vec<Port>,
    /// The lease in use, of the only port.
    held: Option<Granted>,
    /// There was a lease before.
    online: bool,
    /// After this long without an answer it is told.
    patience: u64,
    chance: RandomState,
    teller: Teller,
}

impl Service {
    /// Interfaces that came and went, and their carriers.
    fn look(&mut self) -> Result<(), NetworkError> {
        let all = interfaces::list()?;
        let there = |port: &Port| all.iter().any(|each| each.name == port.name && each.mac == port.mac);
        if self.held.is_some() && !self.ports.iter().all(there) {
            say("network: the interface that had the lease is gone");
            apply::forget()?;
            self.held = None;
        }
        self.ports.retain(there);
        if self.held.is_none() {
            interfaces::candidates(&all, self.boot).iter().for_each(|interface| self.open(interface));
        }
        // Once more: one that was just brought up may have its carrier by now.
        let all = interfaces::list()?;
        if self.held.is_none() {
            self.tell_what_is_missing(&all, &interfaces::candidates(&all, self.boot));
        }
        for interface in all {
            if let Some(index) = self.ports.iter().position(|port| port.name == interface.name) {
                self.feed(index, Event::Carrier(interface.carrier))?;
            }
        }
        Ok(())
    }

    /// One that cannot be brought up must not keep the others from being asked.
    fn open(&mut self, interface: &Interface) {
        if self.ports.iter().any(|port| port.name == interface.name) {
            return;
        }
        match Port::open(interface) {
            Ok(port) => self.ports.push(port),
            Err(error) => self.teller.say(format!("network: {}", chain(&error))),
        }
    }

    fn hear(&mut self) -> Result<(), NetworkError> {
        let heard: Vec<_> = self.ports.iter().map(|port| (port.name.clone(), port.receive(&mut self.teller))).collect();
        for (name, events) in heard {
            for event in events {
                // The winner of an earlier event may have silenced this one.
                let Some(index) = self.ports.iter().position(|port| port.name == name) else { break };
                self.feed(index, event)?;
            }
        }
        Ok(())
    }

    fn time_out(&mut self) -> Result<(), NetworkError> {
        let now = clock::boot_ms();
        let due = |port: &&Port| port.state.due().is_some_and(|due| due <= now);
        let names: Vec<String> = self.ports.iter().filter(due).map(|port| port.name.clone()).collect();
        for name in names {
            if let Some(index) = self.ports.iter().position(|port| port.name == name) {
                self.feed(index, Event::Due)?;
            }
        }
        if let Some((since, names)) = self.searching()
            && now >= since + self.patience
        {
            let seconds = (now - since) / 1000;
            self.teller.say(format!(
                "network: link is up on {names}, no DHCP answer for {seconds} s: is there a DHCP server in this network, \
                 or does spanning tree still block the switch port? Asking on"
            ));
            self.patience *= 2;
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), NetworkError> {
        let told = self.searching().map(|(since, _)| since + self.patience);
        let due = self.ports.iter().filter_map(|port| port.state.due()).chain(told).min();
        let limit = due.map(|due| Duration::from_millis(due.saturating_sub(clock::boot_ms())));
        let fds: Vec<_> = self.ports.iter().map(AsFd::as_fd).chain([self.events.as_fd()]).collect();
        wait_readable(&fds, limit).map_err(NetworkError::Wait)?;
        Ok(self.events.drain()?)
    }

    fn feed(&mut self, index: usize, event: Event) -> Result<(), NetworkError> {
        let now = Moment { ms: clock::boot_ms(), random: self.chance.hash_one(clock::boot_ms()) as u32 };
        match self.ports[index].feed(event, now, &mut self.teller) {
            None => Ok(()),
            Some(Outcome::Take(granted)) => self.take(index, granted),
            Some(Outcome::Leave(why)) => {
                say(format_args!(
                    "network: lost the lease of {}: its server {}",
                    self.ports[index].name,
                    describe(&why)
                ));
                self.held = None;
                Ok(apply::leave(&self.ports[index].name)?)
            }
        }
    }

    fn take(&mut self, index: usize, granted: Granted) -> Result<(), NetworkError> {
        let winner = self.ports.swap_remove(index);
        self.ports.clear();
        let Port { name, mac, .. } = &winner;
        apply::take(name, *mac, &granted, self.held.as_ref())?;
        let shown = format!("network {name} {}/{} from {}", granted.address, granted.prefix, granted.server);
        if !self.online {
            phase("network", self.started, shown);
        } else if self.held.as_ref().map(|held| held.address) != Some(granted.address) {
            say(shown);
        }
        self.ports.push(winner);
        self.online = true;
        self.held = Some(granted);
        self.patience = PATIENCE;
        self.teller.forget();
        Ok(())
    }

    /// Since when there is a link and no answer, and where.
    fn searching(&self) -> Option<(u64, String)> {
        let since = self.ports.iter().filter_map(|port| port.state.searching_since()).min()?;
        let searching = self.ports.iter().filter(|port| port.state.searching_since().is_some());
        Some((since, searching.map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")))
    }

    fn tell_what_is_missing(&mut self, all: &[Interface], candidates: &[Interface]) {
        let listed = |list: &[Interface]| -> String {
            let names: Vec<String> = list.iter().map(|each| format!("{} {}", each.name, each.mac)).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        if candidates.is_empty() {
            self.teller.say(match self.boot {
                Some(mac) => format!(
                    "network: waiting for the interface {mac} that the command line names (there are: {}); \
                     is its driver in this image?",
                    listed(all)
                ),
                None => "network: waiting for an Ethernet interface; is its driver in this image?".to_owned(),
            });
        } else if candidates.iter().all(|each| !each.carrier)
            && self.ports.iter().all(|port| port.state == State::NoLink)
        {
            self.teller.say(format!("network: waiting for a link on {}; is a cable plugged in?", listed(candidates)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused_and_empty_keys_are_not_given() {
        let refused = |text| unsupported(&Cmdline::parse(text));
        assert!(refused("ipam=a:b").unwrap().starts_with("ipam: "));
        assert!(refused("vlan_id=12").unwrap().contains("VLAN 12"));
        assert_eq!(refused("vlan_id= ipam= hw_addr=02:00:00:00:00:01"), None);
    }
}
