//! Boundaries and units of sectors, without a disk.

use super::*;
use gpt::partition::Partition;
use gpt::partition_types::LINUX_FS;
use std::io::Cursor;
use uuid::Uuid;

const SIZE: usize = 16 << 20;

fn image(sector: u32, partitions: &[(u64, u64)]) -> Cursor<Vec<u8>> {
    let mut disk = Cursor::new(vec![0; SIZE]);
    let mut table = Table::empty(&mut disk, sector).unwrap();
    for (number, (first_lba, last_lba)) in (1..).zip(partitions) {
        let partition = Partition {
            part_type_guid: LINUX_FS,
            part_guid: Uuid::from_u128(u128::from(number)),
            first_lba: *first_lba,
            last_lba: *last_lba,
            flags: 4,
            name: format!("p{number}"),
        };
        table.set(number, &partition).unwrap();
    }
    table.write(&mut disk).unwrap();
    disk
}

fn converted(from: u32, to: u32, partitions: &[(u64, u64)]) -> Result<Vec<(u64, u64)>, String> {
    let mut disk = image(from, partitions);
    let new = table(&mut disk, from, to).map_err(|failed| failed.failure().message)?;
    assert!(
        Table::read(&mut disk, from).is_ok_and(|old| old.is_none_or(|old| !old.is_primary())),
        "the old header stays"
    );
    new.write(&mut disk).unwrap();
    let new = Table::read(&mut disk, to).unwrap().unwrap().partitions().unwrap();
    for (number, partition) in &new {
        let was = (Uuid::from_u128(u128::from(*number)), format!("p{number}"), 4);
        assert_eq!((partition.part_guid, partition.name.clone(), partition.flags), was);
    }
    Ok(new.values().map(|p| (p.first_lba, p.last_lba)).collect())
}

#[test]
fn every_partition_keeps_its_bytes() {
    assert_eq!(converted(512, 4096, &[(2048, 4095), (4096, 8191)]), Ok(vec![(256, 511), (512, 1023)]));
    assert_eq!(converted(4096, 512, &[(256, 511), (600, 600)]), Ok(vec![(2048, 4095), (4800, 4807)]));
    // Its end is in the middle of a sector that nobody else has.
    assert_eq!(converted(512, 4096, &[(2048, 4090), (4104, 8190)]), Ok(vec![(256, 511), (513, 1023)]));
}

#[test]
fn what_no_sector_bounds_is_refused() {
    for (partitions, words) in [
        (&[(2049, 4095)][..], "partition 1 begins at byte 1049088"),
        (&[(40, 2047)], "partition 1 begins at byte 20480, where the table has to be"),
        (&[(4096, 8191), (2048, 4090), (4091, 4095)], "partition 2 ends at byte 2094592"),
    ] {
        let message = converted(512, 4096, partitions).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn file_systems_say_their_smallest_unit() {
    let with = |pieces: &[(usize, &[u8])]| {
        let mut bytes = [0; LOOK];
        for (at, piece) in pieces {
            bytes[*at..at + piece.len()].copy_from_slice(piece);
        }
        unit(&bytes)
    };
    let signed: (usize, &[u8]) = (510, &[0x55, 0xaa]);
    assert_eq!(with(&[signed, (0, &[0xeb]), (11, &[0, 2]), (0x52, b"FAT32   ")]), Some(("FAT", 512)));
    assert_eq!(with(&[signed, (0, &[0xeb]), (11, &[0, 16]), (0x36, b"FAT16   ")]), Some(("FAT", 4096)));
    assert_eq!(with(&[signed, (0, &[0xeb]), (3, b"EXFAT   "), (108, &[12])]), Some(("exFAT", 4096)));
    assert_eq!(with(&[signed, (0, &[0xeb]), (3, b"NTFS    "), (11, &[0, 2])]), Some(("NTFS", 512)));
    assert_eq!(with(&[(0, b"XFSB"), (102, &[2, 0])]), Some(("xfs", 512)));
    assert_eq!(with(&[(0x438, &[0x53, 0xef]), (0x418, &[2])]), Some(("ext4", 4096)));
    assert_eq!(with(&[(0x438, &[0x53, 0xef]), (0x418, &[200])]), None);
    assert_eq!(with(&[signed]), None);
    // Boot code may stand before a file system that leaves room for it.
    let booted: &[(usize, &[u8])] = &[signed, (0, &[0xeb]), (0x438, &[0x53, 0xef]), (0x418, &[0])];
    assert_eq!(with(booted), Some(("ext4", 1024)));
}

#[test]
fn a_boot_record_with_partitions_is_refused() {
    let mut disk = image(512, &[(2048, 4095)]);
    disk.get_mut()[446 + 16 + 4] = 0x0c;
    let message = table(&mut disk, 512, 4096).unwrap_err().failure().message;
    assert!(message.contains("hybrid MBR"), "{message}");
}
