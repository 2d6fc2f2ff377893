//! Tables on disks in memory, at both sector sizes; the crate's own strict reader is the judge.

use super::*;
use gpt::partition_types::{EFI, LINUX_FS};

const MIB: usize = 1 << 20;

fn partition(name: &str, first: u64, last: u64) -> Partition {
    Partition {
        part_type_guid: LINUX_FS,
        part_guid: Uuid::new_v4(),
        first_lba: first,
        last_lba: last,
        flags: 4,
        name: name.into(),
    }
}

/// A disk with partitions 1, 14 and 15, as Debian's cloud images have.
fn cloud(size: usize, sector: u32) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; size]);
    let mut table = Table::empty(&mut disk, sector).unwrap();
    let mib = MIB as u64 / u64::from(sector);
    table.set(1, &partition("root", 4 * mib, 6 * mib - 1)).unwrap();
    table.set(14, &partition("bios", mib, 2 * mib - 1)).unwrap();
    table.set(15, &Partition { part_type_guid: EFI, ..partition("esp", 2 * mib, 4 * mib - 1) }).unwrap();
    table.write(&mut disk).unwrap();
    disk.into_inner()
}

fn numbers(disk: &[u8], sector: u32) -> Vec<u32> {
    let table = Table::read(&mut Cursor::new(disk.to_vec()), sector).unwrap().unwrap();
    table.partitions().unwrap().into_keys().collect()
}

/// Both headers whole, as another implementation sees it.
fn strict(disk: &[u8], sector: u32) -> BTreeMap<u32, Partition> {
    let opened = ::gpt::GptConfig::new()
        .only_valid_headers(true)
        .logical_block_size(block_size(sector).unwrap())
        .open_from_device(Cursor::new(disk.to_vec()))
        .unwrap();
    opened.partitions().clone()
}

#[test]
fn numbers_with_gaps_survive() {
    for sector in [512, 4096] {
        let disk = cloud(8 * MIB, sector);
        assert_eq!(numbers(&disk, sector), [1, 14, 15]);
        assert_eq!(strict(&disk, sector).into_keys().collect::<Vec<_>>(), [1, 14, 15]);
    }
}

#[test]
fn on_a_larger_disk_the_backup_moves_to_the_end() {
    for sector in [512, 4096] {
        let mut disk = cloud(8 * MIB, sector);
        let before = strict(&disk, sector);
        disk.resize(64 * MIB, 0);
        let mut cursor = Cursor::new(disk);
        let table = Table::read(&mut cursor, sector).unwrap().unwrap();
        assert!(!table.is_in_place());
        table.write(&mut cursor).unwrap();
        let disk = cursor.into_inner();
        assert_eq!(strict(&disk, sector), before);
        let last = (64 * MIB / sector as usize - 1) as u32;
        assert_eq!(disk[458..462], last.to_le_bytes(), "protective MBR");
        let table = Table::read(&mut Cursor::new(disk), sector).unwrap().unwrap();
        assert!(table.is_in_place());
        let array = (16384 / sector as usize) as u64;
        assert_eq!(table.usable().1, u64::from(last) - 1 - array);
    }
}

#[test]
fn a_lost_primary_comes_back_from_the_backup() {
    for sector in [512, 4096] {
        let mut disk = cloud(8 * MIB, sector);
        let before = strict(&disk, sector);
        disk[..MIB].fill(0);
        let mut cursor = Cursor::new(disk);
        Table::read(&mut cursor, sector).unwrap().unwrap().write(&mut cursor).unwrap();
        assert_eq!(strict(&cursor.into_inner(), sector), before);
    }
}

#[test]
fn boot_code_and_hybrid_records_stay() {
    let mut disk = cloud(8 * MIB, 512);
    disk[..440].fill(0x90);
    let mut cursor = Cursor::new(disk);
    Table::read(&mut cursor, 512).unwrap().unwrap().write(&mut cursor).unwrap();
    let mut disk = cursor.into_inner();
    assert!(disk[..440].iter().all(|b| *b == 0x90));
    disk[462 + 4] = 0x0c;
    let mbr = disk[..512].to_vec();
    let mut cursor = Cursor::new(disk);
    Table::read(&mut cursor, 512).unwrap().unwrap().write(&mut cursor).unwrap();
    assert_eq!(cursor.into_inner()[..512], mbr);
}

#[test]
fn a_table_for_other_sectors_is_named() {
    for (made, has) in [(512, 4096), (4096, 512)] {
        let disk = cloud(8 * MIB, made);
        let error = Table::read(&mut Cursor::new(disk), has).unwrap_err();
        assert!(matches!(error, Error::SectorSize { of, has: h } if of == made && h == has), "{error}");
    }
}

