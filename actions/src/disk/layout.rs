//! From the partitions that are wanted and those that exist to what has to be added. Pure. What exists is never moved,
//! resized or removed; the same wish twice adds nothing the second time.

use std::collections::BTreeMap;

use gpt::partition::Partition;
use gpt::partition_types::{self, Type};
use serde::Deserialize;
use spec::Code;
use uuid::Uuid;

use crate::failed::Coded;
use crate::report::size;

/// Every partition begins and, as far as we choose, ends at a multiple of this.
const ALIGNMENT: u64 = 1 << 20;
/// A name is at most this many UTF-16 units.
const NAME: usize = 36;

/// Why the wish cannot be granted; nothing was touched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The same name, something else.
    #[error("partition {label:?} exists as number {number} and differs: {difference}")]
    Differs {
        /// The name.
        label: String,
        /// In the table.
        number: u32,
        /// What differs.
        difference: String,
    },
    /// The number belongs to another partition.
    #[error("partition {label:?} wants number {number}, which {taken_by:?} has")]
    NumberTaken {
        /// The name.
        label: String,
        /// The number.
        number: u32,
        /// Who has it.
        taken_by: String,
    },
    /// No number is left, or the one asked for does not exist.
    #[error("partition {label:?} cannot have a number above {capacity}")]
    NoNumber {
        /// The name.
        label: String,
        /// Of the table.
        capacity: u32,
    },
    /// No gap is large enough.
    #[error("no room for partition {label:?} of {}: the largest free gap has {}", size(*wanted), size(*largest))]
    NoRoom {
        /// The name.
        label: String,
        /// Bytes.
        wanted: u64,
        /// Bytes.
        largest: u64,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::PartitionTable
    }
}

/// How large a partition shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Bytes, rounded up to the alignment.
    Bytes(u64),
    /// Of the whole disk.
    Percent(u8),
    /// The largest gap that the others leave.
    Rest,
}

/// One partition that shall be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its name, by which it is recognised the next time.
    pub label: String,
    /// How large.
    pub size: Size,
    /// What for.
    pub kind: Uuid,
    /// Its number, when that matters.
    pub number: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    label: String,
    size: String,
    r#type: String,
    number: Option<u32>,
}

/// Reads the list as it stands in the environment. Every problem names its entry.
pub fn parse(text: &str) -> Result<Vec<Wanted>, String> {
    let entries: Vec<Entry> = serde_json::from_str(text).map_err(|e| format!("is not a list of partitions: {e}"))?;
    let mut wanted: Vec<Wanted> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let at = |problem: String| format!("entry {index} ({:?}): {problem}", entry.label);
        if entry.label.is_empty() || entry.label.encode_utf16().count() > NAME {
            return Err(at(format!("the label must have 1 to {NAME} characters")));
        }
        if wanted.iter().any(|w| w.label == entry.label) {
            return Err(at("the label is there twice".into()));
        }
        if entry.number.is_some_and(|n| n == 0 || wanted.iter().any(|w| w.number == Some(n))) {
            return Err(at("the number is 0 or there twice".into()));
        }
        if wanted.iter().any(|w| w.size == Size::Rest) {
            return Err(at("comes after the entry that takes the rest".into()));
        }
        let size = parse_size(&entry.size).map_err(at)?;
        let kind = parse_kind(&entry.r#type).map_err(at)?;
        wanted.push(Wanted { size, kind, label: entry.label, number: entry.number });
    }
    if wanted.is_empty() { Err("is an empty list".into()) } else { Ok(wanted) }
}

fn parse_size(text: &str) -> Result<Size, String> {
    let bad = || format!("size {text:?} is neither like 512MiB, 25% nor rest");
    if text == "rest" {
        return Ok(Size::Rest);
    }
    if let Some(percent) = text.strip_suffix('%') {
        return percent.parse().ok().filter(|p| (1..=100).contains(p)).map(Size::Percent).ok_or_else(bad);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "KiB" | "K" => 10,
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "TiB" | "T" => 40,
        _ => return Err(bad()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| *n > 0);
    bytes.filter(|n| *n <= u64::MAX / 2).map(Size::Bytes).ok_or_else(bad)
}

fn parse_kind(text: &str) -> Result<Uuid, String> {
    match text {
        "linux" => Ok(partition_types::LINUX_FS.guid),
        "esp" => Ok(partition_types::EFI.guid),
        "swap" => Ok(partition_types::LINUX_SWAP.guid),
        "bios" => Ok(partition_types::BIOS.guid),
        guid => Uuid::try_parse(guid)
            .ok()
            .filter(|g| !g.is_nil())
            .ok_or_else(|| format!("type {guid:?} is none of linux, esp, swap, bios and no GUID")),
    }
}

/// The table a plan is made for.
#[derive(Clone, Debug)]
pub struct Situation {
    /// Used entries by number.
    pub existing: BTreeMap<u32, Partition>,
    /// First and last LBA that a partition may have.
    pub usable: (u64, u64),
    /// Bytes of a sector.
    pub sector: u64,
    /// Bytes of the disk.
    pub disk: u64,
    /// Entries of the table.
    pub capacity: u32,
}

/// What becomes of one wanted partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its number.
    pub number: u32,
    /// Its entry.
    pub partition: Partition,
    /// Whether it has to be written.
    pub is_new: bool,
}

