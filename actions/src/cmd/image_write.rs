//! `image-write`: a disk image from a web server onto a disk, proven whole, the head of the disk last.

use std::path::PathBuf;
use std::time::Duration;

use fetch::Options;

use crate::cmd::{Context, environment};
use crate::disk::find::{Used, find};
use crate::disk::gpt::{Error as TableError, Table};
use crate::disk::held::END;
use crate::disk::stream::Depth;
use crate::disk::target::{Claimed, Error as TargetError};
use crate::failed::Failed;
use crate::image::checksum::{self, Of, Promise};
use crate::image::format::Unpack;
use crate::image::source::{Request, Source};
use crate::input::{
    self, ALLOW_REMOVABLE, DEST_DISK, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS,
};
use crate::report::size;
use crate::table::Action;

/// The name under which a digest may be missing, as it always could.
const UPSTREAM: &str = "image2disk";

const INPUTS: &[Input] = &[
    Input {
        name: "IMG_URL",
        also: &[],
        presence: Presence::Required,
        doc: "http or https URL of the image: raw, or raw packed by gzip or zstd.",
    },
    DEST_DISK,
    Input {
        name: "IMG_CHECKSUM",
        also: &[],
        presence: Presence::Optional,
        doc: "sha256:<hex> or sha512:<hex>; none waives the check. Required, but under the name image2disk.",
    },
    Input {
        name: "IMG_CHECKSUM_OF",
        also: &[],
        presence: Presence::Default("compressed"),
        doc: "compressed: the digest is of the file as published; content: of what goes onto the disk.",
    },
    Input {
        name: "COMPRESSED",
        also: &[],
        presence: Presence::Optional,
        doc: "As in image2disk: true insists on a packed image, false writes the bytes as they are (under that name only).",
    },
    Input {
        name: "DECOMPRESS",
        also: &[],
        presence: Presence::Optional,
        doc: "auto (by the first bytes; the default, but under the name image2disk), always or never.",
    },
    Input {
        name: "VERIFY",
        also: &[],
        presence: Presence::Default("sample"),
        doc: "How much is read back from the disk and compared: none, sample or full.",
    },
    Input {
        name: "CA_BUNDLE",
        also: &[],
        presence: Presence::Optional,
        doc: "PEM file of certificate authorities to trust besides the well-known ones.",
    },
    Input {
        name: "STALL_TIMEOUT_SECONDS",
        also: &[],
        presence: Presence::Default("30"),
        doc: "How long the server may send nothing.",
    },
    Input {
        name: "RETRY_ENABLED",
        also: &[],
        presence: Presence::Default("true"),
        doc: "Take up a broken transfer again.",
    },
    Input {
        name: "RETRY_DURATION_MINUTES",
        also: &[],
        presence: Presence::Default("10"),
        doc: "How long to try again without any progress.",
    },
    Input {
        name: "PROGRESS_INTERVAL_SECONDS",
        also: &[],
        presence: Presence::Default("3"),
        doc: "How often progress is a line of the log.",
    },
    Input {
        name: "TEXT_LOGGING",
        also: &[],
        presence: Presence::Default("true"),
        doc: "Accepted for image2disk's sake; the log is always text.",
    },
    ALLOW_REMOVABLE,
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "image-write",
    also: &[UPSTREAM],
    doc: "Writes a disk image from a web server onto a disk and proves it.",
    inputs: INPUTS,
    run,
};

#[derive(Debug)]
struct Wish {
    request: Request,
    is_unchecked_by_default: bool,
    disk: PathBuf,
    depth: Depth,
    progress: Duration,
    allow_removable: bool,
    wait: Duration,
    dry_run: bool,
}

fn read(called: &str, lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let url = r.value("IMG_URL", input::text);
    let disk = r.value("DEST_DISK", input::path);
    let promise = r.optional("IMG_CHECKSUM", checksum::parse);
    if promise.is_none() && called != UPSTREAM && lookup("IMG_CHECKSUM").is_none_or(|text| text.is_empty()) {
        r.problem("IMG_CHECKSUM is required: sha256:<hex>, or none to go without");
    }
    let of = r.value("IMG_CHECKSUM_OF", input::one_of(&[("compressed", Of::Compressed), ("content", Of::Content)]));
    let compressed = r.optional("COMPRESSED", input::boolean);
    let words = [("auto", Unpack::Auto), ("always", Unpack::Always), ("never", Unpack::Never)];
    let decompress = r.optional("DECOMPRESS", input::one_of(&words));
    let depths = [("none", Depth::None), ("sample", Depth::Sample), ("full", Depth::Full)];
    let depth = r.value("VERIFY", input::one_of(&depths));
    let ca_file = r.optional("CA_BUNDLE", input::path);
    let stall = r.value("STALL_TIMEOUT_SECONDS", input::seconds);
    if stall.is_zero() {
        r.problem("STALL_TIMEOUT_SECONDS must be at least 1");
    }
    let is_retried = r.value("RETRY_ENABLED", input::boolean);
    let patience = r.value("RETRY_DURATION_MINUTES", input::minutes);
    let progress = r.value("PROGRESS_INTERVAL_SECONDS", input::seconds);
    r.value("TEXT_LOGGING", input::boolean);
    let allow_removable = r.value("ALLOW_REMOVABLE", input::boolean);
    let wait = r.value("WAIT_DEVICE_SECONDS", input::seconds);
    let dry_run = r.value("DRY_RUN", input::boolean);
    r.finish()?;
    let patience = if is_retried { patience } else { Duration::ZERO };
    let options = Options { ca_file, stall, patience, ..Options::default() };
    let unpack = unpack(called, compressed, decompress);
    let is_unchecked_by_default = promise.is_none();
    let request = Request { url, options, promise: promise.unwrap_or(Promise::Waived), of, unpack };
    Ok(Wish { request, is_unchecked_by_default, disk, depth, progress, allow_removable, wait, dry_run })
}

