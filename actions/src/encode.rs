//! `ironhook-actions image-encode SOURCE DIRECTORY`, what `ironhook image add` runs: any image that `image-write` can read
//! becomes one in Zstandard frames, named by its digest, with its map beside it. For the host; not an action.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cmd::disk_capture::to_file;
use crate::disk::held::END;
use crate::disk::target::Content;
use crate::failed::Failed;
use crate::image::checksum::Of;
use crate::image::format::{Layout, Unpack};
use crate::image::proof::Proof;
use crate::image::published::Place;
use crate::image::source::{Request, Source};
use crate::pack::{Pack, Packed, Packing, WriteError};

/// The argument that selects it.
pub const NAME: &str = "image-encode";

/// Prints progress as `<done> <total>` lines on stderr, and what came of it as JSON on stdout.
pub fn main(args: &[String]) -> ExitCode {
    let [source, directory] = args else {
        eprintln!("usage: ironhook-actions {NAME} SOURCE DIRECTORY");
        return ExitCode::from(2);
    };
    match encode(source, Path::new(directory)) {
        Ok(line) => match writeln!(io::stdout(), "{line}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(text) => {
            eprintln!("failed: {text}");
            ExitCode::FAILURE
        }
    }
}

fn encode(source: &str, directory: &Path) -> Result<serde_json::Value, String> {
    let path = std::fs::canonicalize(source).map_err(|e| format!("cannot open {source}: {e}"))?;
    let request = Request {
        place: Place::File(path),
        options: fetch::Options { patience: Duration::ZERO, ..fetch::Options::default() },
        proof: Proof::default(),
        of: Of::Compressed,
        unpack: Unpack::Auto,
        said: None,
        member: None,
        layout: Layout::Auto,
    };
    let source = Source::open(&request, END as usize).map_err(|failed| failed.failure().one_line())?;
    let (read, total) = (source.describe(), source.length().unwrap_or(0));
    let (pack, _) = Pack::new(Box::new(Whole { source, ended: false }), Packing::Zstd, None);
    let partial = directory.join(format!(".adding-{}", std::process::id()));
    let mut told = std::time::Instant::now();
    let mut tick = |done: u64| {
        if told.elapsed() > Duration::from_millis(250) {
            told = std::time::Instant::now();
            let _ = writeln!(io::stderr(), "{done} {total}");
        }
    };
    let packed = to_file(pack, &partial, &mut tick).map_err(|e| match e {
        WriteError::Read(e) => e.to_string(),
        WriteError::Write(e) => format!("cannot write to {}: {e}", directory.display()),
    })?;
    let file =
        keep(&partial, directory, &packed).map_err(|e| format!("cannot write to {}: {e}", directory.display()))?;
    Ok(serde_json::json!({
        "read": read,
        "file": file,
        "sha256": packed.published_sha256,
        "contentSha256": packed.content_sha256,
        "size": packed.published,
        "contentSize": packed.length,
        "mappedSize": packed.mapped(),
    }))
}

/// Under the name of its digest; the image last, so that one that is there is whole.
fn keep(partial: &Path, directory: &Path, packed: &Packed) -> io::Result<String> {
    let name = format!("{}.img.zst", packed.published_sha256.replace(':', "-"));
    let beside = |path: &Path| PathBuf::from(format!("{}.bmap", path.display()));
    let path = directory.join(&name);
    std::fs::rename(beside(partial), beside(&path))?;
    std::fs::rename(partial, &path)?;
    std::fs::File::open(directory)?.sync_all()?;
    Ok(name)
}

/// The content, whose end counts only when all of it came.
struct Whole {
    source: Source,
    ended: bool,
}

fn wrong(failed: &Failed) -> io::Error {
    io::Error::other(failed.failure().one_line())
}

impl Read for Whole {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended || buf.is_empty() {
            return Ok(0);
        }
        match self.source.read(buf) {
            Ok(0) => {
                self.ended = true;
                self.source.prove().map(|()| 0).map_err(|failed| wrong(&failed))
            }
            Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(wrong(&self.source.explain(e))),
            done => done,
        }
    }
}
