//! From a path to a disk that may be written, or the reason why not. Reads /sys and the lists of mounts and swap;
//! opens nothing for writing.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use spec::Code;
use sys::sysfs::{Disk, Number, Partition, Sysfs};
use sys::{mount, node, sysfs};

use crate::disk::consent::Consent;
use crate::disk::wanted;
use crate::failed::Coded;
use crate::report::size;
use crate::select::{NoMatch, Selector};

/// Why there is no disk to work on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No disk is like that, or too many are.
    #[error(transparent)]
    NoMatch(#[from] NoMatch),
    /// The selector asked for another number of disks than the action takes.
    #[error("{selector:?} means {found} disks, this action takes one")]
    Number {
        /// As written.
        selector: String,
        /// How many there are.
        found: usize,
    },
    /// The disk has no such partition, or several.
    #[error("{} has {} partition {name}; there are: {there}", disk.display(), if *matching == 0 { "no".to_owned() } else { format!("more than one ({matching})") })]
    Partition {
        /// The disk.
        disk: PathBuf,
        /// Number or label.
        name: String,
        /// How many have it.
        matching: usize,
        /// Its partitions.
        there: String,
    },
    /// Nothing of that name, for as long as we were told to wait.
    #[error("no block device {} after {} s; there are: {candidates}", path.display(), waited.as_secs())]
    Missing {
        /// The path asked for.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
        /// What there is instead.
        candidates: String,
    },
    /// A file, a directory, a character device.
    #[error("{} is not a block device; there are: {candidates}", path.display())]
    NotBlock {
        /// The path asked for.
        path: PathBuf,
        /// What there is instead.
        candidates: String,
    },
    /// /sys is unreadable or does not know the device.
    #[error("cannot look up {}", path.display())]
    Lookup {
        /// The path asked for.
        path: PathBuf,
        /// What is wrong.
        source: sysfs::Error,
    },
    /// The node of the device cannot be made.
    #[error("cannot reach {}", path.display())]
    Node {
        /// The path asked for.
        path: PathBuf,
        /// What is wrong.
        source: node::Error,
    },
    /// The list of mounts or of swap is unreadable.
    #[error("cannot tell what is in use")]
    Use {
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There and in use, which the action can put an end to.
    #[error("refusing to write to {}: {why} (FORCE=true takes that down)", path.display())]
    InUse {
        /// The path asked for.
        path: PathBuf,
        /// The reason.
        why: Refusal,
    },
    /// There, but not to be written.
    #[error("refusing to write to {}: {why}", path.display())]
    Refused {
        /// The path asked for.
        path: PathBuf,
        /// The reason.
        why: Refusal,
    },
}

/// Why a disk is not written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A file system of it is in use.
    #[error("{device} is mounted at {at}")]
    Mounted {
        /// The disk or partition.
        device: String,
        /// Where.
        at: String,
    },
    /// md, dm or the like sits on it.
    #[error("{device} is held by {holder}")]
    Held {
        /// The disk or partition.
        device: String,
        /// The device on top.
        holder: String,
    },
    /// Swap.
    #[error("{device} is in use as swap")]
    Swap {
        /// The disk or partition.
        device: String,
    },
    /// Flagged by the kernel.
    #[error("the kernel calls it read-only")]
    ReadOnly,
    /// Flagged by the kernel.
    #[error("it is removable (ALLOW_REMOVABLE=true to write to it all the same)")]
    Removable,
    /// An empty drive.
    #[error("it has no medium")]
    NoMedium,
    /// The operator's word.
    #[error("it is excluded (EXCLUDE={by})")]
    Excluded {
        /// As written.
        by: String,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::NoMatch(_)
            | Self::Number { .. }
            | Self::Partition { .. }
            | Self::Missing { .. }
            | Self::NotBlock { .. }
            | Self::Lookup { .. }
            | Self::Node { .. } => Code::DiskNotFound,
            Self::Use { .. } | Self::InUse { .. } | Self::Refused { .. } => Code::DiskBusy,
        }
    }
}

/// A block device that exists, with the disk it is or is a part of.
#[derive(Clone, Debug)]
pub struct Found {
    /// The path to open.
    pub path: PathBuf,
    /// The disk.
    pub disk: Disk,
    /// Set when the path names a partition.
    pub partition: Option<Partition>,
}

