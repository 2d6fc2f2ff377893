//! What `image-write` does with a disk beyond copying: growing, old signatures, sectors of another size, signatures,
//! interruption.

#![allow(clippy::unwrap_used)] // Helpers of tests; the lint knows only test functions.

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use common::server::{Faults, serve};
use common::{Loop, MIB, block_map, gzip, image, instants, killed, peak, root, run, sha256, tool, write, zstd};

/// An image whose partition 1 holds a file system made by `mkfs`.
fn with_file_system(size: usize, sector: u32, mkfs: &[&str]) -> Vec<u8> {
    let mut bytes = image(size, sector);
    let (start, len) = (2 * MIB, size - 3 * MIB);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(len as u64).unwrap();
    let path = file.path().to_str().unwrap();
    tool(mkfs[0], &mkfs[1..].iter().copied().chain([path]).collect::<Vec<_>>());
    file.as_file().read_exact_at(&mut bytes[start..start + len], 0).unwrap();
    bytes
}

/// Bytes that the mounted partition has, and that it can be written to.
fn capacity(disk: &Loop, kind: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let mount = sys::mount::Mount::device(Path::new(&disk.partition(1)), kind, dir.path()).unwrap();
    fs::write(dir.path().join("file"), [7; 100_000]).unwrap();
    let text = tool("stat", &["-f", "-c", "%b %S", dir.path().to_str().unwrap()]);
    mount.unmount().unwrap();
    text.split_whitespace().map(|n| n.parse::<u64>().unwrap()).product()
}

/// What ext4 asks for, and not every container has.
fn may_resize_ext4() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    mask.unwrap() & CAP_SYS_RESOURCE != 0
}

#[test]
fn the_last_partition_and_its_ext4_grow_on_request() {
    if !root("the_last_partition_and_its_ext4_grow_on_request") {
        return;
    }
    for sector in [512, 4096] {
        let image = with_file_system(24 * MIB, sector, &["mkfs.ext4", "-q", "-F", "-b", "4096"]);
        let url = serve(zstd(&image), Faults::default());
        let disk = Loop::new(80 * MIB, sector);
        write(&url, &disk, &[]).ok();
        assert!(capacity(&disk, "ext4") < 21 * MIB as u64);
        let done = write(&url, &disk, &[("GROW_FS", "true"), ("VERIFY", "full")]);
        if !may_resize_ext4() {
            let failure = done.failure();
            assert!(failure.code == "mount" && failure.one_line().contains("not permitted"), "{failure:?}");
            disk.assert_table_is_clean();
            let _ = writeln!(
                std::io::stderr(),
                "SKIP the_last_partition_and_its_ext4_grow_on_request: needs CAP_SYS_RESOURCE"
            );
            continue;
        }
        assert!(done.ok().log.contains("the ext4 of"), "{}", done.log);
        disk.assert_table_is_clean();
        let has = capacity(&disk, "ext4");
        assert!(has > 60 * MIB as u64, "{has}");
        tool("e2fsck", &["-f", "-n", &disk.partition(1)]);
    }
}

#[test]
fn a_partition_grows_by_its_label() {
    if !root("a_partition_grows_by_its_label") {
        return;
    }
    let url = serve(image(16 * MIB, 512), Faults::default());
    let disk = Loop::new(32 * MIB, 512);
    let failure = write(&url, &disk, &[("GROW_PARTITION", "label=roo")]).failure().clone();
    assert!(failure.message.contains("no partition with the label \"roo\""), "{failure:?}");
    disk.assert_untouched();
    write(&url, &disk, &[("GROW_PARTITION", "root")]).ok();
    disk.assert_table_is_clean();
    let sectors: u64 = fs::read_to_string(disk.in_sysfs("1/size")).unwrap().trim().parse().unwrap();
    assert_eq!(sectors * 512, 29 * MIB as u64, "from 2 MiB to where the backup begins, in whole MiB");
}

#[test]
fn a_table_may_stay_as_it_came() {
    if !root("a_table_may_stay_as_it_came") {
        return;
    }
    let image = image(16 * MIB, 512);
    let url = serve(image.clone(), Faults::default());
    let disk = Loop::new(32 * MIB, 512);
    let done = write(&url, &disk, &[("GPT_FIX", "false"), ("VERIFY", "full")]);
    assert!(done.ok().log.contains("GPT with 2 partitions, as it came"), "{}", done.log);
    assert!(disk.bytes()[..image.len()] == image, "the image was changed");
    assert!(disk.bytes()[31 * MIB..].iter().all(|b| *b == 0), "there is a backup at the end of the disk");
    assert!(fs::metadata(disk.partition(15)).is_ok(), "no partition 15: {done:?}");
    write(&url, &disk, &[]).ok();
    disk.assert_table_is_clean();
}

