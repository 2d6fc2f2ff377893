//! `ironhook-lab guest` of the command line: a guest from flags, its output as ours.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use e2e::guest::{Disk, Flavour, Guest};
use e2e::lab::Places;

/// What the machine is to have, and what it is to do.
#[derive(Args)]
pub struct Arguments {
    /// Its files are below out/lab/guest-<NAME>
    #[arg(long, default_value = "command")]
    name: String,
    /// A disk: BUS:SIZE[:512|4096] for an empty one, BUS:FILE[:512|4096]; BUS is virtio, nvme, scsi or sata
    #[arg(long)]
    disk: Vec<Disk>,
    /// A program of the host that it gets, with its libraries, in /usr/bin
    #[arg(long)]
    tool: Vec<String>,
    /// A file of the host that it gets: HOST:GUEST
    #[arg(long)]
    file: Vec<String>,
    /// With the image's container engine
    #[arg(long)]
    engine: bool,
    /// RAM in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Seconds until it is switched off, boot included
    #[arg(long, default_value_t = 600)]
    limit: u64,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs it.
pub fn run(arguments: Arguments, places: &Places) -> Result<ExitCode> {
    let mut guest = Guest::new(&arguments.name, &[]);
    guest.command = arguments.command;
    guest.disks = arguments.disk;
    guest.memory_mib = arguments.memory;
    guest.limit = Duration::from_secs(arguments.limit);
    if arguments.engine {
        guest.flavour = Flavour::Engine;
    }
    for tool in &arguments.tool {
        guest.payload.program(tool)?;
    }
    for file in &arguments.file {
        let (host, path) = file.split_once(':').with_context(|| format!("--file {file}: expected HOST:GUEST"))?;
        guest.payload.file(&PathBuf::from(host), path);
    }
    let ended = guest.run(places)?;
    print!("{}", ended.output);
    Ok(ExitCode::from(u8::try_from(ended.status)?))
}
