//! `disk-wipe`: takes what is on disks away, as thoroughly as asked, and reads back that it is gone.

use std::path::PathBuf;

use spec::Code;
use sys::block;
use sys::block::Device;

use crate::cmd::{Context, environment};
use crate::disk::aligned::Aligned;
use crate::disk::consent::{Consent, EXCLUDE, FORCE};
use crate::disk::find::{self, Found, Refusal, Used, is_virtual};
use crate::disk::held::END;
use crate::disk::stream::CHUNK;
use crate::disk::target::Claimed;
use crate::disk::wanted;
use crate::failed::{Coded, Failed};
use crate::input::{self, ALLOW_REMOVABLE, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS};
use crate::report::Report;
use crate::select::Selector;
use crate::table::Action;

/// Bytes zeroed by one request, so that progress can be told.
const STRETCH: u64 = 64 << 20;
/// Places looked at by a sample.
const PLACES: u64 = 64;

const INPUTS: &[Input] = &[
    Input {
        name: "DEST_DISK",
        also: &["DISK", "BLOCK_DEVICE"],
        presence: Presence::Optional,
        doc: "Paths of block devices, separated by commas, or what they are like, as transport=nvme,count=all. Without it: \
              every disk that is not removable, read-only, in use or virtual.",
    },
    Input {
        name: "WIPE_METHOD",
        also: &[],
        presence: Presence::Default("metadata"),
        doc: "metadata: zeroes at both ends of the disk and of each partition; zero: everywhere; discard: the device \
              is told that nothing is needed, then as metadata.",
    },
    Input {
        name: "VERIFY",
        also: &[],
        presence: Presence::Default("sample"),
        doc: "How much of a zeroed disk is read back: none, sample or full. The ends always are.",
    },
    Input {
        name: "ALLOW_READONLY_SKIP",
        also: &[],
        presence: Presence::Default("false"),
        doc: "Skip a disk that was named and is read-only, as a BMC's virtual ones are, instead of failing.",
    },
    FORCE,
    EXCLUDE,
    ALLOW_REMOVABLE,
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];

/// Its row of the table.
pub const ACTION: Action =
    Action { name: "disk-wipe", also: &[], doc: "Wipes disks and proves it.", inputs: INPUTS, run };

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Method {
    #[default]
    Metadata,
    Zero,
    Discard,
}

impl Method {
    fn word(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Zero => "zero",
            Self::Discard => "discard",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Look {
    None,
    #[default]
    Sample,
    Full,
}

#[derive(Debug)]
struct Wish {
    disks: Vec<Selector>,
    method: Method,
    look: Look,
    skip_read_only: bool,
    consent: Consent,
    dry_run: bool,
}

/// Why disks were not wiped.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no disk to wipe: {skipped}")]
    None { skipped: String },
    #[error("cannot {what} {}", path.display())]
    Device { what: &'static str, path: PathBuf, source: block::Error },
    #[error("{} still holds something at byte {offset} after the wipe", path.display())]
    Remains { path: PathBuf, offset: u64 },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::None { .. } => Code::DiskNotFound,
            Self::Device { .. } => Code::DiskIo,
            Self::Remains { .. } => Code::VerifyMismatch,
        }
    }
}

fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let disks = r.optional("DEST_DISK", input::disks);
    let methods = [("metadata", Method::Metadata), ("zero", Method::Zero), ("discard", Method::Discard)];
    let looks = [("none", Look::None), ("sample", Look::Sample), ("full", Look::Full)];
    let wish = Wish {
        disks: disks.unwrap_or_default(),
        method: r.value("WIPE_METHOD", input::one_of(&methods)),
        look: r.value("VERIFY", input::one_of(&looks)),
        skip_read_only: r.value("ALLOW_READONLY_SKIP", input::boolean),
        consent: Consent::read(&mut r),
        dry_run: r.value("DRY_RUN", input::boolean),
    };
    r.finish()?;
    Ok(wish)
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = read(&environment)?;
    let report = context.report;
    let found = if wish.disks.is_empty() { eligible(&wish.consent, context)? } else { named(&wish, context)? };
    for disk in &found {
        report.plan(&format!("wipe {} by {}", disk.describe(), wish.method.word()));
    }
    if wish.dry_run {
        return Ok(());
    }
    // All are ours before the first is touched.
    let claim = |found| Ok(Claimed::claim(wish.consent.free(found, context)?)?);
    let claimed = found.into_iter().map(claim).collect::<Result<Vec<_>, Failed>>()?;
    for disk in &claimed {
        wipe(disk, &wish, report)?;
        report.info(&format!("wiped: {}", disk.found().path.display()));
    }
    Ok(())
}

/// Every disk named must be there, and free or to be freed.
fn named(wish: &Wish, context: &Context<'_>) -> Result<Vec<Found>, Failed> {
    let mut found: Vec<Found> = Vec::new();
    for selector in &wish.disks {
        for disk in wanted::several(selector, &context.sysfs, &wish.consent)? {
            if wish.skip_read_only && disk.disk.read_only {
                context.report.info(&format!("skipped: {}: {}", disk.path.display(), Refusal::ReadOnly));
                continue;
            }
            wish.consent.plan(&disk, context)?;
            let number = |f: &Found| f.partition.as_ref().map_or(f.disk.number, |p| p.number);
            if found.iter().all(|f| number(f) != number(&disk)) {
                found.push(disk);
            }
        }
    }
    Ok(found)
}