#[test]
fn damage_in_both_copies_is_an_error_and_a_blank_disk_is_not() {
    assert!(Table::read(&mut Cursor::new(vec![0; 8 * MIB]), 512).unwrap().is_none());
    let mut disk = cloud(8 * MIB, 512);
    disk[512 + 20] ^= 1;
    let end = disk.len();
    disk[end - 512 + 20] ^= 1;
    assert!(matches!(Table::read(&mut Cursor::new(disk), 512), Err(Error::Damaged)));
}

#[test]
fn a_partition_beyond_the_end_is_refused() {
    let mut disk = cloud(8 * MIB, 512);
    disk.truncate(5 * MIB);
    let mut cursor = Cursor::new(disk);
    let table = Table::read(&mut cursor, 512).unwrap().unwrap();
    assert!(matches!(table.write(&mut cursor), Err(Error::NoRoom { number: 1, .. })));
}

/// Keeps every write since it was made, by flushes.
#[derive(Debug)]
struct Recorder {
    disk: Cursor<Vec<u8>>,
    epochs: Vec<Vec<(usize, Vec<u8>)>>,
}

impl Read for Recorder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.disk.read(buf)
    }
}

impl Seek for Recorder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

impl Write for Recorder {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let at = self.disk.position() as usize;
        self.epochs.last_mut().unwrap().push((at, buf.to_vec()));
        self.disk.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.epochs.push(Vec::new());
        Ok(())
    }
}

/// Of what was written since the last flush a power loss keeps anything: here, each sector or all but it.
#[test]
fn a_power_loss_leaves_a_whole_table() {
    let whole = cloud(8 * MIB, 512);
    let mut from_backup = whole.clone();
    from_backup[512..MIB].fill(0);
    let mut from_primary = whole.clone();
    from_primary[8 * MIB - 512..].fill(0);
    for before in [whole, from_backup, from_primary] {
        let mut recorder = Recorder { disk: Cursor::new(before.clone()), epochs: vec![Vec::new()] };
        let mut table = Table::read(&mut recorder, 512).unwrap().unwrap();
        for number in 2..=13 {
            let first = 12288 + 64 * u64::from(number);
            table.set(number, &partition("more", first, first + 63)).unwrap();
        }
        table.write(&mut recorder).unwrap();
        let mut disk = before;
        for epoch in &recorder.epochs {
            let sectors: Vec<_> = epoch
                .iter()
                .flat_map(|(at, bytes)| bytes.chunks(512).enumerate().map(move |(n, b)| (at + n * 512, b)))
                .collect();
            for kept in 0..sectors.len() {
                for is_kept_alone in [true, false] {
                    let mut torn = disk.clone();
                    for (_, (at, bytes)) in sectors.iter().enumerate().filter(|(n, _)| (*n == kept) == is_kept_alone) {
                        torn[*at..at + bytes.len()].copy_from_slice(bytes);
                    }
                    let count = numbers(&torn, 512).len();
                    assert!([3, 15].contains(&count), "{count}");
                }
            }
            for (at, bytes) in sectors {
                disk[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
        assert_eq!(strict(&disk, 512).len(), 15);
    }
}

#[test]
fn partitions_that_cannot_be_counted_make_no_table() {
    let with = |first: u64, last: u64| {
        let mut disk = cloud(8 * MIB, 512);
        // The only copy, all of whose sums are right.
        let backup = disk.len() - 33 * 512;
        disk[backup..].fill(0);
        let entry = (1024..).step_by(128).find(|at| disk[*at..at + 16].iter().any(|b| *b != 0)).unwrap();
        disk[entry + 32..entry + 40].copy_from_slice(&first.to_le_bytes());
        disk[entry + 40..entry + 48].copy_from_slice(&last.to_le_bytes());
        let entries = crc_of(&disk[1024..1024 + 128 * 128]);
        disk[600..604].copy_from_slice(&entries.to_le_bytes());
        disk[528..532].fill(0);
        let crc = crc_of(&disk[512..604]);
        disk[528..532].copy_from_slice(&crc.to_le_bytes());
        Table::read(&mut Cursor::new(disk), 512)
    };
    assert!(with(3000, 3001).unwrap().is_some());
    for (first, last) in [(3000, u64::MAX), ((1 << 55) + 3000, (1 << 55) + 3001), (3001, 3000)] {
        assert!(matches!(with(first, last), Err(Error::Damaged)), "{first} to {last}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn damage_never_panics(at in 0usize..40 * 512, value: u8, fix_crc: bool) {
        let mut disk = cloud(8 * MIB, 512);
        disk[at] = value;
        if fix_crc {
            disk[528..532].fill(0);
            let crc = crc_of(&disk[512..604]);
            disk[528..532].copy_from_slice(&crc.to_le_bytes());
        }
        let mut cursor = Cursor::new(disk);
        if let Ok(Some(table)) = Table::read(&mut cursor, 512) {
            let _ = table.write(&mut cursor);
        }
    }
}