#[test]
fn a_table_for_other_sectors_is_converted_on_request() {
    if !root("a_table_for_other_sectors_is_converted_on_request") {
        return;
    }
    let ext4 = |block: &str| ["mkfs.ext4", "-q", "-F", "-b", block].map(str::to_owned);
    let convert = [("SECTOR_SIZE_POLICY", "convert"), ("VERIFY", "full")];
    for (from, to) in [(512, 4096), (4096, 512)] {
        let mkfs = ext4("4096");
        let image = with_file_system(24 * MIB, from, &mkfs.each_ref().map(String::as_str));
        let url = serve(zstd(&image), Faults::default());
        let disk = Loop::new(40 * MIB, to);
        assert_eq!(write(&url, &disk, &[]).failure().code, "partition_table");
        disk.assert_untouched();
        let done = write(&url, &disk, &convert);
        assert!(done.ok().log.contains(&format!("was made for sectors of {from} bytes")), "{}", done.log);
        disk.assert_table_is_clean();
        assert!(disk.bytes()[MIB..23 * MIB] == image[MIB..23 * MIB], "partitions were changed");
        assert!(capacity(&disk, "ext4") > 15 * MIB as u64);
        let guid = |text: String| text.lines().find(|l| l.contains("unique GUID")).unwrap().to_owned();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &image).unwrap();
        if from == 512 {
            let was = guid(tool("sgdisk", &["--info=15", file.path().to_str().unwrap()]));
            assert_eq!(was, guid(tool("sgdisk", &["--info=15", disk.path()])));
        }
    }
    // What does not work on such a disk is refused: a file system of smaller blocks, half a sector.
    let mkfs = ext4("1024");
    let small = with_file_system(24 * MIB, 512, &mkfs.each_ref().map(String::as_str));
    let disk = Loop::new(40 * MIB, 4096);
    let failure = write(&serve(small, Faults::default()), &disk, &convert).failure().clone();
    assert!(failure.message.contains("ext4 in partition 1 has blocks of 1024 bytes"), "{failure:?}");
    disk.assert_blank_ends();
    let mut fat = image(24 * MIB, 512);
    let esp = tempfile::NamedTempFile::new().unwrap();
    esp.as_file().set_len(MIB as u64).unwrap();
    tool("mkfs.vfat", &["-S", "512", esp.path().to_str().unwrap()]);
    esp.as_file().read_exact_at(&mut fat[MIB..2 * MIB], 0).unwrap();
    let failure = write(&serve(fat, Faults::default()), &disk, &convert).failure().clone();
    assert!(failure.message.contains("FAT in partition 15 has blocks of 512 bytes"), "{failure:?}");
    disk.assert_blank_ends();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image(24 * MIB, 512)).unwrap();
    let path = file.path().to_str().unwrap();
    tool("sgdisk", &["--delete=15", "--set-alignment=1", "--new=7:2049:4095", path]);
    let other = Loop::new(40 * MIB, 4096);
    let failure = write(path, &other, &convert).failure().clone();
    assert!(failure.message.contains("partition 7 begins at byte 1049088"), "{failure:?}");
    other.assert_untouched();
}

#[test]
#[ignore = "make test-full: mkfs.xfs and mkfs.btrfs, and disks of the sizes they want"]
fn xfs_and_btrfs_grow_too() {
    for (kind, mkfs) in [("xfs", &["mkfs.xfs", "-q", "-f"][..]), ("btrfs", &["mkfs.btrfs", "-q", "-f"])] {
        let image = with_file_system(330 * MIB, 512, mkfs);
        let disk = Loop::new(500 * MIB, 512);
        let done = write(&serve(zstd(&image), Faults::default()), &disk, &[("GROW_FS", "true")]);
        assert!(done.ok().log.contains(&format!("the {kind} of")), "{}", done.log);
        let has = capacity(&disk, kind);
        assert!(has > 400 * MIB as u64, "{kind}: {has}");
    }
}

#[test]
fn what_cannot_grow_is_named() {
    if !root("what_cannot_grow_is_named") {
        return;
    }
    let url = serve(image(16 * MIB, 512), Faults::default());
    let disk = Loop::new(32 * MIB, 512);
    let failure = write(&url, &disk, &[("GROW_PARTITION", "7")]).failure().clone();
    assert_eq!(
        (failure.code.as_str(), failure.message.contains("no partition 7")),
        ("partition_table", true),
        "{failure:?}"
    );
    disk.assert_untouched();
    // Its content is no file system: the disk is complete, and the error says so.
    let failure = write(&url, &disk, &[("GROW_FS", "true")]).failure().clone();
    assert!(failure.message.contains("is on the disk"), "{failure:?}");
    disk.assert_table_is_clean();
}

