//! Drives the built program from component descriptions to an initramfs, without packages and network.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

const KERNEL: &str = "\
images: [{reference: test/kernel:1}]
files:
  - {path: /kernel, contents: vmlinuz}
  - {path: /kernel.tar, source: modules.tar}
";
const INIT: &str = "\
images: [{reference: test/init:1}]
files:
  - {path: /init, mode: \"0755\", contents: program}
  - {path: /lib, symlink: usr/lib}
";
const STEP: &str = "\
images:
  - reference: test/step:1
    entrypoint: [/step]
    labels: {org.mobyproject.config: '{\"net\": \"host\"}'}
files: [{path: /step, mode: \"0755\", contents: program}]
";
const IMAGE: &str = "\
kernel: {image: test/kernel:1}
init: [test/init:1]
onboot: [{name: step, image: test/step:1}]
services: [{name: again, image: test/step:1, command: [/step, again]}]
files: [{path: etc/site, contents: here}]
";

struct Site {
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { directory: tempfile::tempdir().unwrap() };
        let mut modules = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        modules.append_data(&mut header, "usr/lib/modules/6/modules.dep", &b"x:"[..]).unwrap();
        for (name, text) in [("kernel", KERNEL), ("init", INIT), ("step", STEP)] {
            site.write(&format!("components/{name}/component.yaml"), text);
        }
        fs::write(site.path().join("components/kernel/modules.tar"), modules.into_inner().unwrap()).unwrap();
        site.write("debs.lock", "");
        site.write("image.yaml", IMAGE);
        site
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::cargo_bin("ironhook-image").unwrap().current_dir(self.path()).args(arguments).output().unwrap()
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn components(&self) -> String {
        let folders = ["components/kernel", "components/init", "components/step"];
        self.succeed(&[&["component", "--lock", "debs.lock"][..], &folders].concat())
    }

    fn initramfs(&self, out: &str) -> Vec<u8> {
        fs::read(self.path().join(out).join("initramfs-x86_64")).unwrap()
    }
}

#[test]
fn two_builds_from_two_caches_are_the_same_bytes() {
    let (one, two) = (Site::new(), Site::new());
    for site in [&one, &two] {
        site.components();
        site.succeed(&["build", "image.yaml"]);
    }
    assert_eq!(one.initramfs("out"), two.initramfs("out"));
    assert_eq!(fs::read(one.path().join("out/vmlinuz-x86_64")).unwrap(), b"vmlinuz");
}

#[test]
fn the_tree_is_linuxkits_and_the_marker_counts_it() {
    let site = Site::new();
    site.components();
    site.succeed(&["build", "image.yaml"]);
    let archive = zstd::decode_all(&site.initramfs("out")[..]).unwrap();
    let (mut rest, mut names, mut marker) = (&archive[..], Vec::new(), String::new());
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        names.push(reader.entry().name().to_owned());
        marker.clear();
        if names.last().unwrap() == "etc/ironhook/end" {
            std::io::Read::read_to_string(&mut reader, &mut marker).unwrap();
        }
        rest = reader.finish().unwrap();
    }
    for path in [
        "init",
        "usr/lib/modules/6/modules.dep",
        "etc/site",
        "etc/resolv.conf",
        "containers/onboot/000-step/config.json",
        "containers/onboot/000-step/lower/step",
        "containers/services/again/runtime.json",
    ] {
        assert!(names.iter().any(|name| name == path), "{path} is missing");
    }
    assert!(!names.iter().any(|name| name == "containers/services/again/lower"), "the image is stored twice");
    assert_eq!(marker, format!("{}\n", names.len() - 1));
}

#[test]
fn only_changed_components_are_made_again() {
    let site = Site::new();
    assert_eq!(site.components().matches(" built ").count(), 3);
    assert_eq!(site.components().matches(" unchanged ").count(), 3);
    site.write("components/init/component.yaml", &INIT.replace("program", "another"));
    let told = site.components();
    assert!(told.contains("component init built") && told.matches(" unchanged ").count() == 2, "{told}");
}

#[test]
fn an_unknown_key_is_told_with_file_and_line_and_nothing_is_written() {
    let site = Site::new();
    site.components();
    site.write("image.yaml", &IMAGE.replace("files:", "fils:"));
    let error = site.fail(&["build", "image.yaml"]);
    assert!(error.contains("image.yaml:5: ") && error.contains("fils"), "{error}");
    site.write("components/step/component.yaml", &STEP.replace("files:", "flies:"));
    let error = site.fail(&["component", "--lock", "debs.lock", "components/step"]);
    assert!(error.contains("components/step/component.yaml:5: ") && error.contains("flies"), "{error}");
    assert!(!site.path().join("out/initramfs-x86_64").exists());
}

#[test]
fn what_is_missing_or_clashes_is_named() {
    let site = Site::new();
    site.components();
    for (from, to, expected) in [
        ("init: [test/init:1]", "init: [test/step:1]", "(test/step:1) has a program /init"),
        (
            "init: [test/init:1]",
            "init: [test/gone:1]",
            "no image `docker.io/test/gone:1`; it holds docker.io/test/init:1",
        ),
        (
            "{path: etc/site, contents: here}",
            "{path: lib/x, contents: here}",
            "`lib` is a symbolic link, not a directory",
        ),
        ("{path: etc/site, contents: here}", "{path: etc/site}", "files entry `etc/site`: needs exactly one of"),
        ("name: again", "name: a/b", "`a/b` in `services` is no name of letters"),
        ("command: [/step, again]", "binds: [/x]", "container `again`, key `binds`: `/x` is not"),
    ] {
        assert!(IMAGE.contains(from));
        site.write("image.yaml", &IMAGE.replace(from, to));
        let error = site.fail(&["build", "image.yaml"]);
        assert!(error.contains(expected), "{error}");
        assert!(!site.path().join("out/initramfs-x86_64").exists(), "{expected}");
    }
}

#[test]
fn an_image_for_another_machine_is_refused() {
    let site = Site::new();
    site.components();
    // The same layout, its platforms changed, as a builder for another machine would leave it.
    let blobs = site.path().join("out/cache/oci/blobs/sha256");
    let index = fs::read_to_string(site.path().join("out/cache/oci/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let nested =
        fs::read_to_string(blobs.join(digest.trim_start_matches("sha256:"))).unwrap().replace("amd64", "arm64");
    let hex = sha256(nested.as_bytes());
    fs::write(blobs.join(&hex), &nested).unwrap();
    let changed = serde_json::to_string(&index).unwrap().replace(digest, &format!("sha256:{hex}"));
    fs::write(site.path().join("out/cache/oci/index.json"), changed).unwrap();
    let error = site.fail(&["build", "image.yaml"]);
    assert!(error.contains("image `docker.io/test/init:1` is for arm64, not for amd64"), "{error}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_package_that_nobody_locked_and_a_program_that_nobody_built_are_named() {
    let site = Site::new();
    site.write("components/step/component.yaml", "images: [{reference: test/x:1}]\npackages: [crun]\n");
    let error = site.fail(&["component", "--lock", "debs.lock", "components/step"]);
    assert!(error.contains("no package `crun`; run `make relock`"), "{error}");
    let description = "images: [{reference: test/x:1}]\nprograms: [{program: bootkit, path: /b}]\n";
    site.write("components/step/component.yaml", description);
    let error = site.fail(&["component", "--lock", "debs.lock", "--programs", "bin", "components/step"]);
    assert!(error.contains("component step: program bin/bootkit is missing; build it first"), "{error}");
}

/// A mirror that has nothing; ends with the test's process.
fn empty_mirror() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = BufReader::new(stream.try_clone().unwrap());
            // One answer a connection, after the whole request.
            request.lines().map_while(Result::ok).find(String::is_empty);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    format!("http://{address}/debian")
}

#[test]
fn a_package_gone_from_the_mirror_is_locked_anew_and_a_failed_attempt_leaves_the_lock() {
    let site = Site::new();
    let lock = format!("crun crun 0.1-1 amd64 main {} 7 pool/main/c/crun/crun_0.1-1_amd64.deb\n", "0".repeat(64));
    site.write("debs.lock", &lock);
    site.write("components/step/component.yaml", "images: [{reference: test/x:1}]\npackages: [crun]\n");
    let mirror = empty_mirror();
    let mut command = Command::cargo_bin("ironhook-image").unwrap();
    command.current_dir(site.path()).args(["component", "--lock", "debs.lock", "components/step"]);
    command.env("IRONHOOK_DEBIAN_MIRROR", &mirror).env("IRONHOOK_DEBIAN_SECURITY_MIRROR", &mirror);
    let output = command.env("no_proxy", "127.0.0.1").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let gone = format!("relocked: component step: crun 0.1-1 is gone from the mirror ({mirror}/pool/main/c/crun/");
    assert!(told.contains(&gone), "{told}");
    assert!(told.contains("nothing newer can be locked: apt-get update for trixie failed: "), "{told}");
    assert_eq!(fs::read_to_string(site.path().join("debs.lock")).unwrap(), lock);
}
