//! Block devices as /sys tells of them: numbers, sizes, partitions, holders, flags. The root is injected, so that
//! tests give it a directory. Must not open a device.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::libc;

use crate::identity::{self, Identity};

/// A device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Number {
    /// The driver.
    pub major: u32,
    /// The device of the driver.
    pub minor: u32,
}

impl Number {
    /// From `st_rdev`.
    pub fn from_raw(raw: u64) -> Self {
        Self { major: libc::major(raw), minor: libc::minor(raw) }
    }

    /// As mknod(2) takes it.
    pub fn to_raw(self) -> u64 {
        libc::makedev(self.major, self.minor)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Number {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.trim().split_once(':').ok_or(())?;
        Ok(Self { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

/// Why /sys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or directory is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The attribute holds something else than it should.
    #[error("{} holds {text:?}, which is not {expected}", path.display())]
    Shape {
        /// The attribute.
        path: PathBuf,
        /// Its text.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// A whole disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The kernel's name, as `sda`.
    pub name: String,
    /// Its device number.
    pub number: Number,
    /// Bytes; 0 for an empty drive.
    pub size: u64,
    /// The kernel says that its medium can be taken out.
    pub removable: bool,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Trimmed; empty when unknown.
    pub model: String,
    /// Trimmed; empty when unknown.
    pub serial: String,
    /// Names of the devices stacked on the disk itself (md, dm).
    pub holders: Vec<String>,
    /// In order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// The kernel's name, as `sda1`.
    pub name: String,
    /// Its device number.
    pub number: Number,
    /// Its number in the table.
    pub index: u32,
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Names of the devices stacked on it.
    pub holders: Vec<String>,
}

/// The tree below one mount point of sysfs.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/sys")
    }
}

/// Sizes in sysfs are in these units, whatever the sector size of the device is.
const UNIT: u64 = 512;

impl Sysfs {
    /// A tree somewhere else.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Every whole disk, by name.
    pub fn disks(&self) -> Result<Vec<Disk>, Error> {
        let mut disks = Vec::new();
        for name in entries(&self.root.join("class/block"))? {
            if !self.node(&name).join("partition").exists() {
                disks.extend(self.unless_gone(&name, self.disk(&name))?);
            }
        }
        Ok(disks)
    }

    /// Disks and partitions come and go while they are listed: of one that has gone by now, nothing is said.
    fn unless_gone<T>(&self, name: &str, found: Result<T, Error>) -> Result<Option<T>, Error> {
        match found {
            Ok(found) => Ok(Some(found)),
            // The kernel's own word for it: by now there may be a new one of that name.
            Err(Error::Read { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(Error::Read { source, .. }) if gone(&source) && !self.node(name).join("dev").exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One whole disk.
    pub fn disk(&self, name: &str) -> Result<Disk, Error> {
        let dir = self.node(name);
        let mut partitions = Vec::new();
        for entry in entries(&dir)? {
            if dir.join(&entry).join("partition").exists() {
                partitions.extend(self.unless_gone(&entry, partition(&dir, &entry))?);
            }
        }
        partitions.sort_by_key(|p| p.index);
        Ok(Disk {
            number: number(&dir)?,
            size: count(&dir.join("size"))? * UNIT,
            removable: count(&dir.join("removable"))? != 0,
            read_only: count(&dir.join("ro"))? != 0,
            model: optional(&dir.join("device/model")),
            serial: ["serial", "device/serial"]
                .iter()
                .map(|f| optional(&dir.join(f)))
                .find(|s| !s.is_empty())
                .unwrap_or_default(),
            holders: entries(&dir.join("holders")).unwrap_or_default(),
            partitions,
            name: name.to_owned(),
        })
    }

    /// The disk that the number belongs to, as itself or as one of its partitions (then with that partition).
    pub fn find(&self, wanted: Number) -> Result<Option<(Disk, Option<Partition>)>, Error> {
        for disk in self.disks()? {
            if disk.number == wanted {
                return Ok(Some((disk, None)));
            }
            if let Some(part) = disk.partitions.iter().find(|p| p.number == wanted).cloned() {
                return Ok(Some((disk, Some(part))));
            }
        }
        Ok(None)
    }

    /// What the disk of this kernel name is.
    pub fn identity(&self, name: &str) -> Identity {
        identity::of(&self.node(name))
    }

    /// What the kernel says of a partition when it appears: the value of a key, as `PARTNAME`.
    pub fn uevent(&self, name: &str, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.node(name).join("uevent")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
    }

    /// The name that a device-mapper device was given; empty for others.
    pub fn mapping(&self, name: &str) -> String {
        optional(&self.node(name).join("dm/name"))
    }

    /// The number of the block device with this kernel name, when there is one.
    pub fn number_of(&self, name: &str) -> Option<Number> {
        number(&self.node(name)).ok()
    }

    fn node(&self, name: &str) -> PathBuf {
        // The kernel writes a slash in a name as an exclamation mark (cciss/c0d0).
        self.root.join("class/block").join(name.replace('/', "!"))
    }
}

fn partition(disk: &Path, name: &str) -> Result<Partition, Error> {
    let dir = disk.join(name);
    let index_path = dir.join("partition");
    let index = count(&index_path)?;
    Ok(Partition {
        number: number(&dir)?,
        index: u32::try_from(index).map_err(|_| Error::Shape {
            path: index_path,
            text: index.to_string(),
            expected: "a partition number",
        })?,
        start: count(&dir.join("start"))? * UNIT,
        size: count(&dir.join("size"))? * UNIT,
        holders: entries(&dir.join("holders")).unwrap_or_default(),
        name: name.to_owned(),
    })
}

fn entries(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn count(path: &Path) -> Result<u64, Error> {
    let text = text(path)?;
    text.trim().parse().map_err(|_| Error::Shape { path: path.to_owned(), text, expected: "a number" })
}

fn number(dir: &Path) -> Result<Number, Error> {
    let path = dir.join("dev");
    let text = text(&path)?;
    text.parse().map_err(|()| Error::Shape { path, text, expected: "a device number" })
}

/// Some buses have the attribute and some do not, and a drive may answer with rubbish.
fn optional(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("class/block").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    const DISK: &[(&str, &str)] = &[
        ("sda/dev", "8:0\n"),
        ("sda/size", "2048\n"),
        ("sda/removable", "0\n"),
        ("sda/ro", "1\n"),
        ("sda/device/model", "QEMU HARDDISK   \n"),
        ("sda/serial", "x1\n"),
        ("sda/sda10/dev", "8:10\n"),
        ("sda/sda10/partition", "10\n"),
        ("sda/sda10/start", "1024\n"),
        ("sda/sda10/size", "8\n"),
        ("sda/sda2/dev", "8:2\n"),
        ("sda/sda2/partition", "2\n"),
        ("sda/sda2/start", "64\n"),
        ("sda/sda2/size", "8\n"),
        ("sda/sda2/holders/md0", ""),
        ("sda2/partition", "2\n"),
    ];

    #[test]
    fn a_disk_is_read_with_its_partitions_in_order_of_number() {
        let dir = tree(DISK);
        let disks = Sysfs::at(dir.path()).disks().unwrap();
        let [disk] = disks.as_slice() else { panic!("{disks:?}") };
        assert_eq!((disk.size, disk.removable, disk.read_only), (1 << 20, false, true));
        assert_eq!((disk.model.as_str(), disk.serial.as_str()), ("QEMU HARDDISK", "x1"));
        assert_eq!(disk.partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(disk.partitions[0].holders, ["md0"]);
        assert_eq!(disk.partitions[1].start, 512 << 10);
    }

    #[test]
    fn a_partition_is_found_with_its_disk() {
        let dir = tree(DISK);
        let sysfs = Sysfs::at(dir.path());
        let (disk, part) = sysfs.find("8:10".parse().unwrap()).unwrap().unwrap();
        assert_eq!((disk.name.as_str(), part.unwrap().name.as_str()), ("sda", "sda10"));
        assert!(sysfs.find("8:99".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn an_attribute_that_is_no_number_is_named() {
        let dir = tree(DISK);
        fs::write(dir.path().join("class/block/sda/size"), "big\n").unwrap();
        let error = Sysfs::at(dir.path()).disks().unwrap_err().to_string();
        assert!(error.contains("sda/size") && error.contains("big"), "{error}");
    }

    #[test]
    fn this_machine_can_be_read() {
        if Path::new("/sys/class/block").exists() {
            Sysfs::default().disks().unwrap();
        }
    }
}
