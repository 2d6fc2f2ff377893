//! `image-write` against loop devices and a web server that misbehaves.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use common::server::{Faults, serve};
use common::{Loop, MIB, Run, gzip, image, root, run, sha256, tool, zstd};
use spec::Event;

fn write(url: &str, disk: &Loop, sum: &str, more: &[(&str, &str)]) -> Run {
    let base = [("IMG_CHECKSUM", sum), ("RETRY_ENABLED", "false")];
    let base = base.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    common::write(url, disk, &base.chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn every_packing_arrives_at_both_sector_sizes() {
    if !root("every_packing_arrives_at_both_sector_sizes") {
        return;
    }
    for sector in [512, 4096] {
        let image = image(11 * MIB + 512 * 8 * 3, sector);
        for file in [image.clone(), gzip(&image), zstd(&image)] {
            let disk = Loop::new(40 * MIB, sector);
            let sum = sha256(&file);
            let total = file.len() as u64;
            let more = [("VERIFY", "full"), ("PROGRESS_INTERVAL_SECONDS", "0")];
            let done = write(&serve(file, Faults::default()), &disk, &sum, &more);
            let lines = done.ok().log.lines();
            let ends = lines.filter(|l| l.starts_with("writing: ") && l.ends_with("(100 %)")).count();
            assert_eq!(ends, 1, "{}", done.log);
            let bytes = disk.bytes();
            // Between the primary table and the backup that the image had at its own end.
            assert!(bytes[MIB..image.len()] == image[MIB..], "the body differs");
            assert!(
                bytes[image.len().next_multiple_of(4096)..39 * MIB].iter().all(|b| *b == 0xaa),
                "too much was written"
            );
            disk.assert_table_is_clean();
            assert!(fs::metadata(disk.partition(15)).is_ok(), "no partition 15: {done:?}");
            let whole = |e: &Event| matches!(e, Event::Progress(p) if p.message == "writing" && (p.done, p.total) == (total, total));
            assert!(done.events.iter().any(whole), "{:?}", done.events);
        }
    }
}

#[test]
fn when_only_the_kernel_fails_the_disk_is_complete_and_the_error_says_so() {
    if !root("when_only_the_kernel_fails_the_disk_is_complete_and_the_error_says_so") {
        return;
    }
    let image = image(16 * MIB, 512);
    let disk = Loop::new(16 * MIB, 512);
    // A /dev where the node of a partition cannot be made.
    let script = "mount -t tmpfs none /dev && mkdir /dev/${DEST_DISK#/dev/}p15 && exec $PROGRAM image-write";
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .envs([("PROGRAM", env!("CARGO_BIN_EXE_ironhook-actions")), ("DEST_DISK", disk.path())])
        .envs([("IMG_URL", serve(image.clone(), Faults::default())), ("IMG_CHECKSUM", sha256(&image))])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("failed: partition_table: ") && log.contains("is written and verified"), "{log}");
    assert!(disk.bytes() == image, "the disk differs from the image");
}

#[test]
fn an_image_as_large_as_the_disk_fits() {
    if !root("an_image_as_large_as_the_disk_fits") {
        return;
    }
    let image = image(16 * MIB, 512);
    let disk = Loop::new(16 * MIB, 512);
    write(&serve(image.clone(), Faults::default()), &disk, &sha256(&image), &[]).ok();
    assert!(disk.bytes() == image, "the disk differs from the image");
}

#[test]
fn wrong_bytes_leave_nothing_that_boots() {
    if !root("wrong_bytes_leave_nothing_that_boots") {
        return;
    }
    let image = image(16 * MIB, 512);
    let mut damaged_zstd = zstd(&image);
    let middle = damaged_zstd.len() / 2;
    damaged_zstd[middle..middle + 64].fill(0);
    for (file, promised) in [(image.clone(), sha256(b"other")), (damaged_zstd, sha256(&zstd(&image)))] {
        let actual = sha256(&file);
        let disk = Loop::new(16 * MIB, 512);
        let done = write(&serve(file, Faults::default()), &disk, &promised, &[]);
        let failure = done.failure();
        assert_eq!(failure.code, "digest_mismatch");
        assert!(failure.message.contains(&promised) && failure.message.contains(&actual), "{failure:?}");
        disk.assert_nothing_new_boots();
    }
}

#[test]
fn a_digest_of_the_content_is_checked_too() {
    if !root("a_digest_of_the_content_is_checked_too") {
        return;
    }
    let image = image(8 * MIB, 512);
    let disk = Loop::new(16 * MIB, 512);
    let url = serve(gzip(&image), Faults::default());
    write(&url, &disk, &sha256(&image), &[("IMG_CHECKSUM_OF", "content")]).ok();
    let done = write(&url, &disk, &sha256(b"x"), &[("IMG_CHECKSUM_OF", "content")]);
    assert_eq!(done.failure().code, "digest_mismatch");
    disk.assert_blank_ends();
}

#[test]
fn a_cut_download_leaves_nothing_that_boots() {
    if !root("a_cut_download_leaves_nothing_that_boots") {
        return;
    }
    let image = image(16 * MIB, 512);
    for file in [image.clone(), gzip(&image), zstd(&image)] {
        let disk = Loop::new(16 * MIB, 512);
        let total = file.len();
        for cut in [total / 2, total * 3 / 4, total - 1] {
            let url = serve(file.clone(), Faults { cut: Some(cut), no_tag: true, ..Faults::default() });
            for sum in [&sha256(&file), "none"] {
                let done = write(&url, &disk, sum, &[]);
                let failure = done.failure();
                assert_eq!(failure.code, "truncated", "{failure:?}");
                let counts = format!("ended after {cut} of {total} bytes");
                assert!(failure.causes.iter().any(|c| c.contains(&counts)), "{failure:?}");
                disk.assert_nothing_new_boots();
            }
        }
    }
}

#[test]
fn a_packed_file_that_is_short_by_itself_is_damaged() {
    if !root("a_packed_file_that_is_short_by_itself_is_damaged") {
        return;
    }
    let image = image(16 * MIB, 512);
    for file in [gzip(&image), zstd(&image)] {
        let short = file[..file.len() * 3 / 4].to_vec();
        let disk = Loop::new(16 * MIB, 512);
        let done = write(&serve(short, Faults::default()), &disk, "none", &[]);
        assert_eq!(done.failure().code, "decode");
        disk.assert_nothing_new_boots();
    }
}

#[test]
fn a_download_that_is_cut_again_and_again_is_taken_up() {
    if !root("a_download_that_is_cut_again_and_again_is_taken_up") {
        return;
    }
    let image = image(12 * MIB, 512);
    let file = zstd(&image);
    let disk = Loop::new(16 * MIB, 512);
    let url = serve(file.clone(), Faults { cut: Some(file.len() / 5), ..Faults::default() });
    write(&url, &disk, &sha256(&file), &[("RETRY_ENABLED", "true")]).ok();
    assert!(disk.bytes()[MIB..11 * MIB] == image[MIB..11 * MIB], "the body differs");
    disk.assert_table_is_clean();
}

#[test]
fn what_can_be_known_before_touches_nothing() {
    if !root("what_can_be_known_before_touches_nothing") {
        return;
    }
    let small = Loop::new(8 * MIB, 512);
    let native = Loop::new(40 * MIB, 4096);
    let image = image(16 * MIB, 512);
    let mut tar = vec![0; 2 * MIB];
    tar[257..262].copy_from_slice(b"ustar");
    let gone = Faults { status: Some("404 Not Found"), ..Faults::default() };
    let endless = Faults { no_length: true, ..Faults::default() };
    let cases = [
        (image.clone(), Faults::default(), &small, "disk_too_small", "16777216"),
        (image.clone(), Faults::default(), &native, "partition_table", "4096"),
        (image.clone(), gone, &native, "fetch", "404"),
        (image.clone(), endless, &native, "bad_input", "no length"),
        (gzip(&tar), Faults::default(), &native, "decode", "tar archive"),
        (Vec::new(), Faults::default(), &native, "decode", "empty"),
        (gzip(b""), Faults::default(), &native, "decode", "empty"),
        (zstd(b""), Faults::default(), &native, "decode", "empty"),
        (b"BZh91AY&SY and more of it".to_vec(), Faults::default(), &native, "decode", "damaged"),
    ];
    for (file, faults, disk, code, hint) in cases {
        let done = write(&serve(file, faults), disk, "none", &[]);
        let failure = done.failure();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.one_line().contains(hint), "{failure:?}");
        disk.assert_untouched();
    }
    let dry =
        write(&serve(image, Faults::default()), &small, "none", &[("DRY_RUN", "yes"), ("DEST_DISK", small.path())]);
    assert!(dry.ok().log.contains("plan: write http://"), "{dry:?}");
    small.assert_untouched();
}