/// One step for each wanted partition, in their order.
pub fn plan(wanted: &[Wanted], situation: &Situation) -> Result<Vec<Step>, Error> {
    let mut table = situation.existing.clone();
    let mut steps = Vec::new();
    for want in wanted {
        let step = match table.iter().find(|(_, p)| p.name == want.label) {
            Some((number, partition)) => {
                check_same(want, *number, partition, situation)?;
                Step { number: *number, partition: partition.clone(), is_new: false }
            }
            None => add(want, &table, situation, wanted)?,
        };
        table.insert(step.number, step.partition.clone());
        steps.push(step);
    }
    Ok(steps)
}

fn add(want: &Wanted, table: &BTreeMap<u32, Partition>, situation: &Situation, all: &[Wanted]) -> Result<Step, Error> {
    let number = match want.number {
        Some(number) => number,
        None => (1..=situation.capacity)
            .find(|n| !table.contains_key(n) && all.iter().all(|w| w.number != Some(*n)))
            .unwrap_or(u32::MAX),
    };
    if number > situation.capacity {
        return Err(Error::NoNumber { label: want.label.clone(), capacity: situation.capacity });
    }
    if let Some(taken_by) = table.get(&number) {
        return Err(Error::NumberTaken { label: want.label.clone(), number, taken_by: taken_by.name.clone() });
    }
    let gaps = gaps(table, situation);
    let largest = gaps.iter().copied().max_by_key(|(start, end)| end - start);
    let bytes = bytes(want.size, situation);
    let gap = match bytes {
        Some(bytes) => gaps.iter().copied().find(|(start, end)| end - start >= bytes),
        None => largest,
    };
    let Some((start, end)) = gap else {
        let largest = largest.map_or(0, |(start, end)| end - start);
        return Err(Error::NoRoom { label: want.label.clone(), wanted: bytes.unwrap_or(ALIGNMENT), largest });
    };
    let end = bytes.map_or(end, |bytes| start + bytes);
    let partition = Partition {
        part_type_guid: Type::from(want.kind),
        part_guid: Uuid::new_v4(),
        first_lba: start / situation.sector,
        last_lba: end / situation.sector - 1,
        flags: 0,
        name: want.label.clone(),
    };
    Ok(Step { number, partition, is_new: true })
}

/// Aligned bytes, or nothing for the rest.
fn bytes(size: Size, situation: &Situation) -> Option<u64> {
    match size {
        Size::Bytes(bytes) => Some(bytes.next_multiple_of(ALIGNMENT)),
        Size::Percent(percent) => {
            let share = (u128::from(situation.disk) * u128::from(percent) / 100) as u64;
            Some((share / ALIGNMENT * ALIGNMENT).max(ALIGNMENT))
        }
        Size::Rest => None,
    }
}

/// Free ranges of bytes, aligned, none empty.
fn gaps(table: &BTreeMap<u32, Partition>, situation: &Situation) -> Vec<(u64, u64)> {
    let sector = situation.sector;
    let mut used: Vec<(u64, u64)> = table.values().map(|p| (p.first_lba, p.last_lba.saturating_add(1))).collect();
    used.sort_unstable();
    let mut gaps = Vec::new();
    let mut free = situation.usable.0;
    for (first, after) in used.into_iter().chain([(situation.usable.1 + 1, situation.usable.1 + 1)]) {
        let start = (free * sector).next_multiple_of(ALIGNMENT);
        let end = first.min(situation.usable.1 + 1) * sector / ALIGNMENT * ALIGNMENT;
        if start < end {
            gaps.push((start, end));
        }
        free = free.max(after).min(situation.usable.1 + 1);
    }
    gaps
}

fn check_same(want: &Wanted, number: u32, partition: &Partition, situation: &Situation) -> Result<(), Error> {
    let has = (partition.last_lba.saturating_add(1)).saturating_sub(partition.first_lba) * situation.sector;
    let difference = match bytes(want.size, situation) {
        _ if want.number.is_some_and(|n| n != number) => Some("another number is wanted".to_owned()),
        _ if want.kind != partition.part_type_guid.guid => {
            Some(format!("its type is {}, {} is wanted", partition.part_type_guid.guid, want.kind))
        }
        Some(bytes) if bytes != has.next_multiple_of(ALIGNMENT) => {
            Some(format!("it has {}, {} is wanted", size(has), size(bytes)))
        }
        _ => None,
    };
    match difference {
        Some(difference) => Err(Error::Differs { label: want.label.clone(), number, difference }),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