/// Every disk that may be wiped without being named; each other one is reported with its reason.
fn eligible(consent: &Consent, context: &Context<'_>) -> Result<Vec<Found>, Failed> {
    let (sysfs, report) = (&context.sysfs, context.report);
    let used = Used::now()?;
    let mut found = Vec::new();
    let mut skipped = Vec::new();
    for disk in find::all(sysfs)? {
        if is_virtual(&disk.disk.name) {
            continue;
        }
        let excluded = wanted::excluded(&disk, sysfs, consent);
        match excluded.or_else(|| disk.refusal(consent.allow_removable, &used)) {
            None => {
                find::reach(&disk)?;
                found.push(disk);
            }
            Some(why) => {
                let line = format!("{}: {why}", disk.path.display());
                report.info(&format!("skipped: {line}"));
                skipped.push(line);
            }
        }
    }
    if found.is_empty() {
        let skipped = if skipped.is_empty() { "there is none".into() } else { skipped.join("; ") };
        return Err(Error::None { skipped }.into());
    }
    Ok(found)
}

fn wipe(disk: &Claimed, wish: &Wish, report: &Report) -> Result<(), Failed> {
    let size = disk.geometry.size;
    let failed = |what| move |source| Error::Device { what, path: disk.found().path.clone(), source };
    let ranges: Vec<_> = disk.partitions().into_iter().map(|range| (range.start, range.end - range.start)).collect();
    // The head first: whatever interrupts the rest leaves a disk that does not look whole. The end, which still says where
    // its partitions were, last, so that the next run finds them.
    disk.behead()?;
    for (start, len) in ranges.iter().chain([&(0, size)]) {
        disk.blank(*start, *len)?;
    }
    match wish.method {
        Method::Metadata => {}
        Method::Zero => stretches(disk, "zeroing", Device::zero_out, report).map_err(failed("zero"))?,
        Method::Discard => {
            stretches(disk, "discarding", Device::discard, report).map_err(failed("discard"))?;
            // What is read of it now may be anything, also what was there before.
            for (start, len) in ranges.iter().chain([&(0, size)]) {
                disk.blank(*start, *len)?;
            }
        }
    }
    for (start, len) in ranges.iter().chain([&(0, size)]) {
        let end = END.min(*len);
        expect_zeros(disk, *start, end)?;
        expect_zeros(disk, start + len - end, end)?;
    }
    if wish.method == Method::Zero {
        look(disk, wish.look, report)?;
    }
    disk.reread()?;
    Ok(())
}

fn stretches(
    disk: &Claimed,
    doing: &str,
    request: impl Fn(&Device, u64, u64) -> Result<(), block::Error>,
    report: &Report,
) -> Result<(), block::Error> {
    let total = disk.geometry.size;
    let mut done = 0;
    while done < total {
        let len = STRETCH.min(total - done);
        request(disk.device(), done, len)?;
        done += len;
        report.progress(doing, done, total);
    }
    report.progress_end(doing, done, total);
    disk.device().sync()
}

/// Reads everything, or places spread evenly.
fn look(disk: &Claimed, look: Look, report: &Report) -> Result<(), Failed> {
    let size = disk.geometry.size;
    let step = match look {
        Look::None => return Ok(()),
        Look::Full => CHUNK as u64,
        Look::Sample => (size / PLACES).next_multiple_of(CHUNK as u64),
    };
    let mut at = 0;
    while at < size {
        expect_zeros(disk, at, (CHUNK as u64).min(size - at))?;
        report.progress("verifying", at, size);
        at += step;
    }
    report.progress_end("verifying", size, size);
    Ok(())
}

fn expect_zeros(disk: &Claimed, offset: u64, len: u64) -> Result<(), Failed> {
    let mut bytes = Aligned::zeroed(len as usize);
    disk.read_back(&mut bytes, offset)?;
    match bytes.iter().position(|b| *b != 0) {
        None => Ok(()),
        Some(at) => Err(Error::Remains { path: disk.found().path.clone(), offset: offset + at as u64 }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use sys::sysfs::Sysfs;

    #[test]
    fn without_a_name_only_real_free_disks_count_and_each_other_has_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        for (name, removable, ro, size) in [("sdb", 1, 0, 64), ("sdc", 0, 1, 64), ("sdd", 0, 0, 0), ("loop0", 0, 0, 64)]
        {
            let disk = dir.path().join("class/block").join(name);
            fs::create_dir_all(&disk).unwrap();
            // A number that no device of the machine has.
            for (file, value) in [("dev", "4000:1"), ("removable", &removable.to_string()), ("ro", &ro.to_string())] {
                fs::write(disk.join(file), value).unwrap();
            }
            fs::write(disk.join("size"), size.to_string()).unwrap();
        }
        let report = Report::silent();
        let context = Context { called: "disk-wipe", report: &report, sysfs: Sysfs::at(dir.path()) };
        let failed = eligible(&Consent::default(), &context).unwrap_err().failure();
        assert_eq!(failed.code, "disk_not_found");
        for reason in
            ["/dev/sdb: it is removable", "/dev/sdc: the kernel calls it read-only", "/dev/sdd: it has no medium"]
        {
            assert!(failed.message.contains(reason), "{failed:?}");
        }
        assert!(!failed.message.contains("loop0"), "{failed:?}");
    }

    #[test]
    fn lists_and_methods_are_read() {
        let read = |disk: &str, method: &str| {
            let (disk, method) = (disk.to_owned(), method.to_owned());
            super::read(&move |name: &str| match name {
                "DISK" => Some(disk.clone()),
                "WIPE_METHOD" => Some(method.clone()),
                _ => None,
            })
        };
        let wish = read("/dev/sda, /dev/sdb", "").unwrap();
        assert_eq!((wish.disks.len(), wish.method), (2, Method::Metadata));
        assert_eq!(read("/dev/sda,", "shred").unwrap_err().0.len(), 2);
    }
}
