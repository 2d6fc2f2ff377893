//! From what an operator wrote to the disks that are meant, on this machine: by path, by the names udev would give, or by
//! what they are like. Waits for what is not there yet. Opens nothing for writing.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sys::block::Device;
use sys::sysfs::{Partition, Sysfs};

use crate::disk::consent::Consent;
use crate::disk::find::{self, Error, Found, Refusal, Used, is_virtual};
use crate::disk::superblock;
use crate::select::alias::{self, Facts};
use crate::select::{Candidate, Selector, pick};

/// The one disk or partition that is meant.
pub fn one(selector: &Selector, sysfs: &Sysfs, consent: &Consent) -> Result<Found, Error> {
    match several(selector, sysfs, consent)?.as_slice() {
        [found] => Ok(found.clone()),
        found => Err(Error::Number { selector: selector.to_string(), found: found.len() }),
    }
}

/// All disks that are meant, with their nodes.
pub fn several(selector: &Selector, sysfs: &Sysfs, consent: &Consent) -> Result<Vec<Found>, Error> {
    let wait = consent.wait;
    let deadline = Instant::now() + wait;
    loop {
        let is_late = Instant::now() >= deadline;
        let found = match selector.path() {
            Some(path) => by_path(path, sysfs)?.map(|found| vec![found]).ok_or_else(|| missing(path, sysfs, wait)),
            None => match pick(selector, &candidates(sysfs, consent)?) {
                Err(error) if error.is_final => return Err(error.into()),
                picked => picked.map_err(Error::from).and_then(|picked| listed(&picked, sysfs)),
            },
        };
        let found = match (found, selector.partition()) {
            (Ok(found), Some(name)) => found.iter().map(|found| partition(found, name, sysfs)).collect(),
            (found, _) => found,
        };
        match found {
            Ok(found) => {
                found.iter().try_for_each(|found| found.refused(excluded(found, sysfs, consent)))?;
                found.iter().try_for_each(find::reach)?;
                return Ok(found);
            }
            Err(error) if is_late => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Every disk that is not virtual, with what speaks against each. Removable ones are refused by the selector.
pub fn candidates(sysfs: &Sysfs, consent: &Consent) -> Result<Vec<Candidate>, Error> {
    let used = Used::now()?;
    let why_not = |found: &Found| -> Option<Refusal> {
        excluded(found, sysfs, consent)
            .or_else(|| if consent.force { found.unfit(true) } else { found.refusal(true, &used) })
    };
    let unusable =
        |found: Found| Candidate { unusable: why_not(&found).map(|why| why.to_string()), ..candidate(&found, sysfs) };
    Ok(real(sysfs)?.into_iter().map(unusable).collect())
}

fn candidate(found: &Found, sysfs: &Sysfs) -> Candidate {
    let facts = facts(found, sysfs);
    Candidate {
        unusable: None,
        size: found.disk.size,
        removable: found.disk.removable,
        rotational: sysfs.identity(&found.disk.name).rotational,
        name: facts.name,
        model: facts.model,
        serial: facts.serial,
        wwn: facts.wwn,
        transport: facts.transport,
    }
}

/// A disk is excluded with all its partitions, and by any of them.
pub(crate) fn excluded(found: &Found, sysfs: &Sysfs, consent: &Consent) -> Option<Refusal> {
    let is_meant = |selector: &&Selector| match selector.path() {
        Some(path) => by_path(path, sysfs).ok().flatten().is_some_and(|other| other.disk.number == found.disk.number),
        None => {
            let candidate = candidate(found, sysfs);
            selector.terms().iter().all(|term| term.fits(&candidate))
        }
    };
    consent.exclude.iter().find(is_meant).map(|by| Refusal::Excluded { by: by.to_string() })
}

fn real(sysfs: &Sysfs) -> Result<Vec<Found>, Error> {
    Ok(find::all(sysfs)?.into_iter().filter(|found| !is_virtual(&found.disk.name)).collect())
}

fn facts(found: &Found, sysfs: &Sysfs) -> Facts {
    let identity = sysfs.identity(&found.disk.name);
    let serial = if found.disk.serial.is_empty() { identity.unit_serial } else { found.disk.serial.clone() };
    Facts {
        name: found.disk.name.clone(),
        model: found.disk.model.clone(),
        serial,
        wwn: identity.wwn,
        transport: identity.transport,
        place: identity.place,
    }
}

/// The same list again: disks may have come between, but then the names tell.
fn listed(picked: &[usize], sysfs: &Sysfs) -> Result<Vec<Found>, Error> {
    let disks = real(sysfs)?;
    Ok(picked.iter().filter_map(|n| disks.get(*n).cloned()).collect())
}

fn missing(path: &Path, sysfs: &Sysfs, waited: Duration) -> Error {
    Error::Missing { path: path.to_owned(), waited, candidates: find::candidates(sysfs) }
}

fn by_path(path: &Path, sysfs: &Sysfs) -> Result<Option<Found>, Error> {
    if let Some(found) = find::look(path, sysfs)? {
        return Ok(Some(found));
    }
    let below = |directory| path.strip_prefix(directory).ok().and_then(Path::to_str);
    match (below("/dev/disk"), below("/dev/mapper")) {
        (Some(name), _) => by_name(name, sysfs),
        (None, Some(name)) => Ok(find::all(sysfs)?.into_iter().find(|found| sysfs.mapping(&found.disk.name) == name)),
        (None, None) => Ok(None),
    }
}

/// What udev would have made a link for.
fn by_name(name: &str, sysfs: &Sysfs) -> Result<Option<Found>, Error> {
    let (kind, value) = name.split_once('/').unwrap_or((name, ""));
    let value = unescape(value);
    let disks = find::all(sysfs)?;
    match kind {
        "by-id" | "by-path" => {
            let (disk, number) = alias::partition_of(name);
            let has_name = |found: &Found, wanted: &str| alias::names(&facts(found, sysfs)).iter().any(|n| n == wanted);
            let Some(found) = disks.iter().find(|found| has_name(found, disk)) else {
                return Ok(disks.into_iter().find(|found| has_name(found, name)));
            };
            Ok(match number {
                Some(number) => partition(found, &number.to_string(), sysfs).ok(),
                None => Some(found.clone()),
            })
        }
        "by-partlabel" => Ok(by_uevent(&disks, "PARTNAME", &value, sysfs)),
        "by-partuuid" => Ok(by_uevent(&disks, "PARTUUID", &value, sysfs)),
        "by-label" => Ok(by_superblock(&disks, |label, _| label == value)),
        "by-uuid" => Ok(by_superblock(&disks, |_, uuid| uuid.eq_ignore_ascii_case(&value))),
        _ => Ok(None),
    }
}

fn by_uevent(disks: &[Found], key: &str, value: &str, sysfs: &Sysfs) -> Option<Found> {
    parts(disks).find(|found| {
        let name = found.partition.as_ref().map_or("", |p| p.name.as_str());
        sysfs.uevent(name, key).is_some_and(|found| found.eq_ignore_ascii_case(value))
    })
}

fn by_superblock(disks: &[Found], is_meant: impl Fn(&str, &str) -> bool) -> Option<Found> {
    let whole = disks.iter().filter(|found| found.disk.size > 0).cloned();
    whole.chain(parts(disks)).find(|found| {
        let read = || -> Option<(String, String)> {
            find::reach(found).ok()?;
            superblock::names(&Device::read(&found.path).ok()?, found.size())
        };
        read().is_some_and(|(label, uuid)| is_meant(&label, &uuid))
    })
}

/// All partitions of these disks.
fn parts(disks: &[Found]) -> impl Iterator<Item = Found> {
    disks.iter().flat_map(|found| found.disk.partitions.iter().map(|part| of(found, part)))
}

fn of(found: &Found, partition: &Partition) -> Found {
    let path = PathBuf::from("/dev").join(partition.name.replace('!', "/"));
    Found { path, disk: found.disk.clone(), partition: Some(partition.clone()) }
}

/// By number or by label.
fn partition(found: &Found, name: &str, sysfs: &Sysfs) -> Result<Found, Error> {
    let is_meant = |part: &&Partition| match name.parse::<u32>() {
        Ok(number) => part.index == number,
        Err(_) => sysfs.uevent(&part.name, "PARTNAME").is_some_and(|label| label == name),
    };
    let meant: Vec<_> = found.disk.partitions.iter().filter(is_meant).collect();
    match meant.as_slice() {
        [part] => Ok(of(found, part)),
        others => {
            let of = |part: &Partition| match sysfs.uevent(&part.name, "PARTNAME") {
                Some(label) => format!("{} ({label})", part.index),
                None => part.index.to_string(),
            };
            let there = found.disk.partitions.iter().map(of).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "none".to_owned() } else { there };
            let (disk, name, matching) = (found.path.clone(), name.to_owned(), others.len());
            Err(Error::Partition { disk, name, matching, there })
        }
    }
}

/// udev writes what is odd in a name as `\x20`.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = rest.strip_prefix(b"\\x").and_then(|rest| rest.get(..2));
        match code.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &rest[4..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A machine with an NVMe disk of two partitions and a SATA disk, none of whose nodes exist.
    fn machine() -> (tempfile::TempDir, Sysfs) {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("class/block");
        let pci = dir.path().join("devices/pci0000:00/0000:00:05.0");
        let disks = [
            ("nvme0n1", pci.join("nvme/nvme0/nvme0n1"), "4000:0", "2097152", "Fast", "N1", "eui.0025"),
            ("sda", pci.join("ata1/host0/target0:0:0/0:0:0:0/block/sda"), "4000:16", "4194304", "Slow", "S1", "naa.50"),
        ];
        fs::create_dir_all(&class).unwrap();
        for (name, place, dev, size, model, serial, wwn) in disks {
            fs::create_dir_all(place.join("device")).unwrap();
            fs::create_dir_all(place.join("queue")).unwrap();
            for (file, text) in [
                ("dev", dev),
                ("size", size),
                ("removable", "0"),
                ("ro", "0"),
                ("device/model", model),
                ("device/serial", serial),
                ("wwid", wwn),
                ("queue/rotational", if name == "sda" { "1" } else { "0" }),
            ] {
                fs::write(place.join(file), text).unwrap();
            }
            std::os::unix::fs::symlink(&place, class.join(name)).unwrap();
        }
        for (number, label) in [("1", "esp"), ("2", "root fs")] {
            let name = format!("nvme0n1p{number}");
            let place = pci.join("nvme/nvme0/nvme0n1").join(&name);
            fs::create_dir_all(&place).unwrap();
            for (file, text) in
                [("dev", &*format!("4000:{number}")), ("partition", number), ("start", "2048"), ("size", "2048")]
            {
                fs::write(place.join(file), text).unwrap();
            }
            fs::write(place.join("uevent"), format!("PARTN={number}\nPARTNAME={label}\nPARTUUID=ab-{number}\n"))
                .unwrap();
            std::os::unix::fs::symlink(&place, class.join(name)).unwrap();
        }
        let sysfs = Sysfs::at(dir.path());
        (dir, sysfs)
    }

    #[test]
    fn names_that_only_udev_would_have_made_lead_to_the_disk() {
        let (_dir, sysfs) = machine();
        for (name, wanted) in [
            ("by-id/nvme-Fast_N1", "/dev/nvme0n1"),
            ("by-id/nvme-Fast_N1-part2", "/dev/nvme0n1p2"),
            ("by-id/wwn-0x50", "/dev/sda"),
            ("by-path/pci-0000:00:05.0-ata-1", "/dev/sda"),
            ("by-path/pci-0000:00:05.0-nvme-1-part1", "/dev/nvme0n1p1"),
            ("by-partlabel/root\\x20fs", "/dev/nvme0n1p2"),
            ("by-partuuid/AB-1", "/dev/nvme0n1p1"),
        ] {
            let found = by_name(name, &sysfs).unwrap().unwrap_or_else(|| panic!("{name} is not found"));
            assert_eq!(found.path, Path::new(wanted), "{name}");
        }
        assert!(by_name("by-id/nvme-Fast_N1-part9", &sysfs).unwrap().is_none());
        assert!(by_name("by-elsewhere/x", &sysfs).unwrap().is_none());
    }

    #[test]
    fn selectors_choose_among_the_disks_of_sysfs() {
        let (_dir, sysfs) = machine();
        let chosen = |text: &str| {
            let selector = crate::select::parse(text).unwrap();
            let picked = pick(&selector, &candidates(&sysfs, &Consent::default()).unwrap()).unwrap();
            listed(&picked, &sysfs).unwrap()[0].disk.name.clone()
        };
        assert_eq!(chosen("transport=nvme"), "nvme0n1");
        assert_eq!(chosen("rotational"), "sda");
        assert_eq!(chosen("smallest"), "nvme0n1");
        assert_eq!(chosen("wwn=0x50"), "sda");
        assert_eq!(chosen("serial=N*"), "nvme0n1");
    }

    #[test]
    fn a_mapping_is_found_by_the_name_it_was_given() {
        let (dir, sysfs) = machine();
        let place = dir.path().join("class/block/dm-3");
        fs::create_dir_all(place.join("dm")).unwrap();
        for (file, text) in
            [("dev", "4001:3"), ("size", "8"), ("removable", "0"), ("ro", "0"), ("dm/name", "vg-root\n")]
        {
            fs::write(place.join(file), text).unwrap();
        }
        let found = by_path(Path::new("/dev/mapper/vg-root"), &sysfs).unwrap().unwrap();
        assert_eq!((found.path.as_path(), found.disk.name.as_str()), (Path::new("/dev/dm-3"), "dm-3"));
        assert!(by_path(Path::new("/dev/mapper/vg-home"), &sysfs).unwrap().is_none());
    }

    #[test]
    fn what_is_excluded_is_not_chosen_by_any_name() {
        let (_dir, sysfs) = machine();
        let one = |text: &str, exclude: &str| {
            let exclude = crate::select::parse_excluded(exclude).unwrap();
            let consent = Consent { exclude, ..Consent::default() };
            several(&crate::select::parse(text).unwrap(), &sysfs, &consent).unwrap_err().to_string()
        };
        let error = one("smallest", "transport=nvme; serial=S1");
        assert!(
            error.contains("/dev/nvme0n1 (model Fast, serial N1, 1.0 GiB): it is excluded (EXCLUDE=transport=nvme)")
        );
        assert!(error.contains("it is excluded (EXCLUDE=serial=S1)"), "{error}");
        let error = one("/dev/disk/by-id/nvme-Fast_N1-part2", "/dev/disk/by-partuuid/ab-1");
        assert_eq!(error, "refusing to write to /dev/nvme0n1p2: it is excluded (EXCLUDE=/dev/disk/by-partuuid/ab-1)");
    }

    #[test]
    fn partitions_are_named_by_number_or_label() {
        let (_dir, sysfs) = machine();
        let disk = &find::all(&sysfs).unwrap()[0];
        assert_eq!(partition(disk, "2", &sysfs).unwrap().path, Path::new("/dev/nvme0n1p2"));
        assert_eq!(partition(disk, "root fs", &sysfs).unwrap().path, Path::new("/dev/nvme0n1p2"));
        let error = partition(disk, "swap", &sysfs).unwrap_err().to_string();
        assert_eq!(error, "/dev/nvme0n1 has no partition swap; there are: 1 (esp), 2 (root fs)");
    }

    #[test]
    fn nothing_that_fits_is_an_error_that_says_what_there_is() {
        let (_dir, sysfs) = machine();
        let selector = crate::select::parse("size>=1TB").unwrap();
        let error = several(&selector, &sysfs, &Consent::default()).unwrap_err().to_string();
        assert!(error.contains("/dev/nvme0n1 (model Fast, serial N1, 1.0 GiB): its size is"), "{error}");
        let missing = Selector::from(Path::new("/dev/disk/by-id/none"));
        let error = several(&missing, &sysfs, &Consent::default()).unwrap_err().to_string();
        assert!(error.contains("model Slow, serial S1"), "{error}");
    }
}