#[test]
fn packed_content_larger_than_the_disk_ends_with_blank_ends() {
    if !root("packed_content_larger_than_the_disk_ends_with_blank_ends") {
        return;
    }
    let disk = Loop::new(8 * MIB, 512);
    let done = write(&serve(zstd(&image(16 * MIB, 512)), Faults::default()), &disk, "none", &[]);
    assert_eq!(done.failure().code, "disk_too_small");
    disk.assert_nothing_new_boots();
}

#[test]
fn a_disk_in_use_is_refused_with_the_reason() {
    if !root("a_disk_in_use_is_refused_with_the_reason") {
        return;
    }
    let image = image(8 * MIB, 512);
    let url = serve(image, Faults::default());
    let disk = Loop::new(16 * MIB, 512);
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    let dir = tempfile::tempdir().unwrap();
    {
        let _mount = sys::mount::Mount::device(&disk.path, "ext4", dir.path()).unwrap();
        let before = disk.bytes();
        let done = write(&url, &disk, "none", &[]);
        assert_eq!(done.failure().code, "disk_busy");
        assert!(done.failure().message.contains(dir.path().to_str().unwrap()), "{done:?}");
        assert!(disk.bytes() == before, "the disk was written to");
    }
    const O_EXCL: i32 = 0o200;
    let _held = OpenOptions::new().read(true).custom_flags(O_EXCL).open(&disk.path).unwrap();
    let done = write(&url, &disk, "none", &[]);
    assert_eq!(done.failure().code, "disk_busy");
    assert!(done.failure().one_line().contains("in use"), "{done:?}");
}