#[test]
fn signatures_of_earlier_partitions_are_gone() {
    if !root("signatures_of_earlier_partitions_are_gone") {
        return;
    }
    let disk = Loop::new(64 * MIB, 512);
    let list = r#"[{"label":"a","size":"30MiB","type":"linux"},{"label":"b","size":"rest","type":"linux"}]"#;
    let env = [("DEST_DISK", disk.path()), ("PARTITIONS", list), ("WAIT_DEVICE_SECONDS", "0")];
    run("disk-wipe", &[("DISK", disk.path()), ("WAIT_DEVICE_SECONDS", "0")]).ok();
    run("disk-partition", &env).ok();
    tool("mkfs.ext4", &["-q", "-F", &disk.partition(2)]);
    assert!(disk.bytes()[31 * MIB..32 * MIB].iter().any(|b| *b != 0));
    let url = serve(gzip(&image(12 * MIB, 512)), Faults::default());
    write(&url, &disk, &[]).ok();
    let bytes = disk.bytes();
    // The second partition began and ended far beyond the image.
    assert!(bytes[31 * MIB..32 * MIB].iter().all(|b| *b == 0), "its start is still there");
    assert!(bytes[61 * MIB + MIB / 2..62 * MIB].iter().all(|b| *b == 0), "its end is still there");
}

#[test]
fn a_dos_table_does_not_go_onto_sectors_of_4096_bytes() {
    if !root("a_dos_table_does_not_go_onto_sectors_of_4096_bytes") {
        return;
    }
    let mut dos = vec![0x42; 8 * MIB];
    dos[446..512].fill(0);
    dos[450] = 0x83;
    dos[454..462].copy_from_slice(&[0, 8, 0, 0, 0, 8, 0, 0]);
    dos[510..512].copy_from_slice(&[0x55, 0xaa]);
    let url = serve(dos.clone(), Faults::default());
    let disk = Loop::new(16 * MIB, 4096);
    let failure = write(&url, &disk, &[]).failure().clone();
    assert_eq!(failure.code, "partition_table");
    disk.assert_untouched();
    write(&url, &disk, &[("SECTOR_SIZE_POLICY", "ignore")]).ok();
    assert!(disk.bytes()[..dos.len()] == dos);
    let other = Loop::new(16 * MIB, 512);
    write(&url, &other, &[]).ok();
    // A GPT for other sectors is none to this disk, and cannot be changed.
    let gpt = image(8 * MIB, 512);
    let url = serve(gpt.clone(), Faults::default());
    let disk = Loop::new(16 * MIB, 4096);
    let ignore = ("SECTOR_SIZE_POLICY", "ignore");
    assert_eq!(write(&url, &disk, &[ignore, ("GROW_PARTITION", "last")]).failure().code, "partition_table");
    disk.assert_untouched();
    write(&url, &disk, &[ignore]).ok();
    assert!(disk.bytes()[..gpt.len()] == gpt);
}

#[test]
fn zeros_of_the_image_are_zeros_on_the_disk() {
    if !root("zeros_of_the_image_are_zeros_on_the_disk") {
        return;
    }
    let mut sparse = image(48 * MIB, 512);
    sparse[9 * MIB + 100..40 * MIB].fill(0);
    for mode in ["punch", "write"] {
        let disk = Loop::new(64 * MIB, 512);
        let url = serve(zstd(&sparse), Faults::default());
        write(&url, &disk, &[("ZERO_MODE", mode), ("VERIFY", "full")]).ok();
        assert!(disk.bytes()[MIB..47 * MIB] == sparse[MIB..47 * MIB], "{mode}");
        let allocated = std::os::unix::fs::MetadataExt::blocks(&disk.file.metadata().unwrap()) * 512;
        assert_eq!(allocated < 40 * MIB as u64, mode == "punch", "{mode}: {allocated}");
    }
}

#[test]
fn mirrors_take_over_from_a_server_that_is_gone() {
    if !root("mirrors_take_over_from_a_server_that_is_gone") {
        return;
    }
    let file = zstd(&image(12 * MIB, 512));
    let disk = Loop::new(16 * MIB, 512);
    let gone = serve(Vec::new(), Faults { status: Some("404 Not Found"), ..Faults::default() });
    let cuts = serve(file.clone(), Faults { cut: Some(file.len() / 2), ..Faults::default() });
    let good = serve(file.clone(), Faults::default());
    let mirrors = format!("{cuts} {good}");
    write(&gone, &disk, &[("MIRRORS", &mirrors), ("IMG_CHECKSUM", &sha256(&file))]).ok();
    disk.assert_table_is_clean();
}

