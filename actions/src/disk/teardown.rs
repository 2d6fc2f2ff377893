//! Taking down what uses a disk, on the operator's word: file systems are unmounted, swapping ends, mappings (LVM,
//! dm-crypt, multipath) and md arrays are closed from the top. The plan is pure and names every step. Nothing is written to
//! the disk here, and what this process cannot see (another container's mounts) still keeps the disk from being claimed.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use spec::Code;
use sys::block::{self, Device};
use sys::sysfs::{self, Number, Sysfs};
use sys::{holder, mounts, node};

use crate::disk::find::{Found, Used};
use crate::failed::Coded;

/// How long a step is tried again while somebody has it open for a moment.
const PATIENCE: Duration = Duration::from_secs(5);
/// More devices on top of each other than anybody has.
const DEEPEST: usize = 16;

/// Why it stays in use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Ourselves.
    #[error("refusing to take down {device}: the root file system of this environment is on it")]
    Root {
        /// The disk or partition.
        device: String,
    },
    /// Nothing that is known here.
    #[error(
        "cannot take down {holder}, which holds {device}: only mappings (dm) and arrays (md) can be, close it first"
    )]
    Holder {
        /// The disk or partition.
        device: String,
        /// The device on top.
        holder: String,
    },
    /// /sys is unreadable.
    #[error("cannot look up {device}")]
    Lookup {
        /// What was looked up.
        device: String,
        /// What is wrong.
        source: sysfs::Error,
    },
    /// A step failed, mostly because somebody has a file open.
    #[error("cannot {step}")]
    Step {
        /// As in the plan.
        step: Step,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::DiskBusy
    }
}

/// One thing to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A mount.
    Unmount(PathBuf),
    /// A swap area.
    SwapOff(String, Number),
    /// A device-mapper device and the name it was given.
    Close(String, String, Number),
    /// An md array.
    Stop(String, Number),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmount(at) => write!(f, "unmount {}", at.display()),
            Self::SwapOff(device, _) => write!(f, "end swapping to {device}"),
            Self::Close(device, name, _) => write!(f, "close {device} ({name})"),
            Self::Stop(device, _) => write!(f, "stop {device}"),
        }
    }
}

/// Everything that sits on a disk, in the order in which it has to go.
pub fn plan(found: &Found, used: &Used, sysfs: &Sysfs) -> Result<Vec<Step>, Error> {
    let mut stack = Stack { sysfs, devices: Vec::new(), closing: Vec::new(), seen: BTreeSet::new() };
    for (name, number, holders) in found.devices() {
        stack.add(name, number, holders, 0)?;
    }
    let mut steps = unmounts(&stack.devices, used)?;
    let swaps = stack.devices.iter().filter(|(_, number)| used.swaps.contains(number));
    steps.extend(swaps.map(|(name, number)| Step::SwapOff(name.clone(), *number)));
    steps.append(&mut stack.closing);
    Ok(steps)
}

/// The last mounted first; what is mounted below a mount point goes with it.
fn unmounts(devices: &[(String, Number)], used: &Used) -> Result<Vec<Step>, Error> {
    let mut points: Vec<&Path> = Vec::new();
    let mut steps = Vec::new();
    for (number, at) in &used.mounts {
        let device = devices.iter().find(|(_, n)| n == number).map(|(name, _)| name);
        match device {
            Some(device) if at == Path::new("/") => return Err(Error::Root { device: device.clone() }),
            Some(_) => points.push(at),
            None if points.iter().any(|point| at.starts_with(point)) => {}
            None => continue,
        }
        steps.push(Step::Unmount(at.clone()));
    }
    steps.reverse();
    Ok(steps)
}

/// Devices on top of each other.
struct Stack<'a> {
    sysfs: &'a Sysfs,
    devices: Vec<(String, Number)>,
    closing: Vec<Step>,
    seen: BTreeSet<Number>,
}

impl Stack<'_> {
    fn add(&mut self, name: &str, number: Number, holders: &[String], depth: usize) -> Result<(), Error> {
        self.devices.push((name.to_owned(), number));
        for holder in holders {
            self.close(name, holder, depth + 1)?;
        }
        Ok(())
    }

    /// What is on the holder goes first.
    fn close(&mut self, device: &str, holder: &str, depth: usize) -> Result<(), Error> {
        let unknown = || Error::Holder { device: device.to_owned(), holder: holder.to_owned() };
        if depth > DEEPEST {
            return Err(unknown());
        }
        let disk = self.sysfs.disk(holder).map_err(|source| Error::Lookup { device: holder.to_owned(), source })?;
        if !self.seen.insert(disk.number) {
            return Ok(());
        }
        self.add(&disk.name, disk.number, &disk.holders, depth)?;
        for part in &disk.partitions {
            self.add(&part.name, part.number, &part.holders, depth)?;
        }
        let is = |prefix: &str| {
            holder.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
        };
        self.closing.push(match () {
            () if is("dm-") => Step::Close(holder.to_owned(), self.sysfs.mapping(holder), disk.number),
            () if is("md") => Step::Stop(holder.to_owned(), disk.number),
            () => return Err(unknown()),
        });
        Ok(())
    }
}

/// Does all of it.
pub fn run(steps: &[Step], mut told: impl FnMut(&Step)) -> Result<(), Error> {
    for step in steps {
        patiently(step)?;
        told(step);
    }
    Ok(())
}