impl Found {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.partition.as_ref().map_or(self.disk.size, |p| p.size)
    }

    /// For the plan: path, size, model, serial.
    pub fn describe(&self) -> String {
        let mut text = format!("{} ({}", self.path.display(), size(self.size()));
        for (label, value) in [("", &self.disk.model), ("serial ", &self.disk.serial)] {
            if !value.is_empty() {
                text.push_str(&format!(", {label}{value}"));
            }
        }
        text + ")"
    }

    /// Names and numbers of everything that a write would change.
    pub(crate) fn devices(&self) -> Vec<(&str, Number, &[String])> {
        let disk = (self.disk.name.as_str(), self.disk.number, self.disk.holders.as_slice());
        match &self.partition {
            Some(p) => vec![(p.name.as_str(), p.number, p.holders.as_slice())],
            None => std::iter::once(disk)
                .chain(self.disk.partitions.iter().map(|p| (p.name.as_str(), p.number, p.holders.as_slice())))
                .collect(),
        }
    }

    /// Refuses what is in use or cannot be written.
    pub fn check(&self, allow_removable: bool, used: &Used) -> Result<(), Error> {
        self.refused(self.refusal(allow_removable, used))
    }

    /// Refuses what cannot be written, whether it is in use or not.
    pub fn check_itself(&self, allow_removable: bool) -> Result<(), Error> {
        self.refused(self.unfit(allow_removable))
    }

    pub(crate) fn refused(&self, why: Option<Refusal>) -> Result<(), Error> {
        match why {
            Some(why) => Err(Error::Refused { path: self.path.clone(), why }),
            None => Ok(()),
        }
    }

    /// The first reason not to write to it.
    pub fn refusal(&self, allow_removable: bool, used: &Used) -> Option<Refusal> {
        let in_use =
            || self.devices().into_iter().find_map(|(name, number, holders)| used.refusal(name, number, holders));
        self.unfit(allow_removable).or_else(in_use)
    }

    /// The first reason that lies in the disk itself.
    pub fn unfit(&self, allow_removable: bool) -> Option<Refusal> {
        match &self.disk {
            _ if self.size() == 0 => Some(Refusal::NoMedium),
            disk if disk.read_only => Some(Refusal::ReadOnly),
            disk if disk.removable && !allow_removable => Some(Refusal::Removable),
            _ => None,
        }
    }
}

/// What is mounted or swapped to, as far as this process can see; an exclusive open finds the rest.
#[derive(Debug, Default)]
pub struct Used {
    /// Number and mount point.
    pub mounts: Vec<(Number, PathBuf)>,
    /// Numbers of swap devices.
    pub swaps: Vec<Number>,
}

impl Used {
    /// Of this machine.
    pub fn now() -> Result<Self, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Use { source };
        let mut mounts = Vec::new();
        for entry in mount::list().map_err(|e| failed(e.into()))? {
            // btrfs and overlay show a number of their own; the source names the device.
            let by_source = number_of_node(Path::new(&entry.source));
            mounts.push((by_source.unwrap_or(entry.number), entry.at));
        }
        let swaps = match fs::read_to_string("/proc/swaps") {
            Ok(text) => text.lines().skip(1).filter_map(|l| number_of_node(Path::new(l.split(' ').next()?))).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(failed(e.into())),
        };
        Ok(Self { mounts, swaps })
    }

    fn refusal(&self, name: &str, number: Number, holders: &[String]) -> Option<Refusal> {
        let device = name.to_owned();
        if let Some((_, at)) = self.mounts.iter().find(|(n, _)| *n == number) {
            return Some(Refusal::Mounted { device, at: at.display().to_string() });
        }
        if let Some(holder) = holders.first() {
            return Some(Refusal::Held { device, holder: holder.clone() });
        }
        self.swaps.contains(&number).then_some(Refusal::Swap { device })
    }
}

/// Finds the device that a path or a selector means, waiting for it, and makes its node where no udev does.
pub fn find(wanted: impl Into<Selector>, sysfs: &Sysfs, wait: Duration) -> Result<Found, Error> {
    wanted::one(&wanted.into(), sysfs, &Consent { wait, ..Consent::default() })
}

/// The same device as it is now.
pub fn again(found: Found, sysfs: &Sysfs) -> Result<Found, Error> {
    let number = found.partition.as_ref().map_or(found.disk.number, |p| p.number);
    let lookup = |source| Error::Lookup { path: found.path.clone(), source };
    match sysfs.find(number).map_err(lookup)? {
        Some((disk, partition)) => Ok(Found { path: found.path, disk, partition }),
        None => Err(Error::Missing { candidates: candidates(sysfs), path: found.path, waited: Duration::ZERO }),
    }
}

/// Every disk there is, those without a medium too.
pub fn all(sysfs: &Sysfs) -> Result<Vec<Found>, Error> {
    let dev = Path::new("/dev");
    let disks = sysfs.disks().map_err(|source| Error::Lookup { path: dev.to_owned(), source })?;
    Ok(disks
        .into_iter()
        .map(|disk| Found { path: dev.join(disk.name.replace('!', "/")), disk, partition: None })
        .collect())
}

/// Makes the node of a disk that was listed rather than named.
pub fn reach(found: &Found) -> Result<(), Error> {
    let number = found.partition.as_ref().map_or(found.disk.number, |p| p.number);
    make_node(&found.path, number)
}

