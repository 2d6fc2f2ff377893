//! The command line, also what the manual page is made of. No work is done here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Builds Ironhook's kernel and initramfs.
///
/// Reads LinuxKit YAML and OCI images, writes a kernel and an initramfs that are the same bytes for the same inputs.
/// Images come from the OCI layout in the cache; nothing is fetched unless --pull asks for it.
#[derive(Parser, Debug)]
#[command(name = "ironhook-image", version)]
pub struct Cli {
    /// Where downloads and component images are kept.
    #[arg(long, global = true, default_value = "out/cache")]
    pub cache: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
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
        /// From what.
        #[command(flatten)]
        sources: Sources,
    },
    /// Assembles kernel and initramfs from LinuxKit YAML and images.
    Build(Build),
    /// Tells what an initramfs holds: entries and bytes by component, packages and versions.
    Inspect {
        /// The initramfs; its bill of materials, <FILE>.spdx.json, is read too when it lies beside it.
        #[arg(default_value = "out/initramfs-x86_64")]
        file: PathBuf,
    },
}

/// What components are made of.
#[derive(Args, Debug)]
pub struct Sources {
    /// The lock to obey; written anew when the mirror no longer has what it names.
    #[arg(long, default_value = "image/debs.lock")]
    pub lock: PathBuf,
    /// Where our programs were built.
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/debug")]
    pub programs: PathBuf,
    /// Folders with a component.yaml; all of linuxkit/components when none is named.
    pub folders: Vec<PathBuf>,
}

/// What to assemble, and into what.
#[derive(Args, Debug)]
pub struct Build {
    /// LinuxKit YAML; of several files, lists are joined and the last one's kernel keys count.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where to.
    #[arg(long, default_value = "out")]
    pub out: PathBuf,
    /// What to make.
    #[arg(long, value_enum, default_value_t = Format::KernelInitramfs)]
    pub format: Format,
    /// How the initramfs is compressed.
    #[arg(long, value_enum, default_value_t = Compression::Zstd)]
    pub compression: Compression,
    /// How hard: 1 to 19 for zstd, 1 to 9 for gzip.
    #[arg(long, default_value_t = 3)]
    pub level: u32,
    /// How many cores compress; the bytes are the same for any number. 0: all there are.
    #[arg(long, default_value_t = 0)]
    pub threads: u32,
    /// Put what only components marked `dev.ironhook.stage: "2"` need into a layer file beside the initramfs.
    #[arg(long)]
    pub two_stages: bool,
    /// Fetch images that the cache lacks from their registries.
    #[arg(long)]
    pub pull: bool,
    /// With --pull: registry credentials, as docker, podman and skopeo keep them.
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// With --pull: certificate authorities that are trusted besides the well-known ones (PEM).
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// With --pull: a registry (host:port) that speaks HTTP without TLS; may be given several times.
    #[arg(long, value_name = "REGISTRY")]
    pub insecure_registry: Vec<String>,
}

/// What to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// vmlinuz-<arch> and initramfs-<arch>.
    #[value(name = "kernel+initramfs")]
    KernelInitramfs,
    /// The tree that the stock CLI makes with the same word, as image-<arch>.tar.
    Tar,
}

/// How the initramfs is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Compression {
    /// Smaller and faster to unpack.
    Zstd,
    /// For kernels without CONFIG_RD_ZSTD.
    Gzip,
}
