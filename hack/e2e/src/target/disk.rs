//! The raw disk: GPT, BIOS boot partition, ESP and root, each written at its place in a plain file.
//!
//! GRUB's boot sector needs two patches and its core image one, as `grub-bios-setup` makes them (512-byte sectors):
//! boot sector 0x5c: first sector of the core image, 64 bits; 0x66: two NOPs, use the drive number the BIOS gives;
//! core image 0x1f4: where its second sector is, 64 bits (its length behind that is filled by `grub-mkimage`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::grub::Grub;
use super::rootfs::ROOT_SIZE;
use super::{TargetError, file_error};
use crate::command::{command, run};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
const BIOS_START: u64 = MIB;
const ESP_START: u64 = 2 * MIB;
const ESP_SIZE: u64 = 16 * MIB;
const ROOT_START: u64 = ESP_START + ESP_SIZE;
/// A last MiB for the backup of the partition table.
const DISK_SIZE: u64 = ROOT_START + ROOT_SIZE + MIB;

/// Code of the boot sector; behind it lies the MBR's partition table.
const BOOT_CODE: usize = 440;
const KERNEL_SECTOR: usize = 0x5c;
const DRIVE_CHECK: usize = 0x66;
const BLOCK_LIST: usize = 0x1f4;

/// Writes the whole disk into `raw`.
pub(super) fn assemble(raw: &Path, root: &Path, grub: &Grub) -> Result<(), TargetError> {
    let disk = File::create_new(raw).map_err(file_error(raw))?;
    disk.set_len(DISK_SIZE).map_err(file_error(raw))?;
    drop(disk);
    partition(raw)?;
    let (boot, core) = patched(grub)?;
    let esp = esp(raw, &grub.efi)?;
    let mut disk = OpenOptions::new().write(true).open(raw).map_err(file_error(raw))?;
    let mut put = || -> io::Result<()> {
        disk.write_all(&boot[..BOOT_CODE])?;
        disk.seek(SeekFrom::Start(BIOS_START))?;
        disk.write_all(&core)?;
        disk.seek(SeekFrom::Start(ESP_START))?;
        disk.write_all(&esp)?;
        disk.seek(SeekFrom::Start(ROOT_START))?;
        io::copy(&mut File::open(root)?, &mut disk)?;
        disk.sync_all()
    };
    put().map_err(file_error(raw))
}

fn partition(raw: &Path) -> Result<(), TargetError> {
    let place = |number: u32, start: u64, size: u64| {
        format!("--new={number}:{}:{}", start / SECTOR, (start + size) / SECTOR - 1)
    };
    let mut sgdisk = command("sgdisk", ["--set-alignment=2048", "--disk-guid=8f1f6f0a-3b52-4d9c-9a53-6f2a1c0e7d10"]);
    sgdisk.args([place(1, BIOS_START, MIB), place(2, ESP_START, ESP_SIZE), place(3, ROOT_START, ROOT_SIZE)]);
    sgdisk.args(["--typecode=1:ef02", "--typecode=2:ef00", "--typecode=3:8304"]);
    sgdisk.args(["--change-name=1:bios", "--change-name=2:esp", "--change-name=3:root"]);
    for number in 1..=3 {
        sgdisk.arg(format!("--partition-guid={number}:8f1f6f0a-3b52-4d9c-9a53-6f2a1c0e7d1{number}"));
    }
    run(sgdisk.arg(raw))?;
    Ok(())
}

/// Boot sector and core image with each told where the next sector is.
fn patched(grub: &Grub) -> Result<(Vec<u8>, Vec<u8>), TargetError> {
    if grub.core.len() as u64 > MIB {
        return Err(TargetError::TooLarge { what: "GRUB's core image", size: grub.core.len() as u64, room: MIB });
    }
    let (mut boot, mut core) = (grub.boot.clone(), grub.core.clone());
    let first = BIOS_START / SECTOR;
    boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&first.to_le_bytes());
    boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(first + 1).to_le_bytes());
    Ok((boot, core))
}

/// The EFI system partition, filled with mtools: nothing is mounted.
fn esp(raw: &Path, efi: &Path) -> Result<Vec<u8>, TargetError> {
    let image = raw.with_file_name("esp.img");
    let sectors = (ESP_SIZE / SECTOR).to_string();
    run(command("mformat", ["-C", "-T", &sectors, "-h", "64", "-s", "32", "-v", "ESP", "-N", "1d2c3b4a", "-i"])
        .arg(&image)
        .arg("::"))?;
    run(command("mmd", ["-i"]).arg(&image).args(["::EFI", "::EFI/BOOT"]))?;
    run(command("mcopy", ["-i"]).arg(&image).arg(efi).arg("::EFI/BOOT/BOOTX64.EFI"))?;
    let bytes = fs::read(&image).map_err(file_error(&image))?;
    if bytes.len() as u64 > ESP_SIZE {
        return Err(TargetError::TooLarge { what: "the ESP", size: bytes.len() as u64, room: ESP_SIZE });
    }
    Ok(bytes)
}
