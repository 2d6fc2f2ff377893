//! `disk-partition`: adds the partitions that are wanted to the GPT of a disk. What is there stays; the same wish twice
//! adds nothing the second time.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use spec::Code;

use crate::cmd::{Context, environment};
use crate::disk::blank;
use crate::disk::find::{Found, Used, find};
use crate::disk::gpt::Table;
use crate::disk::held::{END, Whole};
use crate::disk::layout::{self, Situation, Step, Wanted};
use crate::disk::nodes::{self, Extent};
use crate::disk::target::Claimed;
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
    allow_removable: bool,
    wait: Duration,
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
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Partition { .. } => Code::BadInput,
            Self::Occupied { .. } => Code::PartitionTable,
            Self::Ends { .. } => Code::DiskIo,
        }
    }
}

fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let wish = Wish {
        disk: r.value("DEST_DISK", input::disk),
        partitions: r.value("PARTITIONS", layout::parse),
        allow_removable: r.value("ALLOW_REMOVABLE", input::boolean),
        wait: r.value("WAIT_DEVICE_SECONDS", input::seconds),
        dry_run: r.value("DRY_RUN", input::boolean),
    };
    r.finish()?;
    Ok(wish)
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = read(&environment)?;
    let report = context.report;
    let found = find(&wish.disk, &context.sysfs, wish.wait)?;
    check_whole(&found)?;
    found.check(wish.allow_removable, &Used::now()?)?;
    let claimed = Claimed::claim(found)?;
    let (mut table, is_blank) = table_of(&claimed)?;
    let situation = Situation {
        existing: table.partitions()?,
        usable: table.usable(),
        sector: table.sector(),
        disk: claimed.geometry.size,
        capacity: table.capacity(),
    };
    let steps = layout::plan(&wish.partitions, &situation)?;
    tell(&steps, &claimed, is_blank, report);
    if wish.dry_run {
        return Ok(());
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

/// The table that is there, or an empty one for a disk that holds nothing.
fn table_of(claimed: &Claimed) -> Result<(Table, bool), Failed> {
    let mut disk = Whole::new(claimed.device(), claimed.geometry.size);
    let table = Table::read(&mut disk, claimed.geometry.sector)?;
    let end = |offset| {
        let mut bytes = vec![0; END as usize];
        let failed = |source| Error::Ends { path: claimed.found().path.clone(), source };
        claimed.device().read_at(&mut bytes, offset).map(|()| bytes).map_err(failed)
    };
    let head = end(0)?;
    let what = match &table {
        // Without its protective record a GPT does not count; the kernel goes by the DOS table, too.
        Some(table) if table.is_primary() => blank::of_mbr(&head),
        // A backup may be older than what replaced its primary.
        Some(_) => blank::other_than_gpt(&head),
        None => blank::of_ends(&head, &end(claimed.geometry.size - END)?),
    };
    match (what, table) {
        (Some(what), _) => Err(Error::Occupied { path: claimed.found().path.clone(), what }.into()),
        (None, Some(table)) => Ok((table, false)),
        (None, None) => Ok((Table::empty(&mut disk, claimed.geometry.sector)?, true)),
    }
}

fn tell(steps: &[Step], claimed: &Claimed, is_blank: bool, report: &Report) {
    let (found, sector) = (claimed.found(), u64::from(claimed.geometry.sector));
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
