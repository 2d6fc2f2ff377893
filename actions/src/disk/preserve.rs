//! Partitions that survive a new image: which ones, where they lie, the table that has them alone while the image is
//! being written, and their place in the table of the image. Must not write to a disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gpt::partition::Partition;
use spec::Code;
use sys::block::Device;

use crate::disk::blank;
use crate::disk::gpt::{Error as TableError, Table};
use crate::disk::held::{END, Held, View, Whole};
use crate::disk::stream::Geometry;
use crate::failed::{Coded, Failed};
use crate::select::wildcard;

/// Why partitions cannot be preserved; nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody knows what is on the disk.
    #[error("cannot read which partitions {} has, so none can be preserved", path.display())]
    Table {
        /// The disk.
        path: PathBuf,
        /// What is wrong with the table.
        source: TableError,
    },
    /// The disk cannot be read.
    #[error("cannot read the start of {}", path.display())]
    Head {
        /// The disk.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It has no partitions that could be preserved, but something.
    #[error("{} holds {what}: only partitions of a GPT can be preserved", path.display())]
    Other {
        /// The disk.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// A partition is itself no disk.
    #[error("{} is a partition: partitions can only be preserved on a whole disk", path.display())]
    Partition {
        /// The partition.
        path: PathBuf,
    },
    /// The image has no place for entries.
    #[error("the image does not begin with a GPT, so no partition can be preserved beside it")]
    NoTable,
    /// Both want the same place.
    #[error(
        "{kept} is to be preserved and begins at LBA {first}, but {of_image} of the image reaches to LBA {last}: they \
         cannot both be on the disk"
    )]
    Covered {
        /// What is to be preserved.
        kept: String,
        /// Where it begins.
        first: u64,
        /// What is in its way.
        of_image: String,
        /// Where that ends.
        last: u64,
    },
    /// It lies where every image has its own start.
    #[error("{kept} is to be preserved and lies within the first MiB of the disk, which the image needs")]
    InHead {
        /// What is to be preserved.
        kept: String,
    },
    /// It would preserve that one the next time.
    #[error(
        "PRESERVE_PARTITIONS: {term} is also {of_image} of the image: name what is to be preserved by a label of its own"
    )]
    Both {
        /// What the operator wrote.
        term: Term,
        /// What it fits, too.
        of_image: String,
    },
    /// Somebody was faster.
    #[error("the partitions of {} changed while the plan was made; nothing was done", path.display())]
    Changed {
        /// The disk.
        path: PathBuf,
    },
    /// They could not be told apart.
    #[error(
        "{kept} is to be preserved and has the GUID of {of_image} of the image (RANDOMIZE_GUIDS gives it a new one)"
    )]
    SameGuid {
        /// What is to be preserved.
        kept: String,
        /// Its double.
        of_image: String,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Head { .. } => Code::DiskIo,
            Self::Partition { .. } => Code::BadInput,
            Self::Changed { .. } => Code::DiskBusy,
            _ => Code::PartitionTable,
        }
    }
}

/// What an operator names partitions by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Term {
    /// From this number to that one.
    Numbers(u32, u32),
    /// A pattern that the label fits.
    Label(String),
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Numbers(first, last) if first == last => write!(f, "{first}"),
            Self::Numbers(first, last) => write!(f, "{first}-{last}"),
            Self::Label(pattern) => write!(f, "label={pattern}"),
        }
    }
}

/// Numbers, ranges of numbers and patterns of labels, separated by commas.
pub fn parse(text: &str) -> Result<Vec<Term>, String> {
    text.split(',').map(|term| parse_term(term.trim()).map_err(|e| format!("{term:?} {e}"))).collect()
}

fn parse_term(term: &str) -> Result<Term, &'static str> {
    if let Some(label) = term.strip_prefix("label=") {
        return if label.is_empty() { Err("names no label") } else { Ok(Term::Label(label.to_owned())) };
    }
    if term.is_empty() {
        return Err("is no partition");
    }
    // A list with other separators would else be a label that no partition has, and none would be preserved.
    if term.chars().any(|c| c.is_alphabetic() || "*?".contains(c)) {
        return Ok(Term::Label(term.to_owned()));
    }
    let (first, last) = term.split_once('-').unwrap_or((term, term));
    match (first.parse(), last.parse()) {
        (Ok(first @ 1..), Ok(last)) if first <= last => Ok(Term::Numbers(first, last)),
        _ => Err("is no number of a partition, no range like 5-7, and no label (label=<pattern>)"),
    }
}

impl Term {
    fn fits(&self, number: u32, partition: &Partition) -> bool {
        match self {
            Self::Numbers(first, last) => (*first..=*last).contains(&number),
            Self::Label(pattern) => wildcard(pattern, &partition.name),
        }
    }
}

/// Partitions of a disk that are to survive.
#[derive(Debug, Default)]
pub struct Kept {
    /// The disk's table without all the others.
    table: Option<Table>,
    /// What named them.
    terms: Vec<Term>,
    entries: BTreeMap<u32, Partition>,
    /// Bytes of the disk, in order.
    ranges: Vec<Range<u64>>,
}

/// One of them in the table of the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// On the disk before.
    pub was: u32,
    /// On the disk afterwards.
    pub number: u32,
    /// As it may be shown.
    pub name: String,
}

