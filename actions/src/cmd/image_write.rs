//! `image-write`: a disk image from a web server, a registry or a file onto a disk, proven whole, the head of the disk
//! last. Owns the plan and the order of its steps; the inputs are `wish`, the bytes `image`, the disk `disk`.

mod inputs;
mod wish;

use crate::cmd::{Context, environment};
use crate::disk::blank;
use crate::disk::find::Found;
use crate::disk::gpt::{Error as TableError, Table};
use crate::disk::grow::{self, grow_file_system};
use crate::disk::held::END;
use crate::disk::target::{Change, Claimed, Committed, Error as TargetError};
use crate::failed::Failed;
use crate::image::checksum::Promise;
use crate::image::source::Source;
use crate::image::sums;
use crate::report::size;
use crate::table::Action;

use wish::{Grow, Wish};

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
    if wish.dry_run {
        return Ok(());
    }
    write(context, &wish, source, found)
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

fn write(context: &Context<'_>, wish: &Wish, mut source: Source, found: Found) -> Result<(), Failed> {
    let report = context.report;
    let claimed = Claimed::claim(wish.consent.free(found, context)?)?;
    fits(&source, &claimed, wish.any_sector)?;
    let change = Change { grow: wish.grow.map(|grow| grow.number), new_guids: wish.new_guids };
    let committed = claimed.fill(&mut source, wish.how, report)?.verify(report)?.commit(&context.sysfs, change)?;
    let table = match &committed.partitions {
        Some(extents) => format!("GPT with {} partitions, its backup at the end of the disk", extents.len()),
        None => "no GPT".into(),
    };
    report.info(&format!("written: {} of content, {table}", size(committed.length)));
    if committed.partitions.as_ref().is_some_and(|extents| extents.len() > committed.paths.len()) {
        report.warn("the kernel shows no partitions of this kind of device");
    }
    match wish.grow {
        Some(Grow { file_system, .. }) => grown(context, &committed, file_system),
        None => Ok(()),
    }
}

/// Says what grew, and lets the file system follow.
fn grown(context: &Context<'_>, committed: &Committed, file_system: bool) -> Result<(), Failed> {
    let Some((extents, number)) = committed.partitions.as_ref().zip(committed.grown) else { return Ok(()) };
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
fn fits(source: &Source, claimed: &Claimed, any_sector: bool) -> Result<(), Failed> {
    let geometry = claimed.geometry;
    if let Some(needed) = source.length().filter(|length| *length > geometry.size) {
        let path = claimed.found().path.clone();
        return Err(TargetError::TooSmall { path, has: geometry.size, needed }.into());
    }
    let mut head = source.head().to_vec();
    head.resize(END as usize, 0);
    if any_sector {
        return Ok(());
    }
    if geometry.sector != 512 && blank::of_mbr(&head).is_some() {
        return Err(TableError::DosTable { has: geometry.sector }.into());
    }
    match Table::read(&mut std::io::Cursor::new(head), geometry.sector) {
        Err(error @ TableError::SectorSize { .. }) => Err(error.into()),
        // Anything else shows when the whole of it is there.
        _ => Ok(()),
    }
}
