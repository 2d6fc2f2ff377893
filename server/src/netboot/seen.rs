//! What machines that boot have said and done: facts, the address each asked from, its boots, and a timeline. In memory
//! and bounded: strangers never push out a machine that has a Hardware. Of those that have one it is kept over a restart,
//! written at every boot script and when the server ends; nothing depends on it but comfort, metadata in proxy mode until
//! the next boot script, and the count that parks a boot loop.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netboot::{Facts, History, Sighting, Step};
use serde::{Deserialize, Serialize};
use spec::Mac;
use spec::activity::{Activity, What};

use super::kept::Kept;

/// Machines without a Hardware that are remembered at the same time.
const STRANGERS: usize = 1024;
/// Moments of one machine.
const MOMENTS: usize = 64;

/// One line of a timeline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// In words.
    pub what: String,
}

/// See above.
#[derive(Default)]
pub struct Seen {
    table: Mutex<Table>,
    kept: Option<Kept>,
}

#[derive(Default)]
struct Table {
    known: HashMap<Mac, Entry>,
    strangers: HashMap<Mac, Entry>,
    by_address: HashMap<Ipv4Addr, Mac>,
}

/// Of one machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    facts: Facts,
    /// Scripts handed out, and for which workflow in which state.
    pub(super) boots: (u32, String),
    moments: VecDeque<Moment>,
    steps: VecDeque<Step>,
    pub(super) last_ms: u64,
    /// There is more than was written.
    #[serde(skip)]
    dirty: bool,
}

impl Seen {
    /// With what was kept of machines before.
    pub fn open(kept: Kept) -> Self {
        let known: HashMap<Mac, Entry> = kept.read().into_iter().collect();
        let mut addresses: Vec<_> =
            known.iter().filter_map(|(mac, e)| Some((e.last_ms, e.facts.address?, *mac))).collect();
        // Where two were seen at one address, the later one has it.
        addresses.sort_unstable();
        let by_address = addresses.into_iter().map(|(_, address, mac)| (address, mac)).collect();
        let table = Mutex::new(Table { known, strangers: HashMap::new(), by_address });
        Self { table, kept: Some(kept) }
    }

    /// Forgets those that have no Hardware any more.
    pub fn keep_only(&self, has: impl Fn(Mac) -> bool) {
        let mut table = self.table();
        let gone: Vec<Mac> = table.known.keys().copied().filter(|mac| !has(*mac)).collect();
        for mac in gone {
            table.known.remove(&mac);
            table.by_address.retain(|_, owner| *owner != mac);
            self.kept.iter().for_each(|kept| kept.remove(mac));
        }
    }

    /// Writes what is not written yet.
    pub fn flush(&self) {
        let Some(kept) = &self.kept else { return };
        for (mac, entry) in self.table().known.iter_mut().filter(|(_, entry)| entry.dirty) {
            kept.write(*mac, entry);
            entry.dirty = false;
        }
    }

    /// Takes in what netboot tells; the rest is for the activity. `state`: the machine's workflow and its state, none
    /// for a machine that has no Hardware.
    pub fn note(&self, sighting: &Sighting, state: impl Fn(Mac) -> Option<String>) {
        let (mac, at_ms) = match sighting {
            Sighting::Activity(Activity { mac, at_ms, .. }) => (*mac, *at_ms),
            Sighting::Facts(mac, _) => (Some(*mac), netboot::now_ms()),
            Sighting::Step { mac, at_ms, .. } => (Some(*mac), *at_ms),
        };
        let Some(mac) = mac else { return };
        let state = state(mac);
        let known = state.is_some();
        let mut table = self.table();
        if let Sighting::Facts(mac, facts) = sighting
            && let Some(address) = facts.address
        {
            table.by_address.insert(address, *mac);
        }
        let entry = table.entry(mac, known);
        entry.last_ms = at_ms;
        entry.dirty = true;
        let mut write = None;
        match sighting {
            Sighting::Facts(_, facts) => entry.facts.learn((**facts).clone()),
            Sighting::Activity(activity) => entry.moment(at_ms, words(&activity.what)),
            Sighting::Step { step, .. } => {
                if let Step::Script { .. } = step {
                    let state = state.unwrap_or_default();
                    let before = if entry.boots.1 == state { entry.boots.0 } else { 0 };
                    entry.boots = (before + 1, state);
                }
                entry.moment(at_ms, step_words(step));
                if entry.steps.len() == MOMENTS {
                    entry.steps.pop_front();
                }
                entry.steps.push_back(step.clone());
                if known && matches!(step, Step::Script { .. }) {
                    entry.dirty = false;
                    write = Some(entry.clone());
                }
            }
        }
        drop(table);
        if let (Some(kept), Some(entry)) = (&self.kept, write) {
            kept.write(mac, &entry);
        }
    }

