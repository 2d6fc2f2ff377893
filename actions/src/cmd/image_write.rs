//! `image-write`: a disk image from a web server, a registry or a file onto a disk, proven whole, the head of the disk
//! last. Owns the plan and the order of its steps; the inputs are `wish`, the bytes `image`, the disk `disk`.

mod inputs;
mod wish;

use sys::block::Device;

use crate::cmd::{Context, environment};
use crate::disk::blank;
use crate::disk::find::Found;
use crate::disk::fit::{Sectors, rehearse};
use crate::disk::gpt::{Error as TableError, Table};
use crate::disk::grow::{self, grow_file_system};
use crate::disk::held::END;
use crate::disk::preserve::{self, Kept};
use crate::disk::target::{Claimed, Committed, Error as TargetError, measure};
use crate::failed::Failed;
use crate::image::checksum::Promise;
use crate::image::source::Source;
use crate::image::sums;
use crate::report::size;
use crate::table::Action;

use wish::Wish;

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "image-write",
    also: &[inputs::IMAGE2DISK, inputs::OCI2DISK, inputs::QEMUIMG2DISK],
    doc: "Writes a disk image onto a disk and proves it.",
    inputs: inputs::INPUTS,
    run,
};

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let mut wish = wish::read(context.called, &environment)?;
    let report = context.report;
    report.set_line_interval(wish.progress);
    let found = wish.consent.find(&wish.disk, context)?;
    if let Some(url) = &wish.sums {
        wish.request.proof.checksum = sums::fetch(url, &wish.request.place, &wish.request.options)?;
    }
    let source = Source::open_mapped(&wish.request, wish.map.as_ref(), END as usize)?;
    report.plan(&format!("write {} to {}", source.describe(), found.describe()));
    promised(context, &wish);
    if source.is_written_as_is() {
        report.warn(
            "the image looks packed and is written as it is; set COMPRESSED=true or DECOMPRESS=auto to unpack it",
        );
    }
    let planned = preserving(context, &wish, &source, &found)?;
    if wish.dry_run {
        return Ok(());
    }
    write(context, &wish, source, found, &planned)
}

/// What the plan says about partitions that stay; refuses what cannot stay beside the image.
fn preserving(context: &Context<'_>, wish: &Wish, source: &Source, found: &Found) -> Result<Kept, Failed> {
    if wish.preserve.is_empty() {
        return Ok(Kept::default());
    }
    if found.partition.is_some() {
        return Err(preserve::Error::Partition { path: found.path.clone() }.into());
    }
    let path = &found.path;
    let device = Device::read(path).map_err(|source| TargetError::Claim { path: path.clone(), source })?;
    let geometry = measure(&device, path)?;
    let (kept, idle) = Kept::choose(&device, geometry, path, &wish.preserve)?;
    for term in idle {
        context.report.warn(&format!("PRESERVE_PARTITIONS: {} has no partition {term}", path.display()));
    }
    if kept.is_empty() {
        return Ok(kept);
    }
    for placed in rehearse(source.head(), &device, geometry, &wish.change, &kept)?.placed {
        let moved = if placed.was == placed.number { String::new() } else { format!(" as number {}", placed.number) };
        context.report.plan(&format!("keep {} of {}{moved}", placed.name, path.display()));
    }
    Ok(kept)
}

/// What the plan says about the proof.
fn promised(context: &Context<'_>, wish: &Wish) {
    let (report, proof) = (context.report, &wish.request.proof);
    if let Promise::Checked(checksum) = &proof.checksum {
        report.plan(&format!("check {checksum} of the {}", wish.request.of));
    }
    if proof.signature.is_some() {
        report.plan(&format!("check the signature of the {}", wish.request.of));
    }
    match wish.is_unchecked_by_default {
        true => report.warn("IMG_CHECKSUM is not set: NOTHING PROVES that these are the right bytes"),
        false if proof.is_waived() => report.plan("no digest is checked (IMG_CHECKSUM=none)"),
        false => {}
    }
}

