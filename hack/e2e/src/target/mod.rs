//! The OS that gets installed: a small Debian disk image, built from packages and cached by what it is made of.
//! It holds no address of our server; an action of the workflow writes that into it.
//!
//! `out/target/<inputs>/target.raw.zst` and its `.sha256`, where `<inputs>` is a digest of recipe and builder.

mod disk;
mod grub;
mod rootfs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::command::{CommandError, command, run};

/// What decides how the image comes out; any change in it is a new cache entry.
const BUILDER: [&str; 4] =
    [include_str!("mod.rs"), include_str!("disk.rs"), include_str!("grub.rs"), include_str!("rootfs.rs")];
/// Times inside the image; any constant does.
const EPOCH: &str = "1735689600";
/// The file system label that GRUB and the kernel find the root by.
const ROOT_LABEL: &str = "target-root";
const IMAGE: &str = "target.raw.zst";
/// Written last: its presence says that the image is whole.
const SUM: &str = "target.raw.zst.sha256";

/// A finished image.
#[derive(Debug, Clone)]
pub struct Target {
    /// `target.raw.zst`.
    pub file: PathBuf,
    /// Of the compressed file, in hexadecimal.
    pub sha256: String,
}

/// The image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Nobody has built it.
    #[error("there is no target image in {0}; ironhook-lab target builds it")]
    Missing(PathBuf),
    /// A tool failed.
    #[error("cannot build the target image")]
    Tool(#[from] CommandError),
    /// A file of the recipe or of the cache.
    #[error("cannot read or write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something does not fit where it has to go.
    #[error("{what} takes {size} bytes, more than the {room} there are for it")]
    TooLarge {
        /// What does not fit.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// How large it may be.
        room: u64,
    },
    /// GRUB's images do not look as they have for twenty years.
    #[error("{path} is not the GRUB image that is expected here: {problem}")]
    Grub {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    let path = path.to_owned();
    move |source| TargetError::File { path, source }
}

/// The image for this recipe, built first when the cache under `out` lacks it. Needs the internet, so not in the lab.
/// `say` is told each step of a build.
pub fn ensure(repo: &Path, out: &Path, say: &mut dyn FnMut(&str)) -> Result<Target, TargetError> {
    let recipe = recipe(repo);
    let dir = out.join("target").join(inputs(&recipe)?);
    if !dir.join(SUM).exists() {
        say("building the target image (once; some minutes)");
        build(repo, &recipe, &dir, say)?;
    }
    cached(repo, out)
}

/// The image for this recipe, which must be in the cache.
pub fn cached(repo: &Path, out: &Path) -> Result<Target, TargetError> {
    let dir = out.join("target").join(inputs(&recipe(repo))?);
    let sum_file = dir.join(SUM);
    if !sum_file.exists() {
        return Err(TargetError::Missing(dir));
    }
    let sum = fs::read_to_string(&sum_file).map_err(file_error(&sum_file))?;
    let sha256 = sum.split_whitespace().next().unwrap_or_default().to_owned();
    Ok(Target { file: dir.join(IMAGE), sha256 })
}

fn recipe(repo: &Path) -> PathBuf {
    repo.join("hack/e2e/target-os")
}

fn build(repo: &Path, recipe: &Path, dir: &Path, say: &mut dyn FnMut(&str)) -> Result<(), TargetError> {
    fs::create_dir_all(dir).map_err(file_error(dir))?;
    let work = tempfile::Builder::new().prefix("build-").tempdir_in(dir).map_err(file_error(dir))?;
    say("installing its packages");
    let tar = rootfs::bootstrap(repo, recipe, work.path())?;
    say("making its root file system");
    let root = rootfs::file_system(&tar, work.path())?;
    say("assembling the disk");
    let grub = grub::images(recipe, work.path())?;
    let raw = work.path().join("target.raw");
    disk::assemble(&raw, &root, &grub)?;
    say("compressing it");
    let packed = work.path().join(IMAGE);
    run(command("zstd", ["-q", "-10", "-T0", "-o"]).arg(&packed).arg(&raw))?;
    let sum = digest(&packed)?;
    let file = dir.join(IMAGE);
    fs::rename(&packed, &file).map_err(file_error(&file))?;
    let sum_file = dir.join(SUM);
    let partial = work.path().join("sha256");
    fs::write(&partial, format!("{sum}  {IMAGE}\n")).map_err(file_error(&partial))?;
    fs::rename(&partial, &sum_file).map_err(file_error(&sum_file))
}

/// A digest of all that decides how the image comes out.
fn inputs(recipe: &Path) -> Result<String, TargetError> {
    let mut hash = Sha256::new();
    for part in BUILDER {
        hash.update(part);
    }
    let mut files = Vec::new();
    collect(recipe, &mut files)?;
    files.sort();
    for file in files {
        let text = fs::read(&file).map_err(file_error(&file))?;
        hash.update(file.strip_prefix(recipe).unwrap_or(&file).as_os_str().as_encoded_bytes());
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    Ok(hex(&hash.finalize())[..16].to_owned())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), TargetError> {
    for entry in fs::read_dir(dir).map_err(file_error(dir))? {
        let path = entry.map_err(file_error(dir))?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
fn digest(path: &Path) -> Result<String, TargetError> {
    let mut hash = Sha256::new();
    let mut file = fs::File::open(path).map_err(file_error(path))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = io::Read::read(&mut file, &mut buffer).map_err(file_error(path))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