    /// What is remembered of a machine whose workflow is in this state.
    pub fn history(&self, mac: Mac, state: &str) -> History {
        let table = self.table();
        let Some(entry) = table.known.get(&mac).or_else(|| table.strangers.get(&mac)) else {
            return History::default();
        };
        let boots = if entry.boots.1 == state { entry.boots.0 } else { 0 };
        History { boots, facts: entry.facts.clone() }
    }

    /// Who last asked from an address.
    pub fn at(&self, address: Ipv4Addr) -> Option<Mac> {
        self.table().by_address.get(&address).copied()
    }

    /// Of one machine, oldest first.
    pub fn timeline(&self, mac: Mac) -> Vec<Moment> {
        let table = self.table();
        let entry = table.known.get(&mac).or_else(|| table.strangers.get(&mac));
        entry.map(|entry| entry.moments.iter().cloned().collect()).unwrap_or_default()
    }

    /// Of all machines, for the doctor.
    pub fn steps(&self) -> BTreeMap<Mac, Vec<Step>> {
        let table = self.table();
        let all = table.known.iter().chain(&table.strangers);
        all.map(|(mac, entry)| (*mac, entry.steps.iter().cloned().collect())).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn entry(&mut self, mac: Mac, known: bool) -> &mut Entry {
        if known {
            let before = self.strangers.remove(&mac);
            return self.known.entry(mac).or_insert_with(|| before.unwrap_or_default());
        }
        if self.strangers.len() >= STRANGERS && !self.strangers.contains_key(&mac) {
            // A quarter at once, so that a flood does not search the table for each.
            let mut times: Vec<u64> = self.strangers.values().map(|entry| entry.last_ms).collect();
            times.sort_unstable();
            let cut = times[STRANGERS / 4];
            self.strangers.retain(|_, entry| entry.last_ms > cut);
            let (known, strangers) = (&self.known, &self.strangers);
            self.by_address.retain(|_, mac| known.contains_key(mac) || strangers.contains_key(mac));
        }
        self.strangers.entry(mac).or_default()
    }
}

impl Entry {
    fn moment(&mut self, at_ms: u64, what: String) {
        if self.moments.len() == MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment { at_ms, what });
    }
}

fn words(what: &What) -> String {
    match what {
        What::Dhcp { address, client } if client.is_empty() => format!("ACK {address}"),
        What::Dhcp { address, client } => format!("ACK {address} to {client}"),
        What::Refused { asked, why } => format!("refused {asked}: {why}"),
        What::Script { boots } => format!("script: {boots}"),
        What::File { service, path, bytes, total, ms } => {
            let rate = *bytes as f64 / 1e6 / (*ms as f64 / 1e3).max(0.001);
            let end = if bytes < total { format!(" of {total}, broken off") } else { String::new() };
            format!("{service}: {path}, {bytes} bytes{end} in {ms} ms ({rate:.1} MB/s)")
        }
        What::Phase { phase } => format!("phase {}", phase.name),
        other => format!("{other:?}"),
    }
}

