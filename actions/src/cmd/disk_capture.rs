//! `disk-capture`: a disk into an image, proven by its digest, with a map of what on it is not zero. Reads the disk and
//! nothing else; refuses one that is being written to.

mod inputs;
mod multipart;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fetch::push::{How, Upload, push};
use spec::Code;
use sys::block::{self, Device};

use crate::cmd::{Context, environment};
use crate::disk::find::{Found, Refusal, Used, find};
use crate::failed::{Coded, Failed};
use crate::pack::{End, Pack, Packed, WriteError};
use crate::report::{Report, size};
use crate::table::Action;
use inputs::{Destination, Wish};

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "disk-capture",
    also: &["slurp"],
    doc: "Reads a disk into an image, sends it to a server or writes it to a file.",
    inputs: inputs::INPUTS,
    run,
};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot open {} for reading", path.display())]
    Open { path: PathBuf, source: block::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the image {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot send the image")]
    Send(#[source] fetch::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Open { .. } | Self::Read { .. } => Code::DiskIo,
            Self::Write { .. } => Code::FileIo,
            Self::Send(_) => Code::Fetch,
        }
    }
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = inputs::read(context.called, &environment)?;
    let report = context.report;
    let found = find(&wish.disk, &context.sysfs, wish.wait)?;
    match found.refusal(true, &Used::now()?) {
        Some(why) if wish.force => report.warn(&format!("{why}, and captured all the same: it may be inconsistent")),
        Some(why) if why != Refusal::ReadOnly => {
            return Err(crate::disk::find::Error::Refused { path: found.path.clone(), why }.into());
        }
        _ => {}
    }
    report.plan(&format!("read {} as {}", found.describe(), wish.name()));
    report.plan(&match &wish.destination {
        Destination::File(path) => format!("write it to {}", path.display()),
        Destination::Put(url) => format!("put it to {}", fetch::redacted(url)),
        Destination::Multipart(url) => format!("post it to {} as the form field BootyImage", fetch::redacted(url)),
    });
    if wish.dry_run {
        return Ok(());
    }
    let packed = capture(&wish, &found, report)?;
    report.info(&format!(
        "captured: {}, {} of them not zero, as {} with {}",
        size(packed.length),
        size(packed.mapped()),
        size(packed.published),
        packed.published_sha256,
    ));
    report.info(&format!("content: {}", packed.content_sha256));
    report.fact("sha256", packed.published_sha256.as_str());
    report.fact("contentSha256", packed.content_sha256.as_str());
    report.fact("bytes", packed.length);
    report.fact("mappedBytes", packed.mapped());
    Ok(())
}

fn capture(wish: &Wish, found: &Found, report: &Report) -> Result<Packed, Error> {
    let open = |source| Error::Open { path: found.path.clone(), source };
    let device = Device::read(&found.path).map_err(open)?;
    let length = device.size().map_err(open)?;
    let (pack, end) = Pack::new(Box::new(Disk { device, at: 0, length }), wish.packing, Some(length));
    let packed = match &wish.destination {
        Destination::File(path) => {
            to_file(pack, path, &mut |got| report.progress("reading", got, length)).map_err(|error| match error {
                WriteError::Read(source) => Error::Read { path: found.path.clone(), source },
                WriteError::Write(source) => Error::Write { path: path.clone(), source },
            })?
        }
        Destination::Put(url) => {
            let sender = Sender { wish, found, report, length };
            // How long a packed image is shows only at its end.
            let known = wish.is_plain().then_some(length);
            let packed = sender.send(url, upload(How::Put, "application/octet-stream", known, pack), &end)?;
            let map = packed.bmap().into_bytes();
            let upload = upload(How::Put, "application/xml", Some(map.len() as u64), io::Cursor::new(map));
            push(&format!("{url}.bmap"), &wish.fetch, upload, &mut || ()).map_err(Error::Send)?;
            packed
        }
        Destination::Multipart(url) => {
            let form = multipart::Form::new(&wish.name(), pack, end.clone());
            let kind = form.content_type();
            Sender { wish, found, report, length }.send(url, upload(How::Post, &kind, None, form), &end)?
        }
    };
    report.progress_end("reading", packed.length, length);
    Ok(packed)
}

fn upload(how: How, kind: &str, length: Option<u64>, body: impl io::Read + Send + 'static) -> Upload {
    Upload { how, content_type: kind.to_owned(), length, body: Box::new(body) }
}

/// One transfer of the image.
struct Sender<'a> {
    wish: &'a Wish,
    found: &'a Found,
    report: &'a Report,
    length: u64,
}

impl Sender<'_> {
    /// A transfer that broke because the disk did is an error of the disk.
    fn send(&self, url: &str, upload: Upload, end: &End) -> Result<Packed, Error> {
        let read = |source| Error::Read { path: self.found.path.clone(), source };
        let mut tick = || self.report.progress("reading", end.position(), self.length);
        match push(url, &self.wish.fetch, upload, &mut tick) {
            Ok(()) => end.packed().map_err(read),
            Err(error) => Err(end.broken().map_or(Error::Send(error), read)),
        }
    }
}

/// The disk from its first byte to its last; an earlier end is an error.
struct Disk {
    device: Device,
    at: u64,
    length: u64,
}

impl io::Read for Disk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(buf.len());
        self.device.read_at(&mut buf[..len], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Complete under its name, or not there at all.
pub(crate) fn to_file(pack: Pack, path: &Path, tick: &mut dyn FnMut(u64)) -> Result<Packed, WriteError> {
    let write = WriteError::Write;
    let partial = with_suffix(path, ".partial");
    let mut file = File::create(&partial).map_err(write)?;
    let result = pack.write_to(&mut file, tick).and_then(|packed| {
        file.sync_all().map_err(write)?;
        let mut map = File::create(with_suffix(path, ".bmap")).map_err(write)?;
        map.write_all(packed.bmap().as_bytes()).and_then(|()| map.sync_all()).map_err(write)?;
        fs::rename(&partial, path).map_err(write)?;
        Ok(packed)
    });
    if result.is_err() {
        // Only half of it, and the first error is the one that counts.
        let _ = fs::remove_file(&partial);
    }
    result
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