#[test]
fn under_its_old_name_bytes_go_as_they_are_and_loudly() {
    if !root("under_its_old_name_bytes_go_as_they_are_and_loudly") {
        return;
    }
    let file = gzip(&image(8 * MIB, 512));
    let disk = Loop::new(16 * MIB, 512);
    let url = serve(file.clone(), Faults::default());
    let env = [("IMG_URL", url.as_str()), ("DEST_DISK", disk.path()), ("WAIT_DEVICE_SECONDS", "0")];
    let done = run("image2disk", &env);
    done.ok();
    assert!(done.log.contains("warning: IMG_CHECKSUM is not set"), "{}", done.log);
    assert!(done.log.contains("warning: the image looks packed"), "{}", done.log);
    assert!(disk.bytes()[..file.len()] == file, "the bytes differ");
    let packed: Vec<_> = env.iter().copied().chain([("COMPRESSED", "true")]).collect();
    run("image2disk", &packed).ok();
    disk.assert_table_is_clean();
}

#[test]
fn killed_in_the_middle_it_leaves_nothing_that_boots() {
    if !root("killed_in_the_middle_it_leaves_nothing_that_boots") {
        return;
    }
    let image = image(40 * MIB, 512);
    let disk = Loop::new(40 * MIB, 512);
    // What was there boots, and has another body.
    let before: Vec<u8> =
        image.iter().enumerate().map(|(at, b)| if (4 * MIB..39 * MIB).contains(&at) { !b } else { *b }).collect();
    disk.file.write_all_at(&before, 0).unwrap();
    disk.assert_table_is_clean();
    let url = serve(image.clone(), Faults { cut: Some(30 * MIB), hang: true, ..Faults::default() });
    let mut program = common::bare()
        .arg("image-write")
        .envs([("IMG_URL", url.as_str()), ("DEST_DISK", disk.path()), ("IMG_CHECKSUM", "none")])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Part of the new body is on the disk: the program is between its first and its last write.
    let deadline = Instant::now() + Duration::from_secs(60);
    while disk.bytes()[9 * MIB..10 * MIB] != image[9 * MIB..10 * MIB] {
        assert!(Instant::now() < deadline && program.try_wait().unwrap().is_none(), "the body does not arrive");
    }
    program.kill().unwrap();
    program.wait().unwrap();
    disk.assert_blank_ends();
}