fn step_words(step: &Step) -> String {
    match step {
        Step::Discover { client } if client.is_empty() => "DISCOVER".into(),
        Step::Discover { client } => format!("DISCOVER by {client}"),
        Step::Offer { mode, file } => format!("OFFER ({mode}) {file}"),
        Step::ChoseOther { server } => format!("took the offer of {server}"),
        Step::NextLoader { file } => format!("the loader before showed no sign; next: {file}"),
        Step::Script { boots, rule } => format!("rule {rule:?}: {boots}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(last: u32) -> Sighting {
        let [a, b, c, d] = last.to_be_bytes();
        let step = Step::Script { boots: "disk".into(), rule: "x".into() };
        Sighting::Step { at_ms: u64::from(last), mac: Mac::new([2, 0, a, b, c, d]), step }
    }

    const FIRST: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn boots_count_within_one_state_of_one_workflow() {
        let seen = Seen::default();
        for _ in 0..3 {
            seen.note(&script(1), |_| Some("w failed".into()));
        }
        assert_eq!(seen.history(FIRST, "w failed").boots, 3);
        assert_eq!(seen.history(FIRST, "w2 pending").boots, 0);
        seen.note(&script(1), |_| Some("w2 pending".into()));
        assert_eq!(seen.history(FIRST, "w2 pending").boots, 1);
        assert_eq!(seen.timeline(FIRST).len(), 4);
    }

    #[test]
    fn a_restart_forgets_no_boot_of_a_machine_that_has_a_hardware() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Seen::open(Kept::new(dir.path()));
        let seen = open();
        let facts = Facts { address: Some([10, 0, 0, 7].into()), ..Facts::default() };
        seen.note(&Sighting::Facts(FIRST, Box::new(facts)), |_| Some("w failed".into()));
        for _ in 0..2 {
            seen.note(&script(1), |_| Some("w failed".into()));
            seen.note(&script(2), |_| None);
        }
        // As after kill -9: nothing was flushed.
        let seen = open();
        assert_eq!((seen.history(FIRST, "w failed").boots, seen.timeline(FIRST).len()), (2, 2));
        assert_eq!(seen.at([10, 0, 0, 7].into()), Some(FIRST));
        assert_eq!(seen.table().known.len(), 1, "strangers are not kept");
        let discover = Step::Discover { client: "iPXE".into() };
        seen.note(&Sighting::Step { at_ms: 9, mac: FIRST, step: discover }, |_| Some("w failed".into()));
        seen.flush();
        let seen = open();
        assert_eq!(seen.timeline(FIRST).last().unwrap().what, "DISCOVER by iPXE");
        seen.keep_only(|_| false);
        assert_eq!((seen.at([10, 0, 0, 7].into()), open().table().known.len()), (None, 0));
    }

    #[test]
    fn a_flood_of_strangers_is_bounded_and_forgets_no_known_machine() {
        let seen = Seen::default();
        seen.note(&script(1), |_| Some(String::new()));
        let facts = Facts { address: Some([10, 0, 0, 7].into()), ..Facts::default() };
        seen.note(&Sighting::Facts(FIRST, Box::new(facts)), |_| Some(String::new()));
        for last in 2..100_000 {
            let Sighting::Step { mac, .. } = script(last) else { unreachable!() };
            let facts = Facts { address: Some((0x0b00_0000 + last).into()), ..Facts::default() };
            seen.note(&script(last), |_| None);
            seen.note(&Sighting::Facts(mac, Box::new(facts)), |_| None);
        }
        let table = seen.table();
        assert!(
            table.strangers.len() <= STRANGERS && table.by_address.len() <= STRANGERS + 2,
            "{}",
            table.by_address.len()
        );
        drop(table);
        assert_eq!(seen.at([10, 0, 0, 7].into()), Some(FIRST));
        assert_eq!(seen.history(FIRST, "").boots, 1);
        for last in 0..200 {
            seen.note(
                &Sighting::Step { at_ms: last, mac: FIRST, step: Step::Discover { client: String::new() } },
                |_| Some(String::new()),
            );
        }
        assert_eq!(seen.timeline(FIRST).len(), MOMENTS);
    }
}
