//! Partitions that survive a new image: byte for byte and with their entries, refused where they cannot, found again after
//! a kill.

#![allow(clippy::unwrap_used)] // Helpers of tests; the lint knows only test functions.

mod common;

use std::io::Cursor;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use actions::disk::gpt::Table;
use common::server::{Faults, serve};
use common::{Loop, MIB, image, instants, killed, root, run, tool, write, zstd};
use gpt::partition::Partition;

const SIZE: usize = 64 * MIB;
/// The end of the image's last partition: the next one begins where the image still has the backup of its table.
const DATA: usize = 15 * MIB;
const LOG: usize = 35 * MIB;

/// A disk with an image of 16 MiB, 20 MiB of data after its last partition, and a log to the very last sector it may have.
fn installed(sector: u32) -> Loop {
    let disk = Loop::new(SIZE, sector);
    write(&serve(image(16 * MIB, sector), Faults::default()), &disk, &[]).ok();
    let list = r#"[{"label":"data","size":"20MiB","type":"linux"}]"#;
    run("disk-partition", &[("DEST_DISK", disk.path()), ("PARTITIONS", list), ("WAIT_DEVICE_SECONDS", "0")]).ok();
    let start = LOG / sector as usize;
    let (new, name) = (format!("--new=7:{start}:0"), "--change-name=7:log");
    tool("sgdisk", &[new.as_str(), name, disk.path()]);
    tool("blockdev", &["--rereadpt", disk.path()]);
    let mut bytes = disk.bytes();
    let end = end_of_log(sector);
    for (at, byte) in (DATA..).zip(&mut bytes[DATA..end]) {
        *byte = (at >> 9) as u8 | 1;
    }
    disk.file.write_all_at(&bytes[DATA..end], DATA as u64).unwrap();
    tool("blockdev", &["--flushbufs", disk.path()]);
    disk.assert_table_is_clean();
    disk
}

/// Before the backup of the table.
fn end_of_log(sector: u32) -> usize {
    SIZE - (16 << 10) - sector as usize
}

/// The entry with that label, as the disk has it.
#[track_caller]
fn entry(bytes: &[u8], sector: u32, label: &str) -> (u32, Partition) {
    let table = Table::read(&mut Cursor::new(bytes.to_vec()), sector).unwrap().unwrap();
    table.partitions().unwrap().into_iter().find(|(_, p)| p.name == label).unwrap_or_else(|| panic!("no {label}"))
}

#[track_caller]
fn assert_kept(disk: &Loop, before: &[u8], sector: u32) {
    let (now, end) = (disk.bytes(), end_of_log(sector));
    assert!(now[DATA..end] == before[DATA..end], "what was to be preserved changed");
    for label in ["data", "log"] {
        assert_eq!(entry(&now, sector, label), entry(before, sector, label));
    }
}

#[test]
fn partitions_survive_a_new_image_byte_for_byte() {
    if !root("partitions_survive_a_new_image_byte_for_byte") {
        return;
    }
    for sector in [512, 4096] {
        let disk = installed(sector);
        let before = disk.bytes();
        let mut new = image(16 * MIB, sector);
        new[3 * MIB..14 * MIB].iter_mut().for_each(|byte| *byte ^= 0x40);
        for (file, terms) in [(new.clone(), "2,7"), (zstd(&new), "data, label=l?g"), (new.clone(), "2-9")] {
            let url = serve(file, Faults::default());
            let more = [("PRESERVE_PARTITIONS", terms), ("DISCARD_FIRST", "true"), ("VERIFY", "full")];
            let done = write(&url, &disk, &more);
            assert_eq!(done.ok().log.matches("plan: keep partition").count(), 2, "{}", done.log);
            assert_kept(&disk, &before, sector);
            assert!(disk.bytes()[2 * MIB..DATA] == new[2 * MIB..DATA], "the image is not on the disk");
            disk.assert_table_is_clean();
            for number in [1, 2, 7, 15] {
                assert!(std::fs::metadata(disk.partition(number)).is_ok(), "no partition {number}: {done:?}");
            }
        }
        // What is not named goes, its signatures too.
        let url = serve(zstd(&new), Faults::default());
        let done = write(&url, &disk, &[("PRESERVE_PARTITIONS", "log,none*"), ("GROW_PARTITION", "last")]);
        assert!(done.ok().log.contains("has no partition label=none*"), "{}", done.log);
        let now = disk.bytes();
        assert!(now[LOG..end_of_log(sector)] == before[LOG..end_of_log(sector)], "the log changed");
        assert!(now[34 * MIB..LOG].iter().all(|byte| *byte == 0), "the end of the other one is still there");
        let (_, root) = entry(&now, sector, "root");
        assert_eq!((root.last_lba + 1) * u64::from(sector), LOG as u64, "it grows to what is preserved");
        disk.assert_table_is_clean();
    }
}