impl Kept {
    /// What of this disk the terms name; and the terms that name nothing.
    pub fn choose(
        device: &Device,
        geometry: Geometry,
        path: &Path,
        terms: &[Term],
    ) -> Result<(Self, Vec<Term>), Failed> {
        let Some(mut table) = table_of(device, geometry, path)? else { return Ok((Self::default(), terms.to_vec())) };
        let all = table.partitions()?;
        let fitting = |term: &Term| all.iter().any(|(number, partition)| term.fits(*number, partition));
        let idle = terms.iter().filter(|term| !fitting(term)).cloned().collect();
        let named = |(number, partition): &(u32, Partition)| terms.iter().any(|term| term.fits(*number, partition));
        let entries: BTreeMap<_, _> = all.into_iter().filter(named).collect();
        if entries.is_empty() {
            return Ok((Self::default(), idle));
        }
        table.keep_only(|number| entries.contains_key(&number));
        let mut ranges: Vec<_> =
            table.extents()?.into_iter().map(|extent| extent.start..extent.start + extent.length).collect();
        ranges.sort_by_key(|range| range.start);
        if let Some((number, entry)) = entries.iter().find(|(_, entry)| entry.first_lba * table.sector() < END) {
            return Err(Error::InHead { kept: shown(*number, entry) }.into());
        }
        Ok((Self { table: Some(table), terms: terms.to_vec(), entries, ranges }, idle))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether these are the same partitions in the same places.
    pub fn is_same(&self, other: &Self) -> bool {
        self.entries.keys().eq(other.entries.keys()) && self.ranges == other.ranges
    }

    /// Where the first of them begins, in bytes.
    pub fn start(&self) -> Option<u64> {
        self.ranges.first().map(|range| range.start)
    }

    /// What of these bytes belongs to none of them.
    pub fn spare(&self, bytes: Range<u64>) -> Vec<Range<u64>> {
        let mut spare = Vec::new();
        let mut at = bytes.start;
        for range in &self.ranges {
            let end = range.start.min(bytes.end);
            if at < end {
                spare.push(at..end);
            }
            at = at.max(range.end);
        }
        if at < bytes.end {
            spare.push(at..bytes.end);
        }
        spare
    }

    /// The ends of a disk that has nothing but them, and whether its head has to be written first: the copy that the
    /// table was read from is the last one to be touched. Nothing when there are none.
    pub fn alone(&self, device: &Device, geometry: Geometry) -> Result<Option<(Held, bool)>, Failed> {
        let Some(table) = self.table.clone() else { return Ok(None) };
        let mut held = Held::new(geometry.size);
        let is_head_first = !table.is_primary();
        table.write(&mut View::new(&mut held, device))?;
        Ok(Some((held, is_head_first)))
    }

    /// Adds them to the table of the image, under their own numbers where these are free.
    pub fn add_to(&self, table: &mut Table) -> Result<Vec<Placed>, Failed> {
        let Some(of_disk) = &self.table else { return Ok(Vec::new()) };
        let of_image = table.partitions()?;
        let end = of_image.iter().max_by_key(|(_, partition)| partition.last_lba);
        for (number, partition) in &of_image {
            if let Some(term) = self.terms.iter().find(|term| term.fits(*number, partition)) {
                return Err(Error::Both { term: term.clone(), of_image: shown(*number, partition) }.into());
            }
        }
        let mut placed = Vec::new();
        for (was, partition) in &self.entries {
            let kept = shown(*was, partition);
            if let Some((number, other)) = end.filter(|(_, other)| other.last_lba >= partition.first_lba) {
                let (first, last, of_image) = (partition.first_lba, other.last_lba, shown(*number, other));
                return Err(Error::Covered { kept, first, of_image, last }.into());
            }
            let same_guid = of_image.iter().find(|(_, other)| other.part_guid == partition.part_guid);
            if let Some((number, other)) = same_guid {
                return Err(Error::SameGuid { kept, of_image: shown(*number, other) }.into());
            }
            let number = match of_image.get(was) {
                None => *was,
                Some(_) => {
                    let used = |number: &u32| of_image.contains_key(number) || self.entries.contains_key(number);
                    let taken = |number: &u32| placed.iter().any(|placed: &Placed| placed.number == *number);
                    let highest = of_image.keys().chain(self.entries.keys()).max().copied().unwrap_or(0);
                    let mut above = (highest + 1..=table.capacity()).chain(1..=highest);
                    above.find(|number| !used(number) && !taken(number)).unwrap_or(table.capacity() + 1)
                }
            };
            table.copy(number, of_disk, *was)?;
            placed.push(Placed { was: *was, number, name: kept });
        }
        Ok(placed)
    }
}

fn table_of(device: &Device, geometry: Geometry, path: &Path) -> Result<Option<Table>, Failed> {
    let mut head = vec![0; END as usize];
    device.read_at(&mut head, 0).map_err(|source| Error::Head { path: path.to_owned(), source })?;
    let table = Table::read(&mut Whole::new(device, geometry.size), geometry.sector)
        .map_err(|source| Error::Table { path: path.to_owned(), source })?;
    let what = match &table {
        // A backup may be older than what replaced its primary.
        Some(table) if !table.is_primary() => blank::other_than_gpt(&head),
        _ => blank::of_mbr(&head),
    };
    match what {
        Some(what) => Err(Error::Other { path: path.to_owned(), what }.into()),
        None => Ok(table),
    }
}

fn shown(number: u32, partition: &Partition) -> String {
    match partition.name.as_str() {
        "" => format!("partition {number}"),
        name => format!("partition {number} ({name:?})"),
    }
}

#[cfg(test)]
#[path = "preserve_tests.rs"]
mod tests;
