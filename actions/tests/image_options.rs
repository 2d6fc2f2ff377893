//! Options of `image-write` and its neighbours: which disks never, how the image is packed, which file of an archive it is,
//! what is asked of a server, and what of the table becomes new.

#![allow(clippy::unwrap_used)] // Helpers of tests; the lint knows only test functions.

mod common;

use std::fs;
use std::process::Command;
use std::time::Instant;

use common::server::{Faults, serve};
use common::{Loop, MIB, gzip, image, root, run, sha256, tool, write, zstd};

#[test]
fn an_image_is_packed_as_was_said_or_refused() {
    if !root("an_image_is_packed_as_was_said_or_refused") {
        return;
    }
    let image = image(8 * MIB, 512);
    let disk = Loop::new(12 * MIB, 512);
    let url = serve(zstd(&image), Faults::default());
    for said in ["gz", "none", "lz4"] {
        let failure = write(&url, &disk, &[("COMPRESSION", said)]).failure().clone();
        assert!(failure.code == "decode" && failure.one_line().contains("begins like zstd"), "{failure:?}");
    }
    disk.assert_untouched();
    write(&url, &disk, &[("COMPRESSION", "zst"), ("DISCARD_FIRST", "true")]).ok();
    assert!(disk.bytes()[MIB..7 * MIB] == image[MIB..7 * MIB]);
    disk.assert_table_is_clean();
}

#[test]
fn the_digest_may_be_in_a_file_of_its_own() {
    if !root("the_digest_may_be_in_a_file_of_its_own") {
        return;
    }
    let image = image(8 * MIB, 512);
    let url = serve(image.clone(), Faults::default());
    let disk = Loop::new(12 * MIB, 512);
    let sums = |bytes: &[u8], name: &str| {
        let line = format!("{}  {name}\n{}  x\n", sha256(bytes).trim_start_matches("sha256:"), "0".repeat(64));
        serve(line.into_bytes(), Faults::default())
    };
    let failure = write(&url, &disk, &[("IMG_CHECKSUM", &sums(&image, "other.img"))]).failure().clone();
    assert!(failure.code == "bad_input" && failure.message.contains("has 0 SHA-256"), "{failure:?}");
    disk.assert_untouched();
    let failure = write(&url, &disk, &[("IMG_CHECKSUM", &sums(b"x", "disk.img"))]).failure().clone();
    assert_eq!(failure.code, "digest_mismatch", "{failure:?}");
    disk.assert_blank_ends();
    let done = write(&url, &disk, &[("IMG_CHECKSUM", &sums(&image, "disk.img"))]);
    assert!(done.ok().log.contains(&format!("check {}", sha256(&image))), "{}", done.log);
}

#[test]
fn one_file_of_an_archive_is_the_image() {
    if !root("one_file_of_an_archive_is_the_image") {
        return;
    }
    let image = image(8 * MIB, 512);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("disk.raw"), &image).unwrap();
    fs::write(dir.path().join("readme"), "x").unwrap();
    let tar = dir.path().join("os.tar");
    let (dir_name, tar_name) = (dir.path().to_str().unwrap(), tar.to_str().unwrap());
    tool("tar", &["-b1", "-C", dir_name, "-cf", tar_name, "readme", "disk.raw"]);
    let tar = fs::read(tar).unwrap();
    let disk = Loop::new(12 * MIB, 512);
    for file in [tar.clone(), gzip(&tar)] {
        let sum = sha256(&file);
        let url = serve(file.clone(), Faults::default());
        let failure = write(&url, &disk, &[("TAR_MEMBER", "disk.img")]).failure().clone();
        assert!(failure.code == "bad_input" && failure.one_line().contains("readme, disk.raw"), "{failure:?}");
        write(&url, &disk, &[("TAR_MEMBER", "disk.raw"), ("IMG_CHECKSUM", &sum)]).ok();
        assert!(disk.bytes()[MIB..7 * MIB] == image[MIB..7 * MIB]);
        disk.assert_table_is_clean();
        let of_member = sha256(&image);
        write(
            &url,
            &disk,
            &[("TAR_MEMBER", "./disk.raw"), ("IMG_CHECKSUM", &of_member), ("IMG_CHECKSUM_OF", "content")],
        )
        .ok();
        // All of the image is there, the end of the archive is not.
        let short = serve(file[..file.len() - 700].to_vec(), Faults::default());
        let failure = write(&short, &disk, &[("TAR_MEMBER", "disk.raw")]).failure().clone();
        assert!(["decode", "truncated", "fetch"].contains(&failure.code.as_str()), "{failure:?}");
        disk.assert_blank_ends();
    }
}