#[test]
fn a_label_finds_it_where_the_image_has_its_number() {
    if !root("a_label_finds_it_where_the_image_has_its_number") {
        return;
    }
    let disk = installed(512);
    tool("sgdisk", &["--delete=2", "--delete=1", "--transpose=7:1", disk.path()]);
    tool("blockdev", &["--rereadpt", disk.path()]);
    let before = disk.bytes();
    let url = serve(image(16 * MIB, 512), Faults::default());
    let failure = write(&url, &disk, &[("PRESERVE_PARTITIONS", "1")]).failure().clone();
    assert!(failure.message.contains("1 is also partition 1 (\"root\") of the image"), "{failure:?}");
    assert!(disk.bytes() == before, "a refused run changed the disk");
    for _ in 0..2 {
        let done = write(&url, &disk, &[("PRESERVE_PARTITIONS", "log")]);
        let now = disk.bytes();
        assert!(now[LOG..end_of_log(512)] == before[LOG..end_of_log(512)], "the log changed");
        assert_eq!(entry(&now, 512, "log"), (16, entry(&before, 512, "log").1), "{}", done.ok().log);
        disk.assert_table_is_clean();
    }
}

#[test]
fn what_cannot_be_preserved_is_refused_before_anything_is_written() {
    if !root("what_cannot_be_preserved_is_refused_before_anything_is_written") {
        return;
    }
    let disk = installed(512);
    let before = disk.bytes();
    let large = image(40 * MIB, 512);
    let plain = vec![0x33; 8 * MIB];
    let cases = [
        (large.clone(), "data", "partition 2 (\"data\")", "partition 1 (\"root\")"),
        (zstd(&large), "log,data", "partition 2 (\"data\")", "partition 1 (\"root\")"),
        (image(16 * MIB, 512), "root", "label=root is also partition 1 (\"root\")", ""),
        (plain, "data", "does not begin with a GPT", ""),
    ];
    for (file, terms, kept, other) in cases {
        for dry in ["true", "false"] {
            let more = [("PRESERVE_PARTITIONS", terms), ("DRY_RUN", dry)];
            let failure = write(&serve(file.clone(), Faults::default()), &disk, &more).failure().clone();
            assert_eq!(failure.code, "partition_table", "{failure:?}");
            assert!(failure.message.contains(kept) && failure.message.contains(other), "{failure:?}");
        }
    }
    assert!(disk.bytes() == before, "a refused run changed the disk");
    let url = serve(image(16 * MIB, 512), Faults::default());
    let keep = [("PRESERVE_PARTITIONS", "data")];
    let mut damaged = before.clone();
    for at in [1024, SIZE - 8192] {
        damaged[at] ^= 1;
    }
    damaged[SIZE - 32 * 512 - 512] ^= 1;
    let mut dos = before.clone();
    dos[450] = 0x83;
    for (bytes, word) in [(damaged, "neither its primary nor its backup"), (dos, "a DOS partition table")] {
        disk.file.write_all_at(&bytes, 0).unwrap();
        tool("blockdev", &["--flushbufs", disk.path()]);
        let failure = write(&url, &disk, &keep).failure().clone();
        assert!(failure.one_line().contains(word), "{failure:?}");
        assert!(disk.bytes() == bytes, "a refused run changed the disk");
    }
    // An empty disk has nothing to be preserved, and says so.
    let empty = Loop::new(SIZE, 512);
    let done = write(&url, &empty, &keep);
    assert!(done.ok().log.contains("has no partition label=data"), "{}", done.log);
    empty.assert_table_is_clean();
}

#[test]
fn a_failed_run_keeps_them_and_boots_nothing() {
    if !root("a_failed_run_keeps_them_and_boots_nothing") {
        return;
    }
    let disk = installed(512);
    let before = disk.bytes();
    let file = image(16 * MIB, 512);
    let cut = serve(file.clone(), Faults { cut: Some(10 * MIB), no_tag: true, ..Faults::default() });
    let keep = [("PRESERVE_PARTITIONS", "data,log"), ("RETRY_ENABLED", "false")];
    assert_eq!(write(&cut, &disk, &keep).failure().code, "truncated");
    assert_kept(&disk, &before, 512);
    disk.assert_table_is_clean();
    let now = disk.bytes();
    let table = Table::read(&mut Cursor::new(now.clone()), 512).unwrap().unwrap();
    assert_eq!(table.partitions().unwrap().len(), 2, "partitions of no image");
    assert!(now[..446].iter().all(|byte| *byte == 0), "boot code of no system");
    write(&serve(file, Faults::default()), &disk, &keep).ok();
    assert_kept(&disk, &before, 512);
    disk.assert_table_is_clean();
}

#[test]
fn a_kill_at_any_instant_loses_none_of_them() {
    if !root("a_kill_at_any_instant_loses_none_of_them") {
        return;
    }
    let disk = installed(512);
    let before = disk.bytes();
    let new = image(16 * MIB, 512);
    let url = serve(zstd(&new), Faults::default());
    let env = [
        ("IMG_URL", url.as_str()),
        ("DEST_DISK", disk.path()),
        ("IMG_CHECKSUM", "none"),
        ("PRESERVE_PARTITIONS", "data,7"),
    ];
    let mut early = 0;
    let begun = Instant::now();
    run("image-write", &env).ok();
    for after in instants(begun.elapsed()).take(40) {
        early += usize::from(!killed("image-write", &env, after));
        assert_kept(&disk, &before, 512);
    }
    println!("{early} killed at work");
    assert!(early > 5, "hardly any run was killed at work: {early}");
    run("image-write", &env).ok();
    assert_kept(&disk, &before, 512);
    assert!(disk.bytes()[2 * MIB..DATA] == new[2 * MIB..DATA], "the image is not on the disk");
    disk.assert_table_is_clean();
}
