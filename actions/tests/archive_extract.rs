//! `archive-extract` as a program: archives from a web server and images from a real registry into file systems on loop
//! devices.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Also in what the tests share.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::server::{Faults, serve};
use common::{Loop, MIB, Run, root, run, sha256, tool};
use sys::mount::Mount;
use sys::tree::{Tree, xattr};

/// An ext4 on a whole loop device.
fn formatted(sector: u32) -> Loop {
    let disk = Loop::new(64 * MIB, sector);
    tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    disk
}

fn mounted<T>(disk: &Loop, look: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let mount = Mount::device(disk.path.as_ref(), "ext4", dir.path()).unwrap();
    let seen = look(dir.path());
    mount.unmount().unwrap();
    seen
}

fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A small root file system, as a tar.
fn rootfs(dir: &Path) -> Vec<u8> {
    let from = dir.join("from");
    fs::create_dir_all(from.join("usr/bin")).unwrap();
    fs::create_dir_all(from.join("etc")).unwrap();
    fs::write(from.join("usr/bin/ping"), vec![7; 100_000]).unwrap();
    fs::write(from.join("etc/hostname"), "machine\n").unwrap();
    symlink("usr/bin", from.join("bin")).unwrap();
    let mut tree = Tree::open(&from).unwrap();
    tree.set_owner(Path::new("etc/hostname"), 12, 34).unwrap();
    tree.set_mode(Path::new("etc/hostname"), 0o640).unwrap();
    tree.set_time(Path::new("etc/hostname"), (1_234_567_890, 0)).unwrap();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tree.set_xattr(Path::new("usr/bin/ping"), b"security.capability", &capability).unwrap();
    let tar = dir.join("x.tar");
    let args = ["--xattrs", "--xattrs-include=*", "-cf", tar.to_str().unwrap(), "-C", from.to_str().unwrap(), "."];
    tool("tar", &args);
    fs::read(tar).unwrap()
}

#[track_caller]
fn assert_extracted(at: &Path) {
    assert_eq!(fs::read(at.join("usr/bin/ping")).unwrap(), vec![7; 100_000]);
    let meta = fs::metadata(at.join("etc/hostname")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.mtime()), (12, 34, 0o640, 1_234_567_890));
    assert_eq!(fs::read_link(at.join("bin")).unwrap(), Path::new("usr/bin"));
    assert!(xattr(&at.join("usr/bin/ping"), "security.capability").unwrap().is_some(), "the capability is lost");
}

fn extract(action: &str, disk: &Loop, url: &str, more: &[(&str, &str)]) -> Run {
    let mut env = vec![("ARCHIVE_URL", url), ("DEST_DISK", disk.path()), ("WAIT_DEVICE_SECONDS", "0")];
    env.extend(more);
    run(action, &env)
}

fn packed(bytes: &[u8], tool: &str, dir: &Path) -> Vec<u8> {
    let path = dir.join("packed");
    fs::write(&path, bytes).unwrap();
    let output = Command::new(tool).arg("-c").arg(&path).output().unwrap();
    assert!(output.status.success(), "{tool}");
    output.stdout
}

