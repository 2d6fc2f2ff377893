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
    /// The lock to obey; written anew when the mirror no longer has what it names.
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
                // What will be exported belongs to the same lock as the images.
                return component::fetch(component, workshop);
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
    for (old, new) in lock.since(&before) {
        match old {
            Some(old) => println!("{}: {} -> {}", new.name, old.version, new.version),
            None => println!("{}: {}", new.name, new.version),
        }
    }
    Ok(lock.write()?)
}

/// Locks all that is locked at what the mirror has now, and says so: what ships has to be on record.
fn relock_gone(cache: &Path, path: &Path, before: &Lock) -> anyhow::Result<Lock> {
    let lock = Lock::new(path, debs::apt::resolve(&cache.join("apt"), &before.asked())?);
    if lock == *before {
        return Ok(lock);
    }
    lock.write()?;
    for (old, new) in lock.since(before) {
        eprintln!("relocked: {} {} -> {}", new.name, old.map_or("", |old| &old.version), new.version);
    }
    eprintln!("relocked: {} has changed and has to be committed before `make dist`", path.display());
    Ok(lock)
}

/// Runs a pass over the components. When a locked package is gone from the mirror, once more from the start with a
/// new lock, so that all are made of the same one.
fn obey(
    lock: &Lock,
    mut pass: impl FnMut(&Lock) -> anyhow::Result<()>,
    relock: impl FnOnce(&Lock) -> anyhow::Result<Lock>,
) -> anyhow::Result<()> {
    let gone = |error: &anyhow::Error| error.downcast_ref().is_some_and(component::Error::is_gone);
    match pass(lock) {
        Err(error) if gone(&error) => {
            eprintln!("relocked: {error:#}; locking what it has now");
            let lock = relock(lock).with_context(|| format!("{error:#}, and nothing newer can be locked"))?;
            pass(&lock).map_err(|error| match gone(&error) {
                true => {
                    error.context("the mirror lacks what its own index names; try again later or set another mirror")
                }
                false => error,
            })
        }
        done => done,
    }
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
    let components = component::read_all(&sources.folders)?;
    let pass = |lock: &Lock| {
        let workshop = Workshop { programs, lock, store: &store, layout: &layout, architecture: ARCHITECTURE.0 };
        for component in &components {
            visit(component, &workshop).with_context(|| format!("component {}", component.name))?;
        }
        anyhow::Ok(())
    };
    obey(&lock, pass, |before| relock_gone(cache, &sources.lock, before))
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
    let entries = spec::paths::ENTRIES;
    tree.remove(entries.trim_start_matches('/'));
    let total = tree.iter().count() + 1;
    tree.insert(entries, tree::Node::file(format!("{total}\n"), 0o644))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> anyhow::Error {
        let (name, version, url) = ("crun".to_owned(), "1.0".to_owned(), "http://mirror/crun.deb".to_owned());
        let error = component::Error::from(debs::store::Error::Gone { name, version, url });
        Err::<(), _>(error).context("component init").unwrap_err()
    }

    fn new_lock() -> Lock {
        Lock::new(Path::new("new.lock"), Default::default())
    }

    #[test]
    fn a_gone_package_is_relocked_and_the_pass_runs_again_with_the_new_lock() {
        let mut passes = Vec::new();
        let pass = |lock: &Lock| {
            passes.push(lock.clone());
            if passes.len() == 1 { Err(gone()) } else { Ok(()) }
        };
        obey(&Lock::default(), pass, |_| Ok(new_lock())).unwrap();
        assert_eq!(passes, [Lock::default(), new_lock()]);
    }

    #[test]
    fn a_second_gone_is_the_error_and_another_error_relocks_nothing() {
        let mut relocked = 0;
        let mut relock = |_: &Lock| {
            relocked += 1;
            Ok(new_lock())
        };
        let error = obey(&Lock::default(), |_| Err(gone()), &mut relock).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("its own index names") && error.contains("component init: crun 1.0 is gone"), "{error}");
        let error = obey(&Lock::default(), |_| Err(anyhow::anyhow!("disk full")), &mut relock).unwrap_err();
        assert_eq!((error.to_string().as_str(), relocked), ("disk full", 1));
    }
}