#[test]
fn writes_of_any_way_arrive() {
    if !root("writes_of_any_way_arrive") {
        return;
    }
    for sector in [512, 4096] {
        let mut image = image(24 * MIB + 4096 * 5, sector);
        image[7 * MIB..16 * MIB].fill(0);
        let urls = [image.clone(), zstd(&image)].map(|file| serve(file, Faults::default()));
        for way in [
            [("WRITE_MODE", "buffered"), ("BLOCK_SIZE", "256KiB"), ("QUEUE_DEPTH", "16")],
            [("WRITE_MODE", "direct"), ("BLOCK_SIZE", "1MiB"), ("QUEUE_DEPTH", "12")],
            [("WRITE_MODE", "auto"), ("BLOCK_SIZE", "4MiB"), ("QUEUE_DEPTH", "1")],
            [("WRITE_MODE", "buffered"), ("VERIFY", "full"), ("ZERO_MODE", "write")],
        ] {
            for url in &urls {
                let disk = Loop::new(32 * MIB, sector);
                write(url, &disk, &way).ok();
                assert!(disk.bytes()[MIB..24 * MIB] == image[MIB..24 * MIB], "{way:?}");
                disk.assert_table_is_clean();
            }
        }
    }
}

#[test]
fn excluded_disks_are_never_written_by_any_name() {
    if !root("excluded_disks_are_never_written_by_any_name") {
        return;
    }
    let url = serve(image(8 * MIB, 512), Faults::default());
    let disk = Loop::new(12 * MIB, 512);
    let failure = write(&url, &disk, &[("EXCLUDE", &format!("serial=none; {}", disk.path()))]).failure().clone();
    assert!(failure.message.contains("it is excluded"), "{failure:?}");
    let env = [("DEST_DISK", disk.path()), ("EXCLUDE", disk.path()), ("WAIT_DEVICE_SECONDS", "0")];
    assert!(run("disk-wipe", &env).failure().message.contains("it is excluded"));
    disk.assert_untouched();
}

#[test]
fn a_read_only_disk_is_skipped_only_when_that_was_allowed() {
    if !root("a_read_only_disk_is_skipped_only_when_that_was_allowed") {
        return;
    }
    let (fixed, free) = (Loop::new(8 * MIB, 512), Loop::new(8 * MIB, 512));
    let read_only = ReadOnly::make(fixed.path());
    let both = format!("{},{}", fixed.path(), free.path());
    let wipe = |more: &[(&str, &str)]| {
        let base = [("DEST_DISK", both.as_str()), ("WAIT_DEVICE_SECONDS", "0")];
        run("disk-wipe", &base.iter().chain(more).copied().collect::<Vec<_>>())
    };
    assert!(wipe(&[]).failure().message.contains("read-only"));
    free.assert_untouched();
    let done = wipe(&[("ALLOW_READONLY_SKIP", "true")]);
    assert!(done.ok().log.contains("skipped: "), "{}", done.log);
    free.assert_blank_ends();
    drop(read_only);
    fixed.assert_untouched();
}

/// A loop device stays read-only beyond its file.
struct ReadOnly(String);

impl ReadOnly {
    fn make(path: &str) -> Self {
        let made = Self(path.to_owned());
        tool("blockdev", &["--setro", path]);
        made
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("blockdev").args(["--setrw", &self.0]).status();
    }
}

