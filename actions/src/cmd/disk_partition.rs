//! `disk-partition`: adds the partitions that are wanted to the GPT of a disk. What is there stays; the same wish twice
//! adds nothing the second time.

use std::path::PathBuf;
use std::time::Duration;

use crate::cmd::{Context, environment};
use crate::disk::find::{Used, find};
use crate::disk::gpt::Table;
use crate::disk::held::Whole;
use crate::disk::layout::{self, Situation, Step, Wanted};
use crate::disk::nodes::{self, Extent};
use crate::disk::target::Claimed;
use crate::failed::Failed;
use crate::input::{
    self, ALLOW_REMOVABLE, DEST_DISK, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS,
};
use crate::report::{Report, size};
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
    disk: PathBuf,
    partitions: Vec<Wanted>,
    allow_removable: bool,
    wait: Duration,
    dry_run: bool,
}

fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let wish = Wish {
        disk: r.value("DEST_DISK", input::path),
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
    let is_shown = |extent: &Extent| claimed.found().disk.partitions.iter().any(|p| p.index == extent.number);
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

fn table_of(claimed: &Claimed) -> Result<(Table, bool), Failed> {
    let mut disk = Whole::new(claimed.device(), claimed.geometry.size);
    match Table::read(&mut disk, claimed.geometry.sector)? {
        Some(table) => Ok((table, false)),
        None => Ok((Table::empty(&mut disk, claimed.geometry.sector)?, true)),
    }
}

fn tell(steps: &[Step], claimed: &Claimed, is_blank: bool, report: &Report) {
    let (found, sector) = (claimed.found(), u64::from(claimed.geometry.sector));
    if is_blank {
        report.info(&format!("plan: make a GPT on {}", found.describe()));
    }
    for step in steps {
        let partition = &step.partition;
        let sectors = partition.last_lba - partition.first_lba + 1;
        let verb = if step.is_new { "add" } else { "keep" };
        report.info(&format!(
            "plan: {verb} partition {} {:?} on {}, LBA {} to {} ({}), type {}",
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
