//! `disk-wipe` and `disk-partition` against loop devices.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use common::{Loop, MIB, image, instants, killed, root, run, tool};

fn formatted(sector: u32) -> Loop {
    let disk = Loop::new(64 * MIB, sector);
    wipe(disk.path(), "metadata").ok();
    let list = r#"[{"label":"a","size":"20MiB","type":"linux"},{"label":"b","size":"rest","type":"linux"}]"#;
    partition(&disk, list).ok();
    for number in [1, 2] {
        tool("mkfs.ext4", &["-q", "-F", &disk.partition(number)]);
    }
    disk
}

fn partition(disk: &Loop, list: &str) -> common::Run {
    run("disk-partition", &[("DEST_DISK", disk.path()), ("PARTITIONS", list), ("WAIT_DEVICE_SECONDS", "0")])
}

fn wipe(disk: &str, method: &str) -> common::Run {
    run("disk-wipe", &[("DISK", disk), ("WIPE_METHOD", method), ("VERIFY", "full"), ("WAIT_DEVICE_SECONDS", "0")])
}

/// Nothing of a file system or a table can be found, not even where partitions were.
fn assert_no_signatures(disk: &Loop) {
    let bytes = disk.bytes();
    for start in [0, MIB, 21 * MIB] {
        assert!(bytes[start..start + MIB].iter().all(|b| *b == 0), "something at {start}");
    }
    assert!(bytes[63 * MIB..].iter().all(|b| *b == 0), "something at the end");
    assert!(fs::metadata(disk.partition(1)).is_err(), "the kernel still has partition 1");
}

#[test]
fn every_method_leaves_no_signature() {
    if !root("every_method_leaves_no_signature") {
        return;
    }
    for (sector, method) in [(512, "metadata"), (4096, "metadata"), (512, "zero"), (512, "discard")] {
        let disk = formatted(sector);
        let done = wipe(disk.path(), method);
        assert!(done.ok().log.contains(&format!("by {method}")), "{done:?}");
        assert_no_signatures(&disk);
        if method == "zero" {
            assert!(disk.bytes().iter().all(|b| *b == 0), "something is left");
        }
    }
}

#[test]
fn nothing_is_wiped_when_one_disk_of_a_list_is_in_use() {
    if !root("nothing_is_wiped_when_one_disk_of_a_list_is_in_use") {
        return;
    }
    let (free, used) = (Loop::new(16 * MIB, 512), formatted(512));
    let dir = tempfile::tempdir().unwrap();
    let _mount = sys::mount::Mount::device(used.partition(2).as_ref(), "ext4", dir.path()).unwrap();
    let done = wipe(&format!("{},{}", free.path(), used.path()), "metadata");
    assert_eq!(done.failure().code, "disk_busy");
    assert!(done.failure().message.contains("is mounted at"), "{done:?}");
    free.assert_untouched();
}