#[test]
fn every_packing_arrives_with_owners_times_and_capabilities_on_both_sector_sizes() {
    if !root("every_packing_arrives_with_owners_times_and_capabilities_on_both_sector_sizes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tar = rootfs(dir.path());
    let sum = sha256(&tar);
    for (tool, sector, kind) in [
        ("cat", 512, "TAR"),
        ("gzip", 4096, "targz"),
        ("zstd", 512, "tar.zst"),
        ("xz", 4096, "tarxz"),
        ("bzip2", 512, ""),
    ] {
        let disk = formatted(sector);
        let file = if tool == "cat" { tar.clone() } else { packed(&tar, tool, dir.path()) };
        let published = sha256(&file);
        let url = serve(file, Faults::default());
        let more = [("TARFILE_CHECKSUM", &*sum), ("ARCHIVE_CHECKSUM", &*published), ("ARCHIVE_TYPE", kind)];
        let done = extract("archive2disk", &disk, &url, &more);
        assert!(done.ok().log.contains("extracted: "), "{done:?}");
        mounted(&disk, assert_extracted);
        // The same again is the same.
        extract("archive-extract", &disk, &url, &more).ok();
        mounted(&disk, assert_extracted);
    }
}

#[test]
fn a_digest_up_to_the_end_mark_is_right_too_and_a_wrong_one_leaves_nothing() {
    if !root("a_digest_up_to_the_end_mark_is_right_too_and_a_wrong_one_leaves_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut tar = rootfs(dir.path());
    tar.resize(tar.len() + 5120, 0);
    let end = tar.iter().rposition(|b| *b != 0).unwrap().next_multiple_of(512) + 1024;
    let disk = formatted(512);
    let url = serve(tar.clone(), Faults::default());
    extract("archive2disk", &disk, &url, &[("TARFILE_CHECKSUM", &sha256(&tar[..end]))]).ok();
    mounted(&disk, assert_extracted);
    let wrong = sha256(b"something else");
    for name in ["TARFILE_CHECKSUM", "ARCHIVE_CHECKSUM"] {
        let disk = formatted(512);
        let done = extract("archive2disk", &disk, &url, &[(name, &wrong)]);
        assert_eq!(done.failure().code, "digest_mismatch");
        assert!(done.failure().message.contains(&wrong), "{done:?}");
        assert_eq!(mounted(&disk, names), ["lost+found"], "{name}");
    }
}

#[test]
fn what_does_not_arrive_whole_is_a_failure_and_leaves_nothing() {
    if !root("what_does_not_arrive_whole_is_a_failure_and_leaves_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tar = rootfs(dir.path());
    let waived = [("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true"), ("HTTP_CLIENT_TIMEOUT_MINUTES", "0")];
    let gzip = packed(&tar, "gzip", dir.path());
    let mut corrupt = gzip.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0x55;
    let cut = |bytes: &[u8]| bytes[..bytes.len() * 2 / 3].to_vec();
    let cases = [
        (cut(&tar), Faults::default(), "truncated"),
        (cut(&gzip), Faults::default(), "decode"),
        (cut(&packed(&tar, "xz", dir.path())), Faults::default(), "decode"),
        (cut(&packed(&tar, "zstd", dir.path())), Faults::default(), "decode"),
        (corrupt, Faults::default(), "decode"),
        (tar.clone(), Faults { cut: Some(40_000), no_tag: true, ..Faults::default() }, "truncated"),
        (tar.clone(), Faults { cut: Some(40_000), no_tag: true, no_length: true, ..Faults::default() }, "truncated"),
        (tar, Faults { status: Some("404 Not Found"), ..Faults::default() }, "fetch"),
        (b"<html>no such page</html>".repeat(100), Faults::default(), "decode"),
    ];
    for (n, (file, faults, code)) in cases.into_iter().enumerate() {
        let disk = formatted(512);
        let done = extract("archive-extract", &disk, &serve(file, faults), &waived);
        assert_eq!(done.failure().code, code, "case {n}: {done:?}");
        assert_eq!(mounted(&disk, names), ["lost+found"], "case {n}");
    }
}

#[test]
fn a_transfer_that_breaks_is_taken_up_again() {
    if !root("a_transfer_that_breaks_is_taken_up_again") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tar = rootfs(dir.path());
    let disk = formatted(512);
    let sum = sha256(&tar);
    let url = serve(tar, Faults { cut: Some(50_000), ..Faults::default() });
    extract("archive-extract", &disk, &url, &[("TARFILE_CHECKSUM", &sum)]).ok();
    mounted(&disk, assert_extracted);
}

#[test]
fn an_archive_is_fetched_as_an_image_is() {
    if !root("an_archive_is_fetched_as_an_image_is") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("from/var")).unwrap();
    let large: Vec<u8> = (0..6 * MIB).map(|n| ((n * 31) >> 9) as u8).collect();
    fs::write(dir.path().join("from/var/large"), &large).unwrap();
    let tar = rootfs(dir.path());
    let sum = sha256(&tar);
    let disk = formatted(512);
    let gone = serve(Vec::new(), Faults { status: Some("404 Not Found"), ..Faults::default() });
    let busy = serve(Vec::new(), Faults { status: Some("503 Busy"), ..Faults::default() });
    let failure = extract("archive-extract", &disk, &busy, &[("TARFILE_CHECKSUM", &sum), ("RETRIES", "1")]);
    assert!(failure.failure().one_line().contains("503"), "{failure:?}");
    let failure = extract("archive-extract", &disk, "/x.tar", &[("TARFILE_CHECKSUM", &sum), ("MIRRORS", &gone)]);
    assert!(failure.failure().message.contains("MIRRORS are for a file of a web server"), "{failure:?}");
    let mirror = serve(tar, Faults::default());
    let more = [("TARFILE_CHECKSUM", sum.as_str()), ("MIRRORS", &mirror), ("FETCH_STREAMS", "4")];
    extract("archive-extract", &disk, &gone, &more).ok();
    mounted(&disk, |at| {
        assert_extracted(at);
        assert!(fs::read(at.join("var/large")).unwrap() == large, "other bytes");
    });
}

#[test]
fn several_file_systems_make_one_tree() {
    if !root("several_file_systems_make_one_tree") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tar = rootfs(dir.path());
    let (disk, etc) = (formatted(512), formatted(4096));
    let url = serve(tar.clone(), Faults::default());
    let list = format!(
        r#"[{{"disk":"{}","path":"/srv/etc"}},{{"disk":"{}","path":"/","fs_type":"ext4"}}]"#,
        etc.path(),
        disk.path()
    );
    let sum = sha256(&tar);
    let env = [("ARCHIVE_URL", &*url), ("MOUNTS", &list), ("DEST_PATH", "/srv"), ("TARFILE_CHECKSUM", &sum)];
    let done = run("archive-extract", &env);
    done.ok();
    mounted(&disk, |at| {
        assert!(at.join("srv/usr/bin/ping").exists(), "{done:?}");
        assert_eq!(names(&at.join("srv/etc")), [""; 0]);
    });
    assert_eq!(mounted(&etc, names), ["hostname", "lost+found"]);
}

#[test]
fn what_was_there_before_a_failure_stays() {
    if !root("what_was_there_before_a_failure_stays") {
        return;
    }
    let disk = formatted(512);
    mounted(&disk, |at| fs::write(at.join("mine"), "precious").unwrap());
    let url = serve(b"no tar at all, but long enough for a header".repeat(50), Faults::default());
    let done = extract("archive-extract", &disk, &url, &[("ARCHIVE_CHECKSUM", "none")]);
    assert_eq!(done.failure().code, "decode");
    assert_eq!(mounted(&disk, names), ["lost+found", "mine"]);
}

#[test]
fn an_empty_archive_is_a_failure_and_a_dry_run_changes_nothing() {
    if !root("an_empty_archive_is_a_failure_and_a_dry_run_changes_nothing") {
        return;
    }
    let disk = formatted(512);
    let url = serve(vec![0; 10240], Faults::default());
    let done = extract("archive-extract", &disk, &url, &[("ARCHIVE_CHECKSUM", "none")]);
    assert!(done.failure().message.contains("nothing in it"), "{done:?}");
    let dir = tempfile::tempdir().unwrap();
    let url = serve(rootfs(dir.path()), Faults::default());
    let before = disk.bytes();
    let report = dir.path().join("report.json");
    let more = [("ARCHIVE_CHECKSUM", "none"), ("DRY_RUN", "true"), ("REPORT_PATH", report.to_str().unwrap())];
    let done = extract("archive-extract", &disk, &url, &more);
    assert!(done.ok().log.contains("plan: extract "), "{done:?}");
    assert!(disk.bytes() == before, "a dry run changed the disk");
    let result: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!((&result["v"], &result["outcome"]), (&1.into(), &"succeeded".into()));
    assert!(result["plan"][0].as_str().unwrap().starts_with("extract http://"), "{result}");
}

/// Debian's registry, on loopback, in memory of a directory.
struct Registry {
    process: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:0}}\nlog: {{level: info}}\n",
            dir.path().join("data").display()
        );
        fs::write(&config, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry; make deps installs it");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.by_ref().find(|line| line.contains("listening on ")).expect("docker-registry ended");
        let host = line.split("listening on ").nth(1).unwrap().split(['"', ' ', ',']).next().unwrap().to_owned();
        // It must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host, _dir: dir }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn blob(layout: &Path, bytes: &[u8]) -> (String, usize) {
    let digest = sha256(bytes);
    fs::write(layout.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
    (digest, bytes.len())
}

/// An image of these layers, in a registry.
fn publish(registry: &Registry, dir: &Path, name: &str, layers: &[(&[u8], &str)]) -> String {
    let layout = dir.join(name);
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let descriptor = |kind: &str, (digest, size): (String, usize)| serde_json::json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size });
    let layers: Vec<_> =
        layers.iter().map(|(bytes, kind)| descriptor(&format!("layer.v1.{kind}"), blob(&layout, bytes))).collect();
    let config =
        serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = descriptor("config.v1+json", blob(&layout, config.to_string().as_bytes()));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
    let mut manifest = descriptor("manifest.v1+json", blob(&layout, manifest.to_string().as_bytes()));
    manifest["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "1" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let reference = format!("{}/{name}:1", registry.host);
    let from = format!("oci:{}:1", layout.display());
    let to = format!("docker://{reference}");
    tool("skopeo", &["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", &from, &to]);
    reference
}

