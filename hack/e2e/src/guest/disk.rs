//! Disks of the guest lab: what they hang on, how large their sectors are, which file they are. Nothing reads them here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use super::{GuestError, file_error};

/// What a disk hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bus {
    /// `/dev/vda`, ...
    Virtio,
    /// `/dev/nvme0n1`, ...: a controller each.
    Nvme,
    /// `/dev/sda`, ... on a virtio-scsi controller each.
    Scsi,
    /// `/dev/sda`, ... on the chipset's AHCI controller.
    Sata,
}

/// A disk; its serial number in the guest is `lab0`, `lab1`, ... by its place in the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// What it hangs on.
    pub bus: Bus,
    /// Its raw file; without one, an empty one of `bytes` is made anew below the guest's directory.
    pub file: Option<PathBuf>,
    /// The size of one that is made.
    pub bytes: u64,
    /// 512 or 4096.
    pub sector: u32,
}

impl Disk {
    /// An empty disk.
    pub fn empty(bus: Bus, bytes: u64, sector: u32) -> Self {
        Self { bus, file: None, bytes, sector }
    }

    /// A raw file, written to.
    pub fn file(bus: Bus, file: &Path, sector: u32) -> Self {
        Self { bus, file: Some(file.to_owned()), bytes: 0, sector }
    }

    /// Adds it to the command line.
    pub(super) fn attach(&self, qemu: &mut Command, i: usize, dir: &Path) -> Result<(), GuestError> {
        if !matches!(self.sector, 512 | 4096) || (self.bus == Bus::Sata && self.sector != 512) {
            return Err(GuestError::Disk(format!("{:?} with sectors of {}", self.bus, self.sector)));
        }
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let file = dir.join(format!("disk{i}.raw"));
                let make = || fs::File::create(&file)?.set_len(self.bytes);
                make().map_err(file_error(&file))?;
                file
            }
        };
        qemu.args([
            "-drive",
            &format!("id=d{i},if=none,format=raw,cache=writeback,discard=unmap,file={}", file.display()),
        ]);
        let sectors = format!("logical_block_size={0},physical_block_size={0}", self.sector);
        let device = match self.bus {
            Bus::Virtio => format!("virtio-blk-pci,drive=d{i},serial=lab{i},{sectors}"),
            Bus::Nvme => format!("nvme,drive=d{i},serial=lab{i},{sectors}"),
            Bus::Scsi => {
                qemu.args(["-device", &format!("virtio-scsi-pci,id=scsi{i}")]);
                format!("scsi-hd,bus=scsi{i}.0,drive=d{i},serial=lab{i},{sectors}")
            }
            Bus::Sata => format!("ide-hd,bus=ide.{},drive=d{i},serial=lab{i}", i % 6),
        };
        qemu.args(["-device", &device]);
        Ok(())
    }
}

impl FromStr for Disk {
    type Err = GuestError;

    /// `nvme:2G`, `virtio:512M:4096`, `scsi:/path/to/file`.
    fn from_str(text: &str) -> Result<Self, GuestError> {
        let wrong = || GuestError::Disk(text.to_owned());
        let mut parts = text.split(':');
        let bus = match parts.next() {
            Some("virtio") => Bus::Virtio,
            Some("nvme") => Bus::Nvme,
            Some("scsi") => Bus::Scsi,
            Some("sata") => Bus::Sata,
            _ => return Err(wrong()),
        };
        let what = parts.next().ok_or_else(wrong)?;
        let sector = parts.next().map_or(Ok(512), str::parse).map_err(|_| wrong())?;
        if !matches!(sector, 512 | 4096) || (bus == Bus::Sata && sector != 512) || parts.next().is_some() {
            return Err(wrong());
        }
        if what.contains('/') {
            return Ok(Self::file(bus, Path::new(what), sector));
        }
        let (number, shift) = match what.strip_suffix(['M', 'G']) {
            Some(number) => (number, if what.ends_with('G') { 30 } else { 20 }),
            None => (what, 0),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)?;
        Ok(Self::empty(bus, bytes, sector))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_read_as_they_are_written() {
        let disk = |text: &str| text.parse::<Disk>().unwrap();
        assert_eq!(disk("nvme:2G:4096"), Disk::empty(Bus::Nvme, 2 << 30, 4096));
        assert_eq!(disk("virtio:512M"), Disk::empty(Bus::Virtio, 512 << 20, 512));
        assert_eq!(disk("scsi:/x/y"), Disk::file(Bus::Scsi, Path::new("/x/y"), 512));
        for wrong in
            ["", "ide:1G", "nvme", "nvme:0", "nvme:1G:520", "sata:1G:4096", "virtio:1G:512:1", "virtio:99999999999G"]
        {
            let error = wrong.parse::<Disk>().unwrap_err().to_string();
            assert!(error.contains("is no disk"), "{wrong}: {error}");
        }
    }
}