#[test]
fn a_block_map_is_checked_and_saves_the_holes() {
    if !root("a_block_map_is_checked_and_saves_the_holes") {
        return;
    }
    let mut sparse = image(24 * MIB, 512);
    sparse[5 * MIB..20 * MIB].fill(0);
    let map = |bytes: &[u8]| block_map(bytes, &[(0, 5 * MIB), (20 * MIB, 24 * MIB)]);
    let good = serve(map(&sparse), Faults::default());
    let mut other = sparse.clone();
    other[3 * MIB] ^= 1;
    let bad = serve(map(&other), Faults::default());
    for file in [sparse.clone(), zstd(&sparse)] {
        let url = serve(file, Faults::default());
        let disk = Loop::new(32 * MIB, 512);
        let done = write(&url, &disk, &[("IMG_BMAP", &bad), ("RETRY_ENABLED", "false")]);
        assert_eq!(done.failure().code, "digest_mismatch");
        disk.assert_blank_ends();
        write(&url, &disk, &[("IMG_BMAP", &good), ("VERIFY", "full")]).ok();
        assert!(disk.bytes()[MIB..23 * MIB] == sparse[MIB..23 * MIB]);
        disk.assert_table_is_clean();
    }
    let url = serve(sparse.clone(), Faults::default());
    let disk = Loop::new(32 * MIB, 512);
    let mut qcow2 = b"QFI\xfb\0\0\0\x03".to_vec();
    qcow2.resize(4096, 0);
    let failure = write(&serve(qcow2, Faults::default()), &disk, &[("IMG_BMAP", &good)]).failure().clone();
    assert!(failure.one_line().contains("the map of a raw image"), "{failure:?}");
    assert_eq!(write(&url, &disk, &[("IMG_BMAP", &url)]).failure().code, "bad_input");
    disk.assert_untouched();
}

#[test]
fn memory_is_bounded_whatever_the_image() {
    if !root("memory_is_bounded_whatever_the_image") {
        return;
    }
    let image = image(192 * MIB, 512);
    let disk = Loop::new(200 * MIB, 512);
    let one_gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&image).unwrap();
        encoder.finish().unwrap()
    };
    let one_zstd = zstd::encode_all(image.as_slice(), 1).unwrap();
    let many: Vec<u8> = image.chunks(12 * MIB).flat_map(|piece| zstd::encode_all(piece, 1).unwrap()).collect();
    let all = [("FETCH_STREAMS", "8"), ("BLOCK_SIZE", "1MiB"), ("QUEUE_DEPTH", "16")];
    for (name, file, most) in
        [("raw", image.clone(), 64), ("gzip", one_gzip, 64), ("zstd", one_zstd, 64), ("zstd in frames", many, 256)]
    {
        let url = serve(file, Faults::default());
        for more in [&[][..], &all] {
            let base = [("IMG_URL", url.as_str()), ("DEST_DISK", disk.path()), ("IMG_CHECKSUM", "none")];
            let (code, used) = peak(&base.iter().chain(more).copied().collect::<Vec<_>>());
            assert_eq!(code, "", "{name}");
            println!("{name}, {} options: {used} MiB", more.len());
            assert!(used <= most, "{name} with {more:?}: {used} MiB");
        }
    }
}

#[test]
#[ignore = "make test-full: 200 runs, each killed at a random instant"]
fn killed_at_any_instant_and_run_again() {
    let image = image(24 * MIB, 512);
    let files = [image.clone(), gzip(&image), zstd(&image)];
    let urls = files.map(|file| serve(file, Faults::default()));
    let disk = Loop::new(32 * MIB, 512);
    let (mut early, mut late) = (0, 0);
    // Killed at once, a run leaves what was there before.
    let took = urls.each_ref().map(|url| {
        let begun = Instant::now();
        write(url, &disk, &[]).ok();
        begun.elapsed()
    });
    for (n, after) in instants(took.into_iter().max().unwrap()).take(200).enumerate() {
        let url = &urls[n % 3];
        let env = [("IMG_URL", url.as_str()), ("DEST_DISK", disk.path()), ("IMG_CHECKSUM", "none")];
        let finished = killed("image-write", &env, after);
        let bytes = disk.bytes();
        let is_blank = bytes[..512].iter().all(|b| *b == 0) && bytes[512..520] != *b"EFI PART";
        let is_whole = bytes[MIB..23 * MIB] == image[MIB..23 * MIB];
        // A head that boots stands only before a body that is whole: this one, or the one of the run before.
        assert!(is_blank || is_whole, "run {n}: a head before a body that is not whole");
        if finished {
            late += 1
        } else {
            early += 1
        }
        if n % 10 == 9 {
            write(url, &disk, &[("VERIFY", "full")]).ok();
            assert!(disk.bytes()[MIB..23 * MIB] == image[MIB..23 * MIB], "run {n}: wrong bytes after another run");
            disk.assert_table_is_clean();
        }
    }
    println!("{early} killed at work, {late} after it");
    assert!(early > 80, "hardly any run was killed at work: {early}");
}
