//! `archive-extract`: a tar archive, or the layers of a container image, into the file systems of a disk, with everything
//! that the archive says about its files, and nothing outside of the target.

mod inputs;

use std::path::Path;
use std::time::Instant;

use fetch::registry::{self, Access, Reference, Repository};
use spec::Code;
use sys::mount::Mount;
use sys::tree::Tree;

use crate::archive::extract::{self, Count, Options, extract};
use crate::archive::reader::{self, Archive};
use crate::archive::source::{self, Stream};
use crate::cmd::{Context, environment};
use crate::disk::find::{Found, Used, find};
use crate::disk::mounted::{self, Place};
use crate::failed::{Coded, Failed};
use crate::report::{Report, size};
use crate::table::Action;
use inputs::{Target, What, Wish};

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "archive-extract",
    also: &["archive2disk"],
    doc: "Extracts a tar archive or a container image into file systems of a disk.",
    inputs: inputs::INPUTS,
    run,
};

/// Why nothing, or not all, was extracted.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read the image from the registry")]
    Registry(#[source] registry::Error),
    #[error("{0} has nothing in it that could be extracted")]
    Nothing(String),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Registry(e) => crate::image::published::code_of_registry(e),
            Self::Nothing(_) => Code::Decode,
        }
    }
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = inputs::read(&environment)?;
    let report = context.report;
    let deadline = Instant::now() + wish.wait;
    let used = Used::now()?;
    let mut targets = Vec::new();
    for target in &wish.targets {
        let found = find(&target.disk, &context.sysfs, wish.wait)?;
        // A removable target is as good as another here: nothing of it is destroyed.
        found.check(true, &used)?;
        let fs_type = mounted::fs_type(target.fs_type.as_deref(), &found)?;
        targets.push((target, found, fs_type));
    }
    let mut job = Job::open(&wish)?;
    report.plan(&format!("extract {} below /{}", job.describe(), wish.base.display()));
    for (target, found, fs_type) in &targets {
        report.plan(&format!("/{} of the target is {} ({fs_type})", target.path.display(), found.describe()));
    }
    if wish.is_unproven {
        report.warn("no checksum is set: NOTHING PROVES that these are the right bytes");
    }
    if wish.dry_run {
        return Ok(());
    }
    let place = Place::make()?;
    let mut mounts = Mounts::default();
    let done = mounts.all(&targets, &place, deadline).and_then(|()| into(&mut job, &wish, place.path(), report));
    let unmounted = mounts.end();
    let count = done?;
    unmounted?;
    report.info(&format!("extracted: {} entries, {}", count.entries, size(count.bytes)));
    if count.unkept > 0 {
        report.warn(&format!("{} entries are on a file system that keeps neither owners nor attributes", count.unkept));
    }
    Ok(())
}

/// What is mounted, the innermost last.
#[derive(Default)]
struct Mounts<'a>(Vec<(Mount, &'a Found)>);

impl<'a> Mounts<'a> {
    fn all(&mut self, targets: &'a [(&Target, Found, String)], place: &Place, deadline: Instant) -> Result<(), Failed> {
        for (target, found, fs_type) in targets {
            if target.path.as_os_str().is_empty() {
                self.0.push((mounted::mount_at(found, fs_type, place.path(), deadline)?, found));
                continue;
            }
            let mut tree = Tree::open(place.path()).map_err(extract::Error::from)?;
            tree.directory(&target.path).map_err(extract::Error::from)?;
            // By its handle: links of the target may lead anywhere.
            let handle = tree.handle(&target.path).map_err(extract::Error::from)?;
            let at = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle)));
            let at = at.map_err(mounted::Error::Place)?;
            drop((handle, tree));
            self.0.push((mounted::mount_at(found, fs_type, &at, deadline)?, found));
        }
        Ok(())
    }

    /// The innermost first.
    fn end(self) -> Result<(), mounted::Error> {
        let mut first = Ok(());
        for (mount, found) in self.0.into_iter().rev() {
            first = first.and(mounted::unmount(mount, found));
        }
        first
    }
}