/// Under its old name the action keeps its old meaning, byte for byte, until `DECOMPRESS` says otherwise.
fn unpack(called: &str, compressed: Option<bool>, decompress: Option<Unpack>) -> Unpack {
    match (decompress, compressed) {
        (Some(unpack), _) => unpack,
        (None, Some(true)) => Unpack::Always,
        (None, _) if called == UPSTREAM => Unpack::Never,
        (None, _) => Unpack::Auto,
    }
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = read(context.called, &environment)?;
    let report = context.report;
    report.set_line_interval(wish.progress);
    let found = find(&wish.disk, &context.sysfs, wish.wait)?;
    found.check(wish.allow_removable, &Used::now()?)?;
    let source = Source::open(&wish.request, END as usize)?;
    report.info(&format!("plan: write {} to {}", source.describe(), found.describe()));
    match &wish.request.promise {
        Promise::Checked(checksum) => report.info(&format!("plan: check {checksum} of the {}", wish.request.of)),
        Promise::Waived if wish.is_unchecked_by_default => {
            report.warn("IMG_CHECKSUM is not set: NOTHING PROVES that these are the right bytes");
        }
        Promise::Waived => report.info("plan: no digest is checked (IMG_CHECKSUM=none)"),
    }
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

fn write(
    context: &Context<'_>,
    wish: &Wish,
    mut source: Source,
    found: crate::disk::find::Found,
) -> Result<(), Failed> {
    let report = context.report;
    let claimed = Claimed::claim(found)?;
    fits(&source, &claimed)?;
    let committed = claimed.fill(&mut source, wish.depth, report)?.verify(report)?.commit(&context.sysfs)?;
    let table = match committed.partitions {
        Some(count) => format!("GPT with {count} partitions, its backup at the end of the disk"),
        None => "no GPT".into(),
    };
    report.info(&format!("written: {} of content, {table}", size(committed.length)));
    if committed.partitions.is_some_and(|count| count > committed.paths.len()) {
        report.warn("the kernel shows no partitions of this kind of device");
    }
    Ok(())
}

/// What can be known before the disk is touched.
fn fits(source: &Source, claimed: &Claimed) -> Result<(), Failed> {
    let geometry = claimed.geometry;
    if let Some(needed) = source.length().filter(|length| *length > geometry.size) {
        let path = claimed.found().path.clone();
        return Err(TargetError::TooSmall { path, has: geometry.size, needed }.into());
    }
    let mut head = source.head().to_vec();
    head.resize(END as usize, 0);
    match Table::read(&mut std::io::Cursor::new(head), geometry.sector) {
        Err(error @ TableError::SectorSize { .. }) => Err(error.into()),
        // Anything else shows when the whole of it is there.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(called: &str, pairs: &[(&str, &str)]) -> Result<Wish, Problems> {
        let base = [("IMG_URL", "http://h/x.raw"), ("DEST_DISK", "/dev/sda")];
        let lookup = |name: &str| pairs.iter().chain(&base).find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        read(called, &lookup)
    }

    #[test]
    fn a_digest_is_required_or_waived_in_words() {
        let problems = with("image-write", &[]).unwrap_err();
        assert!(problems.to_string().contains("IMG_CHECKSUM is required"), "{problems}");
        assert!(!with("image-write", &[("IMG_CHECKSUM", "none")]).unwrap().is_unchecked_by_default);
        assert!(with(UPSTREAM, &[]).unwrap().is_unchecked_by_default);
        let problems = with("image-write", &[("IMG_CHECKSUM", "sha256:x")]).unwrap_err();
        assert_eq!(problems.0.len(), 1, "{problems}");
    }

    #[test]
    fn the_old_name_keeps_the_old_meaning() {
        let unpack = |called, pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().copied().chain([("IMG_CHECKSUM", "none")]).collect();
            with(called, &pairs).unwrap().request.unpack
        };
        assert_eq!(unpack("image-write", &[]), Unpack::Auto);
        assert_eq!(unpack("image-write", &[("COMPRESSED", "false")]), Unpack::Auto);
        assert_eq!(unpack("image-write", &[("COMPRESSED", "true")]), Unpack::Always);
        assert_eq!(unpack(UPSTREAM, &[]), Unpack::Never);
        assert_eq!(unpack(UPSTREAM, &[("COMPRESSED", "T")]), Unpack::Always);
        assert_eq!(unpack(UPSTREAM, &[("COMPRESSED", "false"), ("DECOMPRESS", "auto")]), Unpack::Auto);
    }

    #[test]
    fn a_bad_boolean_is_a_problem_and_not_false() {
        let problems = with(UPSTREAM, &[("COMPRESSED", "yep"), ("RETRY_DURATION_MINUTES", "ten")]).unwrap_err();
        assert_eq!(problems.0.len(), 2, "{problems}");
    }

    #[test]
    fn without_retries_there_is_no_patience() {
        let wish = with(UPSTREAM, &[("RETRY_ENABLED", "no")]).unwrap();
        assert_eq!(wish.request.options.patience, Duration::ZERO);
    }
}