#[test]
fn a_container_image_becomes_a_root_file_system() {
    if !root("a_container_image_becomes_a_root_file_system") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lower = rootfs(dir.path());
    let upper = dir.path().join("upper");
    fs::create_dir_all(upper.join("etc")).unwrap();
    fs::write(upper.join("etc/.wh.hostname"), "").unwrap();
    fs::write(upper.join("etc/os-release"), "ID=x\n").unwrap();
    let tar = dir.path().join("upper.tar");
    tool("tar", &["-cf", tar.to_str().unwrap(), "-C", upper.to_str().unwrap(), "etc"]);
    let mut bytes = Vec::new();
    fs::File::open(&tar).unwrap().read_to_end(&mut bytes).unwrap();
    let (gzip, zstd) = (packed(&lower, "gzip", dir.path()), packed(&bytes, "zstd", dir.path()));
    let registry = Registry::start();
    let reference = publish(&registry, dir.path(), "root", &[(&gzip, "tar+gzip"), (&zstd, "tar+zstd")]);
    let disk = formatted(512);
    let oci = |reference: &str| {
        let env = [("OCI_IMAGE", reference), ("DEST_DISK", disk.path()), ("PLAIN_HTTP", "true")];
        run("archive-extract", &env)
    };
    let done = oci(&reference);
    done.ok();
    mounted(&disk, |at| {
        assert_eq!(names(&at.join("etc")), ["os-release"], "{done:?}");
        assert!(xattr(&at.join("usr/bin/ping"), "security.capability").unwrap().is_some());
    });
    let nothing = vec![0; 10240];
    let empty = publish(&registry, dir.path(), "empty", &[(&nothing, "tar")]);
    assert!(oci(&empty).failure().message.contains("nothing in it"));
    let missing = format!("{}/none:1", registry.host);
    assert_eq!(oci(&missing).failure().code, "fetch");
}