/// What is extracted, opened and looked at, nothing of it written.
#[allow(clippy::large_enum_variant)] // There is one of it.
enum Job {
    Archive(Box<Stream>),
    Image { repository: Box<Repository>, image: registry::Image, name: String },
}

impl Job {
    fn open(wish: &Wish) -> Result<Self, Failed> {
        match &wish.what {
            What::Archive { place, proof, content, packing } => {
                Ok(Self::Archive(Box::new(source::open(place, &wish.fetch, (proof, content), *packing)?)))
            }
            What::Image { reference, access } => Ok(Self::image(reference, access)?),
        }
    }

    fn image(reference: &Reference, access: &Access) -> Result<Self, Error> {
        let mut repository = Repository::new(reference, access).map_err(Error::Registry)?;
        let image = repository.image(crate::image::published::architecture()).map_err(Error::Registry)?;
        let name = reference.to_string();
        if image.manifest.layers.is_empty() {
            return Err(Error::Nothing(name));
        }
        Ok(Self::Image { repository: Box::new(repository), image, name })
    }

    fn describe(&self) -> String {
        match self {
            Self::Archive(stream) => stream.describe(),
            Self::Image { image, name, .. } => {
                let total = image.manifest.layers.iter().map(|layer| layer.size).sum();
                format!("{name} ({}, {} layers, {})", image.digest, image.manifest.layers.len(), size(total))
            }
        }
    }
}

/// Extracts, and takes away again what must not be used.
fn into(job: &mut Job, wish: &Wish, root: &Path, report: &Report) -> Result<Count, Failed> {
    let mut tree = Tree::open(root).map_err(extract::Error::from)?;
    let was_empty = extract::is_empty(&mut tree, &wish.base)?;
    let done = everything(job, wish, &mut tree, report);
    match &done {
        Ok(_) => tree.sync().map_err(extract::Error::from)?,
        Err(_) if was_empty => match extract::clear(&mut tree, &wish.base) {
            Ok(()) => report.info("the target was empty and is empty again"),
            // The first error is the one that counts.
            Err(_) => report.warn("the target is not to be used: part of the archive is on it"),
        },
        Err(_) => report.warn("the target is not to be used: part of the archive may be on it, beside what was there"),
    }
    done
}

fn everything(job: &mut Job, wish: &Wish, tree: &mut Tree, report: &Report) -> Result<Count, Failed> {
    let options = |is_layer| Options { base: wish.base.clone(), preserve: wish.preserve, is_layer };
    let (count, name) = match job {
        Job::Archive(stream) => {
            let count = one(stream, tree, &options(false), report)?;
            (count, stream.name().to_owned())
        }
        Job::Image { repository, image, name } => {
            let mut all = Count::default();
            for (number, layer) in (1..).zip(&image.manifest.layers) {
                let blob = repository.blob(layer).map_err(Error::Registry)?;
                let length = blob.length();
                let label = format!("layer {number} of {name}");
                let mut stream = source::layer(label, length, Box::new(blob))?;
                let count = one(&mut stream, tree, &options(true), report)?;
                all.entries += count.entries;
                all.bytes += count.bytes;
                all.unkept += count.unkept;
            }
            (all, name.clone())
        }
    };
    if count.entries == 0 {
        return Err(Error::Nothing(name).into());
    }
    Ok(count)
}

/// One archive, to its last byte, proven.
fn one(stream: &mut Stream, tree: &mut Tree, options: &Options, report: &Report) -> Result<Count, Failed> {
    let mut tick = |stream: &mut &mut Stream| {
        let (done, total) = stream.position();
        report.progress("extracting", done, total);
    };
    let mut archive = Archive::new(&mut *stream);
    let done = extract(&mut archive, tree, options, &mut tick).and_then(|count| {
        archive.stream().mark();
        archive.drain()?;
        Ok(count)
    });
    match done {
        Ok(count) => {
            let (done, total) = stream.position();
            report.progress_end("extracting", done, total);
            stream.prove(true)?;
            Ok(count)
        }
        // Damage on the way shows best as the wrong digest of what was published.
        Err(error @ extract::Error::Archive(reader::Error::Read { .. } | reader::Error::Header { .. })) => {
            stream.prove(false)?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}