#[test]
fn a_killed_wipe_never_leaves_a_table_over_wiped_partitions() {
    if !root("a_killed_wipe_never_leaves_a_table_over_wiped_partitions") {
        return;
    }
    let disk = Loop::new(96 * MIB, 512);
    wipe(disk.path(), "metadata").ok();
    let entries: Vec<_> = (0..40).map(|n| format!(r#"{{"label":"p{n}","size":"2MiB","type":"linux"}}"#)).collect();
    partition(&disk, &format!("[{}]", entries.join(","))).ok();
    disk.file.write_all_at(&vec![7; 90 * MIB], MIB as u64).unwrap();
    let before = disk.bytes();
    let env = [("DISK", disk.path()), ("WAIT_DEVICE_SECONDS", "0")];
    let (mut at_work, mut late) = (0, 0);
    let begun = Instant::now();
    wipe(disk.path(), "metadata").ok();
    for after in instants(begun.elapsed()).take(60) {
        // As before the wipe, for the kernel too.
        disk.file.write_all_at(&before, 0).unwrap();
        tool("blockdev", &["--flushbufs", disk.path()]);
        tool("partx", &["--update", disk.path()]);
        late += usize::from(killed("disk-wipe", &env, after));
        let bytes = disk.bytes();
        let is_wiped = bytes[MIB..90 * MIB] != before[MIB..90 * MIB];
        let has_table = bytes[..MIB].iter().any(|b| *b != 0);
        assert!(!(is_wiped && has_table), "a table over partitions that are gone, after {after:?}");
        at_work += usize::from(is_wiped && bytes[80 * MIB..81 * MIB] == before[80 * MIB..81 * MIB]);
    }
    println!("{at_work} killed between the first and the last partition, {late} after the end");
    assert!(at_work > 0, "no run was killed at work");
    // Power was lost after the head, and the kernel that comes up sees no partition: their signatures go all the same.
    disk.file.write_all_at(&before, 0).unwrap();
    disk.file.write_all_at(&vec![0; MIB], 0).unwrap();
    tool("blockdev", &["--flushbufs", disk.path()]);
    tool("blockdev", &["--rereadpt", disk.path()]);
    assert!(!std::path::Path::new(&disk.partition(1)).exists(), "the kernel still shows partitions");
    wipe(disk.path(), "metadata").ok();
    disk.assert_blank_ends();
    let bytes = disk.bytes();
    for start in (0..40).map(|n| (1 + 2 * n) * MIB) {
        assert!(
            bytes[start..start + 2 * MIB].iter().all(|b| *b == 0),
            "the partition at {start} still holds something"
        );
    }
}

#[test]
fn partitions_are_added_to_a_disk_in_use_only_with_force_and_never_to_an_excluded_one() {
    let name = "partitions_are_added_to_a_disk_in_use_only_with_force_and_never_to_an_excluded_one";
    if !root(name) {
        return;
    }
    let disk = Loop::new(64 * MIB, 512);
    wipe(disk.path(), "metadata").ok();
    partition(&disk, r#"[{"label":"a","size":"20MiB","type":"linux"}]"#).ok();
    tool("mkfs.ext4", &["-q", "-F", &disk.partition(1)]);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    tool("mount", &[&disk.partition(1), place]);
    let list = r#"[{"label":"b","size":"rest","type":"linux"}]"#;
    let add = |more: &[(&str, &str)]| {
        let base = [("DEST_DISK", disk.path()), ("PARTITIONS", list), ("WAIT_DEVICE_SECONDS", "0")];
        run("disk-partition", &base.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let is_mounted = || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(place);
    assert_eq!(add(&[]).failure().code, "disk_busy");
    let failure = add(&[("FORCE", "true"), ("EXCLUDE", disk.path())]).failure().clone();
    assert!(failure.message.contains("it is excluded"), "{failure:?}");
    let plan = add(&[("FORCE", "true"), ("DRY_RUN", "true")]);
    assert!(plan.ok().log.contains(&format!("plan: unmount {place}")), "{}", plan.log);
    assert!(plan.log.contains("plan: add partition 2 \"b\""), "{}", plan.log);
    assert!(is_mounted() && fs::metadata(disk.partition(2)).is_err());
    let done = add(&[("FORCE", "true")]);
    assert!(done.ok().log.contains(&format!("done: unmount {place}")), "{}", done.log);
    assert!(!is_mounted() && fs::metadata(disk.partition(2)).is_ok());
    disk.assert_table_is_clean();
    tool("e2fsck", &["-f", "-n", &disk.partition(1)]);
}

#[test]
fn a_path_to_a_file_is_never_a_disk() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "precious").unwrap();
    let done = wipe(file.path().to_str().unwrap(), "zero");
    assert_eq!(done.failure().code, "disk_not_found");
    assert_eq!(fs::read(file.path()).unwrap(), b"precious");
}

#[test]
fn partitions_are_added_once_and_clean() {
    if !root("partitions_are_added_once_and_clean") {
        return;
    }
    for sector in [512, 4096] {
        let disk = Loop::new(64 * MIB, sector);
        wipe(disk.path(), "metadata").ok();
        let list = r#"[{"label":"esp","size":"8MiB","type":"esp","number":15},{"label":"root","size":"50%","type":"linux"},
            {"label":"swap","size":"rest","type":"swap"}]"#;
        let first = partition(&disk, list);
        assert!(first.ok().log.contains("make a GPT"), "{first:?}");
        disk.assert_table_is_clean();
        let before = disk.bytes();
        let second = partition(&disk, list);
        assert_eq!(second.ok().log.matches("plan: keep").count(), 3, "{second:?}");
        assert!(disk.bytes() == before, "the second run changed the disk");
        for number in [1, 2, 15] {
            assert!(fs::metadata(disk.partition(number)).is_ok(), "no partition {number}");
        }
        let other = partition(&disk, r#"[{"label":"root","size":"20%","type":"linux"}]"#);
        assert_eq!(other.failure().code, "partition_table");
        assert!(disk.bytes() == before, "a refused run changed the disk");
    }
}

#[test]
fn a_disk_that_holds_something_gets_no_table() {
    if !root("a_disk_that_holds_something_gets_no_table") {
        return;
    }
    let disk = Loop::new(64 * MIB, 512);
    let list = r#"[{"label":"data","size":"rest","type":"linux"}]"#;
    let refused = |what: &str| {
        let before = disk.bytes();
        let done = partition(&disk, list);
        assert_eq!(done.failure().code, "partition_table");
        let text = format!("{} holds {what}, wipe it first (disk-wipe)", disk.path());
        assert_eq!(done.failure().message, text);
        assert!(disk.bytes() == before, "a refused run changed the disk");
    };
    refused("something unknown at its start");
    // Its old table's backup is still at the end of the disk.
    let image = image(64 * MIB, 512);
    disk.file.write_all_at(&image, 0).unwrap();
    disk.file.write_all_at(&[0; MIB], 0).unwrap();
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    refused("a file system (ext4)");
    wipe(disk.path(), "metadata").ok();
    let mut mbr = [0; 512];
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 8, 0, 0]);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.file.write_all_at(&mbr, 0).unwrap();
    refused("a DOS partition table");
    mbr[446..462].fill(0);
    disk.file.write_all_at(&mbr, 0).unwrap();
    partition(&disk, list).ok();
    disk.assert_table_is_clean();
}

#[test]
fn a_partition_gets_no_table() {
    if !root("a_partition_gets_no_table") {
        return;
    }
    let disk = formatted(512);
    let before = disk.bytes();
    let list = r#"[{"label":"data","size":"rest","type":"linux"}]"#;
    let done = run("disk-partition", &[("DEST_DISK", &disk.partition(1)), ("PARTITIONS", list)]);
    assert_eq!(done.failure().code, "bad_input");
    assert!(done.failure().message.contains("name the whole disk"), "{done:?}");
    assert!(disk.bytes() == before, "a refused run changed the disk");
}

#[test]
fn what_an_image_brought_is_kept_and_the_backup_is_put_right() {
    if !root("what_an_image_brought_is_kept_and_the_backup_is_put_right") {
        return;
    }
    let image = image(16 * MIB, 512);
    let disk = Loop::new(64 * MIB, 512);
    disk.file.write_all_at(&image, 0).unwrap();
    let done = partition(&disk, r#"[{"label":"data","size":"rest","type":"linux"}]"#);
    done.ok();
    disk.assert_table_is_clean();
    assert!(disk.bytes()[MIB..15 * MIB] == image[MIB..15 * MIB], "partitions of the image were written to");
    for number in [1, 2, 15] {
        assert!(fs::metadata(disk.partition(number)).is_ok(), "no partition {number}: {done:?}");
    }
}

#[test]
fn in_a_container_of_its_own_the_nodes_are_made() {
    if !root("in_a_container_of_its_own_the_nodes_are_made") {
        return;
    }
    let disk = Loop::new(64 * MIB, 512);
    wipe(disk.path(), "metadata").ok();
    // A /dev as a container has it: the standard devices and no disk.
    let script = r#"set -e
        mount -t tmpfs none /dev
        for node in null:3 zero:5 random:8 urandom:9; do mknod /dev/${node%:*} c 1 ${node#*:}; done
        export DEST_DISK=$TARGET WAIT_DEVICE_SECONDS=5
        for run in 1 2; do
            PARTITIONS='[{"label":"a","size":"20MiB","type":"linux"}]' $PROGRAM disk-partition
            PARTITIONS='[{"label":"a","size":"20MiB","type":"linux"},{"label":"b","size":"rest","type":"linux"}]' \
                $PROGRAM disk-partition
            mkfs.ext4 -q -F ${TARGET}p2
            DEST_DISK=${TARGET}p2 DEST_PATH=/etc/x CONTENTS=y $PROGRAM file-write
            $PROGRAM disk-wipe
        done"#;
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .envs([("PROGRAM", env!("CARGO_BIN_EXE_ironhook-actions")), ("TARGET", disk.path())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
