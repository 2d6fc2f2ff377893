//! `file-write` into real file systems on loop devices.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use common::{Loop, MIB, root, run, tool};
use sys::mount::Mount;

#[test]
fn files_arrive_with_owner_and_mode_and_stay_inside() {
    if !root("files_arrive_with_owner_and_mode_and_stay_inside") {
        return;
    }
    let disk = Loop::new(32 * MIB, 512);
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    {
        let mount = Mount::device(&disk.path, "ext4", dir.path()).unwrap();
        symlink(outside.path(), mount.at().join("etc")).unwrap();
        fs::create_dir_all(mount.at().join(outside.path().strip_prefix("/").unwrap())).unwrap();
    }
    let list = r#"[{"path":"/var/lib/x","contents":"second","mode":"4711","uid":12,"gid":34}]"#;
    let done = run(
        "writefile",
        &[
            ("DEST_DISK", disk.path()),
            ("FS_TYPE", "ext4"),
            ("DEST_PATH", "/etc/netplan/50.yaml"),
            ("CONTENTS", "network:\n  version: 2\n"),
            ("UID", "0"),
            ("GID", "0"),
            ("MODE", "0600"),
            ("DIRMODE", "0700"),
            ("FILES", list),
        ],
    );
    done.ok();
    assert!(!done.log.contains("version: 2"), "contents may be secret: {}", done.log);
    let _mount = Mount::device(&disk.path, "ext4", dir.path()).unwrap();
    let inside = dir.path().join(outside.path().strip_prefix("/").unwrap());
    let file = inside.join("netplan/50.yaml");
    assert_eq!(fs::read_to_string(&file).unwrap(), "network:\n  version: 2\n");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(inside.join("netplan")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "a file escaped");
    let second = fs::metadata(dir.path().join("var/lib/x")).unwrap();
    assert_eq!((second.mode() & 0o7777, second.uid(), second.gid()), (0o4711, 12, 34));
}

#[test]
fn the_file_system_is_recognised_and_nothing_stays_mounted() {
    if !root("the_file_system_is_recognised_and_nothing_stays_mounted") {
        return;
    }
    let disk = Loop::new(32 * MIB, 512);
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    let env = [("BLOCK_DEVICE", disk.path()), ("DEST_PATH", "/a"), ("CONTENTS", "x")];
    let done = run("file-write", &env);
    assert!(done.ok().log.contains("(ext4)"), "{done:?}");
    run("file-write", &env).ok();
    let mounts = sys::mount::list().unwrap();
    assert!(mounts.iter().all(|m| m.source != disk.path()), "{mounts:?}");
}

#[test]
fn what_cannot_be_mounted_is_named() {
    if !root("what_cannot_be_mounted_is_named") {
        return;
    }
    let disk = Loop::new(32 * MIB, 512);
    let env = [("DEST_DISK", disk.path()), ("DEST_PATH", "/a"), ("WAIT_DEVICE_SECONDS", "0")];
    let done = run("file-write", &env);
    assert_eq!(done.failure().code, "mount");
    assert!(done.failure().message.contains("no file system"), "{done:?}");
    let wrong: Vec<_> = env.iter().copied().chain([("FS_TYPE", "ext4")]).collect();
    assert_eq!(run("file-write", &wrong).failure().code, "mount");
    disk.assert_untouched();
}