/// What /sys says of a kernel name counts; the node may be missing, or be one of an earlier partition.
pub(crate) fn look(path: &Path, sysfs: &Sysfs) -> Result<Option<Found>, Error> {
    let by_name = path.strip_prefix("/dev").ok().and_then(|name| sysfs.number_of(name.to_str()?));
    let number = match (by_name, fs::metadata(path)) {
        (Some(number), _) => {
            make_node(path, number)?;
            number
        }
        (None, Ok(meta)) if meta.file_type().is_block_device() => Number::from_raw(meta.rdev()),
        (None, Ok(_)) => return Err(Error::NotBlock { path: path.to_owned(), candidates: candidates(sysfs) }),
        (None, Err(_)) => return Ok(None),
    };
    let found = sysfs.find(number).map_err(|source| Error::Lookup { path: path.to_owned(), source })?;
    Ok(found.map(|(disk, partition)| Found { path: path.to_owned(), disk, partition }))
}

fn make_node(path: &Path, number: Number) -> Result<(), Error> {
    node::ensure(path, number).map(drop).map_err(|source| Error::Node { path: path.to_owned(), source })
}

fn number_of_node(path: &Path) -> Option<Number> {
    let meta = fs::metadata(path).ok().filter(|m| path.is_absolute() && m.file_type().is_block_device())?;
    Some(Number::from_raw(meta.rdev()))
}

/// For an error: every disk with model, serial and size, and what speaks against it.
pub(crate) fn candidates(sysfs: &Sysfs) -> String {
    let disks = wanted::candidates(sysfs, &Consent::default()).unwrap_or_default();
    let shown: Vec<_> = disks
        .iter()
        .map(|disk| match &disk.unusable {
            Some(why) => format!("{}: {why}", disk.describe()),
            None => disk.describe(),
        })
        .collect();
    if shown.is_empty() { "none".into() } else { shown.join("; ") }
}

/// Disks that are made of memory, files or other disks, and drives for discs and floppies.
pub fn is_virtual(name: &str) -> bool {
    ["ram", "loop", "zram", "dm-", "md", "sr", "fd", "nbd"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(minor: u32) -> Number {
        Number { major: 8, minor }
    }

    fn found() -> Found {
        let partition = Partition {
            name: "sda1".into(),
            number: number(1),
            index: 1,
            start: 1 << 20,
            size: 1 << 20,
            holders: vec![],
        };
        let disk = Disk {
            name: "sda".into(),
            number: number(0),
            size: 1 << 30,
            removable: false,
            read_only: false,
            model: "M".into(),
            serial: String::new(),
            holders: vec![],
            partitions: vec![partition],
        };
        Found { path: "/dev/sda".into(), disk, partition: None }
    }

    #[test]
    fn a_free_disk_is_not_refused() {
        assert_eq!(found().refusal(false, &Used::default()), None);
        assert_eq!(found().describe(), "/dev/sda (1.0 GiB, M)");
    }

    #[test]
    fn every_kind_of_use_is_refused_with_its_reason() {
        let mounted = Used { mounts: vec![(number(1), "/mnt".into())], swaps: vec![] };
        assert_eq!(
            found().refusal(false, &mounted),
            Some(Refusal::Mounted { device: "sda1".into(), at: "/mnt".into() })
        );
        let swap = Used { mounts: vec![], swaps: vec![number(1)] };
        assert_eq!(found().refusal(false, &swap), Some(Refusal::Swap { device: "sda1".into() }));
        let mut held = found();
        held.disk.partitions[0].holders = vec!["md0".into()];
        let refusal = held.refusal(false, &Used::default()).unwrap();
        assert_eq!(refusal.to_string(), "sda1 is held by md0");
    }

    #[test]
    fn flags_of_the_disk_are_heeded() {
        let mut disk = found();
        disk.disk.removable = true;
        assert_eq!(disk.refusal(false, &Used::default()), Some(Refusal::Removable));
        assert_eq!(disk.refusal(true, &Used::default()), None);
        disk.disk.read_only = true;
        assert_eq!(disk.refusal(true, &Used::default()), Some(Refusal::ReadOnly));
        disk.disk.size = 0;
        assert_eq!(disk.refusal(true, &Used::default()), Some(Refusal::NoMedium));
    }

    #[test]
    fn of_a_partition_only_itself_counts() {
        let mut part = found();
        part.partition = Some(part.disk.partitions[0].clone());
        let used = Used { mounts: vec![(number(2), "/".into())], swaps: vec![] };
        assert_eq!(part.refusal(false, &used), None);
        assert_eq!(part.size(), 1 << 20);
    }

    #[test]
    fn a_path_to_something_else_is_an_error_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = find(file.path(), &Sysfs::default(), Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, Error::NotBlock { .. }), "{error}");
    }

    #[test]
    fn a_missing_disk_is_named_with_what_there_is() {
        let error = find(Path::new("/dev/no-such-disk"), &Sysfs::default(), Duration::ZERO).unwrap_err();
        assert!(error.to_string().starts_with("no block device /dev/no-such-disk after 0 s; there are: "), "{error}");
    }

    #[test]
    fn virtual_disks_are_known_by_name() {
        for name in ["ram0", "loop12", "sr0", "dm-0", "md127", "zram0", "md_d0"] {
            assert!(is_virtual(name), "{name}");
        }
        for name in ["sda", "vda", "nvme0n1", "mmcblk0", "srx", "fdisk"] {
            assert!(!is_virtual(name), "{name}");
        }
    }
}