/// Waits for the last user of what was taken down: the kernel lets go of a file system a moment after its last mount.
/// Whoever claims the device says why it is still in use.
pub fn settle(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(block::Error::Busy { .. }) = Device::claim(path) {
        if Instant::now() >= deadline {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn patiently(step: &Step) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match once(step) {
            Ok(()) => return Ok(()),
            Err((true, _)) if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
            Err((_, source)) => return Err(Error::Step { step: step.clone(), source }),
        }
    }
}

/// Whether a failure may pass, and the failure.
type Refused = (bool, Box<dyn std::error::Error + Send + Sync>);

fn once(step: &Step) -> Result<(), Refused> {
    let is_busy = |e: &io::Error| e.kind() == io::ErrorKind::ResourceBusy;
    let of_holder = |error: holder::Error| -> Refused {
        let busy = match &error {
            holder::Error::Mapping { source, .. } | holder::Error::Array { source, .. } => is_busy(source),
            holder::Error::Swap { .. } | holder::Error::Control(_) => false,
        };
        (busy, error.into())
    };
    match step {
        Step::Unmount(at) => mounts::unmount(at).map_err(|error| {
            let busy = matches!(&error, mounts::MountsError::Unmount { source, .. } if is_busy(source));
            (busy, error.into())
        }),
        Step::SwapOff(device, number) => holder::swap_off(&reach(device, *number)?).map_err(of_holder),
        Step::Close(_, _, number) => holder::remove_mapping(*number).map_err(of_holder),
        Step::Stop(device, number) => holder::stop_array(&reach(device, *number)?).map_err(of_holder),
    }
}

fn reach(device: &str, number: Number) -> Result<PathBuf, Refused> {
    let path = Path::new("/dev").join(device.replace('!', "/"));
    node::ensure(&path, number).map_err(|error| -> Refused { (false, error.into()) })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Name, number, holder.
    type Part = (&'static str, &'static str, &'static str);

    /// sda1 and sdb in md0, md0p1 under dm-0 under dm-1; sda2 is swap; sda3 is mounted.
    fn machine() -> (tempfile::TempDir, Sysfs) {
        let dir = tempfile::tempdir().unwrap();
        let disks: [(&str, &str, &[Part], &str); 5] = [
            ("sda", "8:0", &[("sda1", "8:1", "md0"), ("sda2", "8:2", ""), ("sda3", "8:3", "")], ""),
            ("sdb", "8:16", &[], "md0"),
            ("md0", "9:0", &[("md0p1", "259:0", "dm-0")], ""),
            ("dm-0", "253:0", &[], "dm-1"),
            ("dm-1", "253:1", &[], ""),
        ];
        for (name, number, parts, holder) in disks {
            let place = dir.path().join("class/block").join(name);
            fs::create_dir_all(place.join("holders")).unwrap();
            fs::create_dir_all(place.join("dm")).unwrap();
            for (file, text) in
                [("dev", number), ("size", "2048"), ("removable", "0"), ("ro", "0"), ("dm/name", "vg-lv")]
            {
                fs::write(place.join(file), text).unwrap();
            }
            if !holder.is_empty() {
                fs::write(place.join("holders").join(holder), "").unwrap();
            }
            for (n, (part, number, holder)) in parts.iter().enumerate() {
                let place = place.join(part);
                fs::create_dir_all(place.join("holders")).unwrap();
                let index = (n + 1).to_string();
                for (file, text) in [("dev", *number), ("partition", &index), ("start", "8"), ("size", "8")] {
                    fs::write(place.join(file), text).unwrap();
                }
                if !holder.is_empty() {
                    fs::write(place.join("holders").join(holder), "").unwrap();
                }
            }
        }
        let sysfs = Sysfs::at(dir.path());
        (dir, sysfs)
    }

    fn found(sysfs: &Sysfs) -> Found {
        Found { path: "/dev/sda".into(), disk: sysfs.disk("sda").unwrap(), partition: None }
    }

    fn used(mounts: &[(&str, &str)]) -> Used {
        let mounts = mounts.iter().map(|(number, at)| (number.parse().unwrap(), PathBuf::from(at))).collect();
        Used { mounts, swaps: vec!["8:2".parse().unwrap()] }
    }

    #[test]
    fn everything_goes_from_the_top_in_one_order() {
        let (_dir, sysfs) = machine();
        let mounts = [("0:1", "/proc"), ("253:1", "/mnt"), ("8:3", "/mnt/boot"), ("0:9", "/mnt/tmp"), ("0:9", "/mntx")];
        let steps = plan(&found(&sysfs), &used(&mounts), &sysfs).unwrap();
        let text: Vec<_> = steps.iter().map(ToString::to_string).collect();
        let wanted = [
            "unmount /mnt/tmp",
            "unmount /mnt/boot",
            "unmount /mnt",
            "end swapping to sda2",
            "close dm-1 (vg-lv)",
            "close dm-0 (vg-lv)",
            "stop md0",
        ];
        assert_eq!(text, wanted);
    }

    #[test]
    fn the_root_and_what_is_unknown_stay() {
        let (dir, sysfs) = machine();
        let error = plan(&found(&sysfs), &used(&[("253:1", "/")]), &sysfs).unwrap_err();
        assert!(matches!(&error, Error::Root { device } if device == "dm-1"), "{error}");
        let block = dir.path().join("class/block");
        fs::rename(block.join("dm-1"), block.join("bcache0")).unwrap();
        fs::rename(block.join("dm-0/holders/dm-1"), block.join("dm-0/holders/bcache0")).unwrap();
        let error = plan(&found(&sysfs), &used(&[]), &sysfs).unwrap_err().to_string();
        assert!(error.contains("bcache0, which holds dm-0"), "{error}");
    }

    #[test]
    fn a_free_disk_needs_no_step() {
        let (_dir, sysfs) = machine();
        let mut found = found(&sysfs);
        found.disk.partitions.remove(0);
        assert_eq!(plan(&found, &Used::default(), &sysfs).unwrap(), []);
    }
}
