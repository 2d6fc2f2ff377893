//! `disk-partition`: adds the partitions that are wanted to the GPT of a disk. What is there stays; the same wish twice
//! adds nothing the second time.

use std::io;
use std::path::{Path, PathBuf};

use spec::Code;
use sys::block::{self, Device};

use crate::cmd::{Context, environment};
use crate::disk::blank;
use crate::disk::consent::{Consent, EXCLUDE, FORCE};
use crate::disk::find::Found;
use crate::disk::gpt::Table;
use crate::disk::held::{END, Whole};
use crate::disk::layout::{self, Situation, Step, Wanted};
use crate::disk::nodes::{self, Extent};
use crate::disk::stream::Geometry;
use crate::disk::target::{Claimed, measure};
use crate::failed::{Coded, Failed};
use crate::input::{
    self, ALLOW_REMOVABLE, DEST_DISK, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS,
};
use crate::report::{Report, size};
use crate::select::Selector;
use crate::table::Action;

const INPUTS: &[Input] = &[
    DEST_DISK,
    Input {
        name: "PARTITIONS",
        also: &[],
        presence: Presence::Required,
        doc: "JSON list of {\"label\", \"size\": \"512MiB\" | \"25%\" | \"rest\", \"type\": \"linux\" | \"esp\" | \
              \"swap\" | \"bios\" | a GUID, \"number\"?}. A label that exists must have that size and type.",
    },
    FORCE,
    EXCLUDE,
    ALLOW_REMOVABLE,
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "disk-partition",
    also: &[],
    doc: "Adds partitions to the partition table of a disk and keeps what is there.",
    inputs: INPUTS,
    run,
};

#[derive(Debug)]
struct Wish {
    disk: Selector,
    partitions: Vec<Wanted>,
    consent: Consent,
    dry_run: bool,
}

/// Why this disk gets no table.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{} is a partition of {disk}, name the whole disk", path.display())]
    Partition { path: PathBuf, disk: String },
    #[error("{} holds {what}, wipe it first (disk-wipe)", path.display())]
    Occupied { path: PathBuf, what: String },
    #[error("cannot read the ends of {}", path.display())]
    Ends { path: PathBuf, source: io::Error },
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: block::Error },
    #[error("the partition table of {} changed after the plan was made: somebody else writes to it", path.display())]
    Changed { path: PathBuf },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Partition { .. } => Code::BadInput,
            Self::Occupied { .. } => Code::PartitionTable,
            Self::Ends { .. } | Self::Open { .. } => Code::DiskIo,
            Self::Changed { .. } => Code::DiskBusy,
        }
    }
}

fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let wish = Wish {
        disk: r.value("DEST_DISK", input::disk),
        partitions: r.value("PARTITIONS", layout::parse),
        consent: Consent::read(&mut r),
        dry_run: r.value("DRY_RUN", input::boolean),
    };
    r.finish()?;
    Ok(wish)
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = read(&environment)?;
    let report = context.report;
    let found = wish.consent.find(&wish.disk, context)?;
    check_whole(&found)?;
    // The plan comes before what uses the disk is taken down, so it is made from a disk that is not ours yet.
    let device = Device::read(&found.path).map_err(|source| Error::Open { path: found.path.clone(), source })?;
    let geometry = measure(&device, &found.path)?;
    let (before, is_blank) = table_of(&device, geometry, &found.path)?;
    let steps = layout::plan(&wish.partitions, &situation(&before, geometry)?)?;
    tell(&steps, &found, geometry, is_blank, report);
    drop(device);
    if wish.dry_run {
        return Ok(());
    }
    let claimed = Claimed::claim(wish.consent.free(found, context)?)?;
    let (mut table, _) = table_of(claimed.device(), claimed.geometry, &claimed.found().path)?;
    if (table.partitions()?, table.usable()) != (before.partitions()?, before.usable()) {
        return Err(Error::Changed { path: claimed.found().path.clone() }.into());
    }
    let is_changed = steps.iter().any(|s| s.is_new) || !table.is_in_place();
    for step in steps.iter().filter(|s| s.is_new) {
        table.set(step.number, &step.partition)?;
    }
    let extents = table.extents()?;
    if is_changed {
        table.write(&mut Whole::new(claimed.device(), claimed.geometry.size))?;
    }
    // Reading an unchanged table again would only give its partitions other device numbers.
    let is_shown = |extent: &Extent| claimed.found().disk.partitions.iter().any(|p| extent.is(p));
    let paths = if is_changed || !extents.iter().all(is_shown) {
        claimed.publish(&extents, &context.sysfs)?
    } else {
        nodes::publish(claimed.device(), &claimed.found().disk.name, &extents, &context.sysfs)?
    };
    if paths.is_empty() {
        report.warn("the kernel shows no partitions of this kind of device");
    }
    for (extent, path) in extents.iter().zip(paths) {
        report.info(&format!("there: {} is partition {}", path.display(), extent.number));
    }
    Ok(())
}

fn check_whole(found: &Found) -> Result<(), Error> {
    match &found.partition {
        Some(_) => Err(Error::Partition { path: found.path.clone(), disk: found.disk.name.clone() }),
        None => Ok(()),
    }
}

fn situation(table: &Table, geometry: Geometry) -> Result<Situation, Failed> {
    Ok(Situation {
        existing: table.partitions()?,
        usable: table.usable(),
        sector: table.sector(),
        disk: geometry.size,
        capacity: table.capacity(),
    })
}

/// The table that is there, or an empty one for a disk that holds nothing.
fn table_of(device: &Device, geometry: Geometry, path: &Path) -> Result<(Table, bool), Failed> {
    let mut disk = Whole::new(device, geometry.size);
    let table = Table::read(&mut disk, geometry.sector)?;
    let end = |offset| {
        let mut bytes = vec![0; END as usize];
        let failed = |source| Error::Ends { path: path.to_owned(), source };
        device.read_at(&mut bytes, offset).map(|()| bytes).map_err(failed)
    };
    let head = end(0)?;
    let what = match &table {
        // Without its protective record a GPT does not count; the kernel goes by the DOS table, too.
        Some(table) if table.is_primary() => blank::of_mbr(&head),
        // A backup may be older than what replaced its primary.
        Some(_) => blank::other_than_gpt(&head),
        None => blank::of_ends(&head, &end(geometry.size - END)?),
    };
    match (what, table) {
        (Some(what), _) => Err(Error::Occupied { path: path.to_owned(), what }.into()),
        (None, Some(table)) => Ok((table, false)),
        (None, None) => Ok((Table::empty(&mut disk, geometry.sector)?, true)),
    }
}

fn tell(steps: &[Step], found: &Found, geometry: Geometry, is_blank: bool, report: &Report) {
    let sector = u64::from(geometry.sector);
    if is_blank {
        report.plan(&format!("make a GPT on {}", found.describe()));
    }
    for step in steps {
        let partition = &step.partition;
        let sectors = partition.last_lba - partition.first_lba + 1;
        let verb = if step.is_new { "add" } else { "keep" };
        report.plan(&format!(
            "{verb} partition {} {:?} on {}, LBA {} to {} ({}), type {}",
            step.number,
            partition.name,
            found.path.display(),
            partition.first_lba,
            partition.last_lba,
            size(sectors * sector),
            partition.part_type_guid.guid,
        ));
    }
}
