//! `ironhook-image`: LinuxKit YAML and component descriptions to kernel and initramfs, deterministic and offline
//! but for the packages of the lock. Here: the command line and the one place where errors are printed.

mod component;
mod cpio;
mod debs;
mod glob;
mod inspect;
mod linuxkit;
mod oci;
mod output;
mod tar;
mod tree;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use component::{Component, Made, Workshop};
use debs::lock::Lock;
use debs::store::Store;
use oci::read::Layout;

#[derive(Parser)]
#[command(name = "ironhook-image", version, about = "Builds Ironhook's kernel and initramfs")]
struct Cli {
    /// Where downloads and component images are kept.
    #[arg(long, global = true, default_value = "out/cache")]
    cache: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Locks the current version of every package that components name.
    Lock {
        /// The lock to write.
        #[arg(long, default_value = "image/debs.lock")]
        lock: PathBuf,
        /// Folders with a component.yaml; all of linuxkit/components when none is named.
        folders: Vec<PathBuf>,
    },
    /// Brings component images in the cache up to date.
    Component(Sources),
    /// Copies the files that components export.
    Export {
        /// Where to.
        #[arg(long, default_value = "out/loaders")]
        out: PathBuf,
        #[command(flatten)]
        sources: Sources,
    },
    /// Assembles kernel and initramfs from a LinuxKit YAML and the component images.
    Build {
        /// The YAML.
        file: PathBuf,
        /// Where to.
        #[arg(long, default_value = "out")]
        out: PathBuf,
        /// Of zstd, 1 to 19.
        #[arg(long, default_value_t = 3)]
        level: i32,
        /// What to make.
        #[arg(long, value_enum, default_value_t = Format::KernelInitramfs)]
        format: Format,
    },
    /// Lists an initramfs by component.
    Inspect {
        /// The initramfs.
        #[arg(default_value = "out/initramfs-x86_64")]
        file: PathBuf,
    },
}

#[derive(Args)]
struct Sources {
    /// The lock to obey.
    #[arg(long, default_value = "image/debs.lock")]
    lock: PathBuf,
    /// Where our programs were built.
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/debug")]
    programs: PathBuf,
    /// Folders with a component.yaml; all of linuxkit/components when none is named.
    folders: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// vmlinuz-<arch> and initramfs-<arch>.
    #[value(name = "kernel+initramfs")]
    KernelInitramfs,
    /// The plain tree as image-<arch>.tar, for comparison.
    Tar,
}

/// The machine we build for: Go's name in OCI images, the kernel's name in our artifacts.
const ARCHITECTURE: (&str, &str) = ("amd64", "x86_64");

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ironhook-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Lock { lock, folders } => relock(&cli.cache, &lock, &folders),
        Command::Component(sources) => with_components(&cli.cache, &sources, |component, workshop| {
            if component.description.images.is_empty() {
                return Ok(());
            }
            let start = Instant::now();
            let made = component::make(component, workshop)?;
            let word = if made == Made::Built { "built" } else { "unchanged" };
            println!("component {} {word} {} ms", component.name, start.elapsed().as_millis());
            Ok(())
        })
        .and_then(|()| Ok(oci::write::collect_garbage(&cli.cache.join("oci"))?)),
        Command::Export { out, sources } => with_components(&cli.cache, &sources, |component, workshop| {
            for file in component::export(component, workshop, &out)? {
                println!("{}", out.join(file).display());
            }
            Ok(())
        }),
        Command::Build { file, out, level, format } => {
            build(&file, &Layout::new(&cli.cache.join("oci")), &out, level, format)
        }
        Command::Inspect { file } => {
            print!("{}", inspect::report(&file).with_context(|| format!("cannot read {}", file.display()))?);
            Ok(())
        }
    }
}

fn relock(cache: &Path, path: &Path, folders: &[PathBuf]) -> anyhow::Result<()> {
    let components = component::read_all(folders)?;
    let mut asked: Vec<String> =
        components.iter().flat_map(|component| component.description.packages.clone()).collect();
    asked.sort();
    asked.dedup();
    let before = Lock::read(path).unwrap_or_default();
    let lock = Lock::new(path, debs::apt::resolve(&cache.join("apt"), &asked)?);
    for (asked, package) in lock.iter() {
        match before.get(asked) {
            Ok(old) if old == package => {}
            Ok(old) => println!("{}: {} -> {}", package.name, old.version, package.version),
            Err(_) => println!("{}: {}", package.name, package.version),
        }
    }
    Ok(lock.write()?)
}

fn with_components(
    cache: &Path,
    sources: &Sources,
    mut visit: impl FnMut(&Component, &Workshop) -> Result<(), component::Error>,
) -> anyhow::Result<()> {
    let lock = Lock::read(&sources.lock)?;
    let store = Store::new(&cache.join("debs"));
    let layout = cache.join("oci");
    let programs = &sources.programs;
    let workshop = Workshop { programs, lock: &lock, store: &store, layout: &layout, architecture: ARCHITECTURE.0 };
    for component in component::read_all(&sources.folders)? {
        visit(&component, &workshop).with_context(|| format!("component {}", component.name))?;
    }
    Ok(())
}

fn build(file: &Path, layout: &Layout, out: &Path, level: i32, format: Format) -> anyhow::Result<()> {
    let start = Instant::now();
    let (go, kernel) = ARCHITECTURE;
    let assembled = linuxkit::assemble::assemble(file, layout, go)?;
    if let Format::Tar = format {
        let path = out.join(format!("image-{kernel}.tar"));
        return output::write_with(&path, |out| tar::write(&assembled.tree, out).map_err(anyhow::Error::from));
    }
    let marker = spec::paths::END_MARKER;
    // Made here, so that it is counted and the marker needs no entry after itself.
    let mut tree = assembled.tree;
    tree.remove(marker.trim_start_matches('/'));
    tree.ensure_directory(
        Path::new(marker.trim_start_matches('/')).parent().and_then(Path::to_str).unwrap_or_default(),
    )?;
    let initramfs = out.join(format!("initramfs-{kernel}"));
    let mut entries = 0;
    output::write_with(&initramfs, |out| {
        entries = cpio::compressed(level, out, |out| cpio::write(&tree, marker, out))?;
        anyhow::Ok(())
    })?;
    output::write(&out.join(format!("vmlinuz-{kernel}")), &assembled.kernel)?;
    if !assembled.cmdline.is_empty() {
        output::write(&out.join(format!("cmdline-{kernel}")), assembled.cmdline.as_bytes())?;
    }
    let size = std::fs::metadata(&initramfs)?.len();
    println!("{}: {entries} entries, {size} bytes, {} ms", initramfs.display(), start.elapsed().as_millis());
    Ok(())
}

/// Bytes as lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
