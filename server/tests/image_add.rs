//! `ironhook image add` to the end: any image becomes a published one, the running server serves it, `image-write` reads it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Server, text};
use sha2::{Digest, Sha256};

/// Of another package, so the workspace has to be built.
fn actions() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_ironhook")).with_file_name("ironhook-actions");
    assert!(path.exists(), "{} is not there: cargo build -p actions", path.display());
    path
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn add(file: &Path, files: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ironhook"));
    command.args(["image", "add", "--files"]).arg(files).args(more).arg(file).output().unwrap()
}

/// Noise here and there, nothing between.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; 40 << 20];
    let mut state = 1u64;
    for byte in bytes[2 << 20..11 << 20].iter_mut() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *byte = (state >> 59) as u8;
    }
    bytes[39 << 20..].fill(9);
    bytes
}

fn run(tool: &str, args: &[&Path]) -> Vec<u8> {
    let output = Command::new(tool).args(args).output().unwrap();
    assert!(output.status.success(), "{tool}: {}", text(&output.stderr));
    output.stdout
}

#[test]
fn any_image_is_published_under_its_digest_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let files = dir.path().join("files");
    let content = content();
    let raw = dir.path().join("disk.raw");
    fs::write(&raw, &content).unwrap();
    let packed = |tool: &str, name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, run(tool, &[Path::new("-c"), &raw])).unwrap();
        path
    };
    let qcow2 = dir.path().join("disk.qcow2");
    run("qemu-img", &["convert", "-O", "qcow2"].map(Path::new).into_iter().chain([&*raw, &*qcow2]).collect::<Vec<_>>());
    let sources = [raw.clone(), packed("gzip", "disk.gz"), packed("xz", "disk.xz"), qcow2];
    let mut names = Vec::new();
    for source in sources {
        let output = add(
            &source,
            &files,
            &["--json", "--name", "current.img", "--base", &format!("{}/files", server.url("http"))],
        );
        assert!(output.status.success(), "{}: {}", source.display(), text(&output.stderr));
        let added: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(added["contentSha256"], sha256(&content), "{}", source.display());
        let path = PathBuf::from(added["path"].as_str().unwrap());
        assert_eq!(added["sha256"], sha256(&fs::read(&path).unwrap()));
        assert!(path.with_file_name(format!("{}.bmap", path.file_name().unwrap().display())).exists());
        assert_eq!(fs::read_link(files.join("current.img")).unwrap().as_os_str(), path.file_name().unwrap());
        // Another implementation reads it.
        assert!(run("zstd", &[Path::new("-dc"), &path]) == content, "{}", source.display());
        names.push((added["url"].as_str().unwrap().to_owned(), added["sha256"].as_str().unwrap().to_owned()));
    }
    names.dedup();
    assert_eq!(names.len(), 1, "the same content is the same file");
    write_back(&names[0], &content, dir.path());
    // Nothing but the image, its map and their names is left.
    assert_eq!(fs::read_dir(&files).unwrap().count(), 4);
}

/// Through the server onto a disk, where there can be one.
fn write_back((url, sum): &(String, String), content: &[u8], dir: &Path) {
    let disk = dir.join("target");
    fs::File::create(&disk).unwrap().set_len(content.len() as u64).unwrap();
    let made = Command::new("losetup").args(["--find", "--show"]).arg(&disk).output();
    let device = match made {
        Ok(output) if output.status.success() => text(&output.stdout).trim().to_owned(),
        _ => {
            // Around the capture of the test harness: a skip is always seen.
            use std::io::Write;
            let name = "any_image_is_published_under_its_digest_and_comes_back";
            let _ = writeln!(std::io::stderr(), "SKIP {name}: needs root and loop devices");
            return;
        }
    };
    let output = Command::new(actions())
        .arg("image-write")
        .env_clear()
        .envs([("IMG_URL", url.as_str()), ("IMG_CHECKSUM", sum), ("DEST_DISK", &device), ("VERIFY", "full")])
        .output()
        .unwrap();
    let detached = Command::new("losetup").args(["--detach", &device]).status().unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(detached.success());
    assert!(fs::read(&disk).unwrap() == content, "other bytes came back");
}

#[test]
fn what_is_no_whole_image_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    actions();
    let raw = dir.path().join("disk.raw");
    fs::write(&raw, content()).unwrap();
    let gzip = run("gzip", &[Path::new("-c"), &raw]);
    for (name, bytes, why) in [
        ("cut.gz", &gzip[..gzip.len() / 2], "damaged or incomplete"),
        ("empty.img", b"", "empty"),
        ("tar.img", &tar(), "a tar archive"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = add(&path, &files, &[]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).contains(why), "{name}: {}", text(&output.stderr));
        assert_eq!(fs::read_dir(&files).unwrap().count(), 0, "{name} left something");
    }
    let output = add(&raw, &files, &["--encoder", "/no/such/program"]);
    assert!(text(&output.stderr).contains("cannot run /no/such/program (see --encoder)"), "{}", text(&output.stderr));
    let output = add(&raw, &files, &["--name", "../up"]);
    assert_eq!(output.status.code(), Some(2));
}

fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 10240];
    bytes[257..263].copy_from_slice(b"ustar\0");
    bytes
}
