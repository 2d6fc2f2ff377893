//! Drives the built program from component descriptions to an initramfs, without packages and network.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use assert_cmd::Command;
use common::{IMAGE, INIT, STEP, Site, sha256};

/// Issue 3: two clean builds in different directories with different core counts: same sha256.
#[test]
fn two_clean_builds_with_different_core_counts_are_the_same_bytes() {
    let (one, two) = (Site::new(), Site::new());
    for (site, threads) in [(&one, "1"), (&two, "2")] {
        let noise: Vec<u8> = (0..9_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> (at % 23)) as u8).collect();
        fs::write(site.path().join("noise"), noise).unwrap();
        site.write(
            "image.yaml",
            &format!("{IMAGE}  - {{path: noise, source: noise}}\n")
                .replace("name: again", "annotations: {dev.ironhook.stage: \"2\"}, name: again")
                .replace("onboot: [{name: step,", "onboot: [{annotations: {dev.ironhook.stage: \"2\"}, name: step,"),
        );
        site.components();
        site.succeed(&["build", "image.yaml", "--threads", threads]);
        site.succeed(&["build", "image.yaml", "--threads", threads, "--two-stages", "--out", "two"]);
        site.succeed(&["build", "image.yaml", "--threads", threads, "--compression", "gzip", "--out", "gzip"]);
    }
    assert_eq!(one.output("out"), ["initramfs-x86_64", "initramfs-x86_64.spdx.json", "vmlinuz-x86_64"]);
    assert_eq!(one.output("two").len(), 5);
    for out in ["out", "two", "gzip"] {
        for name in one.output(out) {
            let read = |site: &Site| sha256(&fs::read(site.path().join(out).join(&name)).unwrap());
            assert_eq!(read(&one), read(&two), "{out}/{name}");
        }
    }
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
