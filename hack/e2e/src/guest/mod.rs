//! The guest lab: one QEMU machine on the image's own kernel, modules and init that runs one command and ends with its
//! exit status. No network; disks of every kind; programs and files come from the host. For tests that need what a
//! build machine's kernel has not: dm, md, vfat, privileged containers, cgroup v2, kexec.
//!
//! `ironhook-lab guest --disk nvme:1G:4096 --tool dmsetup -- dmsetup targets`, or [`Guest`] from a test. Inside, the
//! command is root with all capabilities, `/dev` is the machine's, `modprobe` is there, and so is busybox.

mod disk;
mod payload;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub use disk::{Bus, Disk};
pub use payload::{Payload, PayloadError};

use crate::accel;
use crate::command::{CommandError, command, run};
use crate::lab::Places;
use crate::wait::{self, TimedOut};

/// The last line of a command's output.
const LAST: &str = "ironhook-guest: ended with ";

/// Which services the machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flavour {
    /// None but the command.
    #[default]
    Plain,
    /// The image's docker service beside it, its socket at `/run/docker/docker.sock`.
    Engine,
}

/// A machine to be.
#[derive(Debug)]
pub struct Guest {
    /// For its directory, `out/lab/guest-<name>`.
    pub name: String,
    /// Which services it has.
    pub flavour: Flavour,
    /// Program, which has to be in the guest, and its arguments; no word may hold a line feed.
    pub command: Vec<String>,
    /// What it is given to work with.
    pub payload: Payload,
    /// Its disks, in order.
    pub disks: Vec<Disk>,
    /// RAM.
    pub memory_mib: u32,
    /// How long it may take, boot included.
    pub limit: Duration,
}

/// How a command ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its exit status up to 62, or 63 + n for signal n.
    pub status: i32,
    /// What it wrote, both streams.
    pub output: String,
}

/// The guest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// A disk that QEMU has not.
    #[error(
        "{0:?} is no disk: expected BUS:SIZE[:512|4096] or BUS:FILE[:512|4096], BUS one of virtio, nvme, scsi, sata (512 only)"
    )]
    Disk(String),
    /// What it is to carry.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// Its image, or a tool of the host.
    #[error(transparent)]
    Tool(#[from] CommandError),
    /// A file of the lab.
    #[error("cannot read or write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU.
    #[error("cannot run qemu-system-x86_64 (make deps installs it)")]
    Qemu(#[source] io::Error),
    /// It did not end in time.
    #[error("{source}; its console is {console}, its last lines:\n{last}")]
    TimedOut {
        /// What was waited for.
        #[source]
        source: TimedOut,
        /// Where its console's output is.
        console: PathBuf,
        /// The end of that.
        last: String,
    },
    /// It ended without a result.
    #[error(
        "the machine ended with {status} before its command did; its console is {console}, its last lines:\n{last}"
    )]
    Ended {
        /// QEMU's exit status.
        status: std::process::ExitStatus,
        /// Where its console's output is.
        console: PathBuf,
        /// The end of that.
        last: String,
    },
}

impl Guest {
    /// A plain guest for a command.
    pub fn new(name: &str, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            flavour: Flavour::default(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            payload: Payload::default(),
            disks: Vec::new(),
            memory_mib: 1024,
            limit: Duration::from_secs(600),
        }
    }

    /// The directory of its files: `console.log`, `output.log` and disks that have no place of their own.
    pub fn dir(&self, places: &Places) -> PathBuf {
        places.out.join("lab").join(format!("guest-{}", self.name))
    }

    /// Boots it, runs the command to its end, and gives the result.
    pub fn run(mut self, places: &Places) -> Result<Ended, GuestError> {
        let dir = self.dir(places);
        fs::create_dir_all(&dir).map_err(file_error(&dir))?;
        let (kernel, initramfs) = self.image(places)?;
        self.payload.text("/etc/ironhook-guest/command", &(self.command.join("\n") + "\n"));
        let initrd = dir.join("initrd");
        self.payload.append_to(&initramfs, &initrd)?;
        let (console, output) = (dir.join("console.log"), dir.join("output.log"));
        for log in [&console, &output] {
            fs::write(log, "").map_err(file_error(log))?;
        }
        let accel = accel::probe().map_err(GuestError::Qemu)?;
        let mut qemu =
            command("qemu-system-x86_64", ["-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none"]);
        qemu.args(["-machine", "q35", "-accel", accel, "-smp", "2", "-m", &format!("{}M", self.memory_mib)]);
        qemu.args(["-cpu", if accel == "kvm" { "host" } else { "max,svm=off" }, "-device", "virtio-rng-pci"]);
        qemu.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"]);
        qemu.arg("-kernel").arg(&kernel).arg("-initrd").arg(&initrd);
        qemu.args(["-append", "console=ttyS0 panic=-1 ironhook.panic_seconds=1 no_timer_check quiet"]);
        qemu.args([
            "-serial",
            &format!("file:{}", console.display()),
            "-serial",
            &format!("file:{}", output.display()),
        ]);
        for (i, disk) in self.disks.iter().enumerate() {
            disk.attach(&mut qemu, i, &dir)?;
        }
        let log = dir.join("qemu.log");
        let errors = fs::File::create(&log).map_err(file_error(&log))?;
        let child = qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().map_err(GuestError::Qemu)?;
        let status = Machine(child).end(self.limit, &console)?;
        let ended = result(status, &console, &output)?;
        let _ = fs::remove_file(&initrd);
        Ok(ended)
    }

    /// Kernel and initramfs of the flavour, brought up to date.
    fn image(&self, places: &Places) -> Result<(PathBuf, PathBuf), GuestError> {
        let flavour = if self.flavour == Flavour::Engine { "engine" } else { "plain" };
        let image = |args: &[&str]| {
            let mut tool = Command::new(places.programs.join("ironhook-image"));
            run(tool.current_dir(&places.repo).args(args))
        };
        let programs = places.programs.display().to_string();
        image(&["component", "--programs", &programs, "hack/e2e/components/guest"])?;
        let out = places.out.join("lab").join(format!("image-{flavour}"));
        fs::create_dir_all(&out).map_err(file_error(&out))?;
        image(&[
            "build",
            &format!("hack/e2e/guest/{flavour}.yaml"),
            "--level",
            "1",
            "--out",
            &out.display().to_string(),
        ])?;
        Ok((out.join("vmlinuz-x86_64"), out.join("initramfs-x86_64")))
    }
}

/// Off when dropped.
struct Machine(Child);

impl Machine {
    fn end(mut self, limit: Duration, console: &Path) -> Result<std::process::ExitStatus, GuestError> {
        wait::until("the end of the guest's command", limit, || Ok(self.0.try_wait().ok().flatten())).map_err(
            |source: TimedOut| GuestError::TimedOut { source, console: console.to_owned(), last: last_lines(console) },
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// QEMU's exit status is `2 n + 1` for the byte `n` that the guest wrote, which is its status plus one.
fn result(status: std::process::ExitStatus, console: &Path, output: &Path) -> Result<Ended, GuestError> {
    let text = fs::read(output).map_err(file_error(output))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let code = status.code().filter(|code| *code > 1).map(|code| code / 2 - 1);
    match (code, text.rsplit_once(LAST)) {
        (Some(code), Some((said, told))) if told.trim() == code.to_string() => {
            Ok(Ended { status: code, output: said.to_owned() })
        }
        _ => Err(GuestError::Ended { status, console: console.to_owned(), last: last_lines(console) }),
    }
}

fn last_lines(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> GuestError {
    let path = path.to_owned();
    move |source| GuestError::File { path, source }
}