fn write(context: &Context<'_>, wish: &Wish, mut source: Source, found: Found, planned: &Kept) -> Result<(), Failed> {
    let report = context.report;
    let mut claimed = Claimed::claim(wish.consent.free(found, context)?)?.written_by(wish.how.mode)?;
    fits(&source, &claimed, wish)?;
    if !wish.preserve.is_empty() {
        let path = &claimed.found().path;
        let (kept, _) = Kept::choose(claimed.device(), claimed.geometry, path, &wish.preserve)?;
        if !kept.is_same(planned) {
            return Err(preserve::Error::Changed { path: path.clone() }.into());
        }
        if !kept.is_empty() {
            rehearse(source.head(), claimed.device(), claimed.geometry, &wish.change, &kept)?;
        }
        claimed = claimed.keep(kept);
    }
    let written = claimed.fill(&mut source, wish.how, report)?;
    let committed = written.verify(report)?.commit(&context.sysfs, &wish.change)?;
    let partitions = committed.fitted.extents.as_ref().map(Vec::len);
    let table = match partitions {
        Some(count) if wish.change.is_fixed => {
            format!("GPT with {count} partitions, its backup at the end of the disk")
        }
        Some(count) => format!("GPT with {count} partitions, as it came"),
        None => "no GPT".into(),
    };
    report.info(&format!("written: {} of content, {table}", size(committed.length)));
    if let Some(was) = committed.fitted.was_for {
        report.info(&format!(
            "the partition table was made for sectors of {was} bytes, and is now for those of the disk"
        ));
        report.warn("boot code of a BIOS counts sectors: with sectors of another size only UEFI starts this disk");
    }
    if partitions.is_some_and(|count| count > committed.paths.len()) {
        report.warn("the kernel shows no partitions of this kind of device");
    }
    grown(context, &committed, wish.grow_fs)
}

/// Says what grew, and lets the file system follow.
fn grown(context: &Context<'_>, committed: &Committed, file_system: bool) -> Result<(), Failed> {
    let Some((extents, number)) = committed.fitted.extents.as_ref().zip(committed.fitted.grown) else { return Ok(()) };
    let Some(index) = extents.iter().position(|extent| extent.number == number) else { return Ok(()) };
    let length = extents[index].length;
    context.report.info(&format!("partition {number} has {} now", size(length)));
    if file_system {
        let path = committed.paths.get(index).ok_or(grow::Error::NotShown)?;
        let kind = grow_file_system(path, length)?;
        context.report.info(&format!("the {kind} of {} fills it", path.display()));
    }
    Ok(())
}

/// What can be known before the disk is touched.
fn fits(source: &Source, claimed: &Claimed, wish: &Wish) -> Result<(), Failed> {
    let geometry = claimed.geometry;
    if let Some(needed) = source.length().filter(|length| *length > geometry.size) {
        let path = claimed.found().path.clone();
        return Err(TargetError::TooSmall { path, has: geometry.size, needed }.into());
    }
    let mut head = source.head().to_vec();
    head.resize(END as usize, 0);
    let change = &wish.change;
    if change.sectors != Sectors::Ignore && geometry.sector != 512 && blank::of_mbr(&head).is_some() {
        return Err(TableError::DosTable { has: geometry.sector }.into());
    }
    let is_changed = change.grow.is_some() || change.new_guids;
    match Table::read(&mut std::io::Cursor::new(&mut head), geometry.sector) {
        Err(TableError::SectorSize { .. }) if change.sectors == Sectors::Convert => {
            rehearse(&head, claimed.device(), geometry, change, &Kept::default()).map(drop)
        }
        Err(error @ TableError::SectorSize { .. }) if change.sectors == Sectors::Refuse => Err(error.into()),
        Err(TableError::SectorSize { .. }) | Ok(None) if is_changed => Err(grow::Error::NoTable.into()),
        Ok(Some(table)) => Ok(change.grow.as_ref().map_or(Ok(()), |which| grow::find(&table, which).map(drop))?),
        // Anything else shows when the whole of it is there.
        _ => Ok(()),
    }
}