#[test]
fn copies_get_guids_of_their_own() {
    if !root("copies_get_guids_of_their_own") {
        return;
    }
    for sector in [512, 4096] {
        let image = image(8 * MIB, sector);
        let url = serve(image.clone(), Faults::default());
        let guids = |more: &[(&str, &str)]| {
            let disk = Loop::new(12 * MIB, sector);
            write(&url, &disk, more).ok();
            disk.assert_table_is_clean();
            ["--info=1", "--print"].map(|what| {
                let text = tool("sgdisk", &[what, disk.path()]);
                let line = text.lines().find(|line| line.contains("unique GUID") || line.contains("identifier (GUID)"));
                line.unwrap().to_owned()
            })
        };
        let kept = guids(&[]);
        assert_eq!(kept, guids(&[]));
        let new = guids(&[("RANDOMIZE_GUIDS", "true")]);
        assert!(kept[0] != new[0] && kept[1] != new[1], "{kept:?} {new:?}");
    }
}

#[test]
fn a_server_whose_copy_is_cut_off_is_given_up_soon() {
    if !root("a_server_whose_copy_is_cut_off_is_given_up_soon") {
        return;
    }
    let file = zstd(&image(8 * MIB, 512));
    let disk = Loop::new(12 * MIB, 512);
    // No ranges: it begins again each time, and ends at the same byte.
    let faults = Faults { cut: Some(file.len() / 2), no_tag: true, ..Faults::default() };
    let begun = Instant::now();
    let done = write(&serve(file, faults), &disk, &[]);
    let failure = done.failure();
    assert_eq!(failure.code, "truncated", "{failure:?}");
    assert!(failure.one_line().contains("ends every answer at the same byte"), "{failure:?}");
    assert!(begun.elapsed().as_secs() < 300, "as long as the budget of 600 s");
    disk.assert_nothing_new_boots();
}

#[test]
fn a_number_of_retries_ends_it_too() {
    if !root("a_number_of_retries_ends_it_too") {
        return;
    }
    let disk = Loop::new(12 * MIB, 512);
    let busy = serve(Vec::new(), Faults { status: Some("503 Busy"), ..Faults::default() });
    let failure = write(&busy, &disk, &[("RETRIES", "1")]).failure().clone();
    assert!(failure.code == "fetch" && failure.one_line().contains("503"), "{failure:?}");
    disk.assert_untouched();
}

#[test]
fn force_takes_down_a_mount_and_says_so_before() {
    if !root("force_takes_down_a_mount_and_says_so_before") {
        return;
    }
    let disk = Loop::new(24 * MIB, 512);
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    let at = tempfile::tempdir().unwrap();
    let place = at.path().to_str().unwrap();
    tool("mount", &[disk.path(), place]);
    let is_mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(place);
    let image = image(8 * MIB, 512);
    let url = serve(image.clone(), Faults::default());
    let failure = write(&url, &disk, &[]).failure().clone();
    assert!(failure.code == "disk_busy" && failure.message.contains(place), "{failure:?}");
    let plan = write(&url, &disk, &[("FORCE", "true"), ("DRY_RUN", "true")]);
    assert!(plan.ok().log.contains(&format!("unmount {place}")), "{}", plan.log);
    assert!(is_mounted());
    // Somebody works in it: nothing is touched.
    let mut busy = Command::new("sleep").arg("1000").current_dir(at.path()).spawn().unwrap();
    let failure = write(&url, &disk, &[("FORCE", "true")]).failure().clone();
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert!(failure.code == "disk_busy" && failure.one_line().contains("cannot unmount"), "{failure:?}");
    assert!(is_mounted());
    write(&url, &disk, &[("FORCE", "true")]).ok();
    assert!(!is_mounted() && disk.bytes()[MIB..7 * MIB] == image[MIB..7 * MIB]);
}
