//! `disk-capture`: a disk into an image and back, to a file, to a URL, and as the form of old.
#![allow(clippy::unwrap_used)] // Also in what the tests share.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::{Loop, MIB, image, root, run, sha256};

/// A disk with data here and there.
fn disk(sector: u32) -> (Loop, Vec<u8>) {
    let disk = Loop::new(24 * MIB, sector);
    let mut bytes = image(16 * MIB, sector);
    bytes[6 * MIB..9 * MIB].fill(0);
    bytes.resize(24 * MIB, 0);
    fs::File::options().write(true).open(&disk.path).unwrap().write_all_at(&bytes, 0).unwrap();
    (disk, bytes)
}

/// Takes requests until the test ends: first line and headers in lower case, and the body.
fn server(answer: &'static str) -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk.img", listener.local_addr().unwrap());
    let (to, taken) = channel();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = BufReader::new(peer.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && peer.read_line(&mut head).unwrap() > 0 {}
            let head = head.to_lowercase();
            let body = match head.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok()) {
                Some(length) => {
                    let mut body = vec![0; length];
                    peer.read_exact(&mut body).map(|()| body)
                }
                None => chunks(&mut peer),
            };
            let _ = write!(peer.get_mut(), "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if let Ok(body) = body {
                let _ = to.send((head, body));
            }
        }
    });
    (url, taken)
}

fn chunks(peer: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        peer.read_line(&mut line)?;
        let len = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; len + 2];
        peer.read_exact(&mut chunk)?;
        chunk.truncate(len);
        body.extend(&chunk);
        if len == 0 {
            return Ok(body);
        }
    }
}

fn capture(action: &str, disk: &Loop, url: &str, more: &[(&str, &str)]) -> common::Run {
    let mut env = vec![("SOURCE_DISK", disk.path()), ("DEST_URL", url), ("WAIT_DEVICE_SECONDS", "0")];
    env.extend(more);
    run(action, &env)
}

#[test]
fn what_was_captured_can_be_written_again_on_both_sector_sizes() {
    if !root("what_was_captured_can_be_written_again_on_both_sector_sizes") {
        return;
    }
    for (sector, packing) in [(512, "zst"), (4096, "gz"), (512, "none")] {
        let (disk, bytes) = disk(sector);
        let dir = tempfile::tempdir().unwrap();
        let (path, report) = (dir.path().join("disk.img"), dir.path().join("report"));
        let more = [("COMPRESSION", packing), ("REPORT_PATH", report.to_str().unwrap())];
        capture("disk-capture", &disk, path.to_str().unwrap(), &more).ok();
        let result: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        let sum = result["facts"]["sha256"].as_str().unwrap();
        assert_eq!(sum, sha256(&fs::read(&path).unwrap()));
        assert_eq!(result["facts"]["contentSha256"], sha256(&bytes));
        if packing == "none" {
            assert!(fs::metadata(&path).unwrap().blocks() * 512 < 16 << 20, "the holes are filled");
        }
        let other = Loop::new(24 * MIB, sector);
        let env = [("IMG_URL", path.to_str().unwrap()), ("DEST_DISK", other.path()), ("IMG_CHECKSUM", sum)];
        run("image-write", &env).ok();
        // The backup of the GPT moves to the end of the disk; the partitions are what counts.
        let (written, mib) = (other.bytes(), MIB);
        assert!(written[mib..15 * mib] == bytes[mib..15 * mib], "{packing}: other bytes came back");
        other.assert_table_is_clean();
    }
}

#[test]
fn the_map_says_what_is_not_zero_and_proves_it() {
    if !root("the_map_says_what_is_not_zero_and_proves_it") {
        return;
    }
    let (disk, bytes) = disk(512);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    capture("disk-capture", &disk, path.to_str().unwrap(), &[]).ok();
    let map = fs::read_to_string(dir.path().join("disk.img.bmap")).unwrap();
    let checksum = map.split("<BmapFileChecksum> ").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(sha256(map.replace(checksum, &"0".repeat(64)).as_bytes()), format!("sha256:{checksum}"));
    let mut rest = bytes.clone();
    for line in map.lines().filter(|line| line.contains("<Range ")) {
        let sum = line.split('"').nth(1).unwrap();
        let blocks = line.split("> ").nth(1).unwrap().split(' ').next().unwrap();
        let (first, last) = blocks.split_once('-').unwrap_or((blocks, blocks));
        let range = first.parse::<usize>().unwrap() * 4096..(last.parse::<usize>().unwrap() + 1) * 4096;
        assert_eq!(sha256(&bytes[range.clone()]), format!("sha256:{sum}"));
        rest[range].fill(0);
    }
    assert!(rest.iter().all(|b| *b == 0), "data outside of the map");
}

#[test]
fn an_image_is_put_with_its_map_beside_it() {
    if !root("an_image_is_put_with_its_map_beside_it") {
        return;
    }
    let (disk, bytes) = disk(512);
    let (url, taken) = server("201 Created");
    capture("disk-capture", &disk, &url, &[]).ok();
    let (head, body) = taken.recv().unwrap();
    assert!(head.starts_with("put /disk.img ") && body == bytes, "{head}");
    let (head, body) = taken.recv().unwrap();
    assert!(head.starts_with("put /disk.img.bmap ") && body.starts_with(b"<?xml"), "{head}");
}

#[test]
fn slurp_posts_the_form_that_its_servers_take() {
    if !root("slurp_posts_the_form_that_its_servers_take") {
        return;
    }
    let (disk, bytes) = disk(512);
    let (url, taken) = server("200 OK");
    capture("slurp", &disk, &url, &[("IMG_NAME", "node"), ("COMPRESSED", "true")]).ok();
    let (head, body) = taken.recv().unwrap();
    assert!(head.starts_with("post /disk.img "), "{head}");
    // Another implementation reads the form.
    let script = "import sys,email,email.policy\nd=sys.stdin.buffer.read()\n\
        m=email.message_from_bytes(d,policy=email.policy.HTTP)\n\
        for p in m.iter_parts(): print(p.get_param('name',header='content-disposition'),p.get_filename(),len(p.get_payload(decode=True)))\n\
        open(sys.argv[1],'wb').write(list(m.iter_parts())[0].get_payload(decode=True))\n";
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image.gz");
    let kind = head.lines().find(|l| l.starts_with("content-type: ")).unwrap();
    let mut python = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&out)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    write!(stdin, "{kind}\r\n\r\n").unwrap();
    stdin.write_all(&body).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(
        listed.starts_with("BootyImage node.img.gz ") && listed.contains("BootyBmap node.img.gz.bmap "),
        "{listed}"
    );
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(out).unwrap()).read_to_end(&mut content).unwrap();
    assert!(content == bytes, "other bytes arrived");
}

#[test]
fn a_server_that_does_not_take_it_is_a_failure() {
    if !root("a_server_that_does_not_take_it_is_a_failure") {
        return;
    }
    let (disk, _) = disk(512);
    for (action, answer) in [("slurp", "500 Broken"), ("disk-capture", "403 Forbidden"), ("slurp", "302 Elsewhere")] {
        let (url, _taken) = server(answer);
        let done = capture(action, &disk, &url, &[]);
        assert_eq!(done.failure().code, "fetch", "{done:?}");
        assert!(done.failure().one_line().contains(&answer[..3]), "{done:?}");
    }
    let done = capture("disk-capture", &disk, "/no/such/directory/disk.img", &[]);
    assert_eq!(done.failure().code, "file_io");
}

#[test]
fn a_disk_in_use_is_not_captured_unless_forced() {
    if !root("a_disk_in_use_is_not_captured_unless_forced") {
        return;
    }
    let disk = Loop::new(24 * MIB, 512);
    common::tool("mkfs.ext4", &["-q", "-F", disk.path()]);
    let dir = tempfile::tempdir().unwrap();
    let _mount = sys::mount::Mount::device(disk.path.as_ref(), "ext4", dir.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("x.img");
    let done = capture("disk-capture", &disk, path.to_str().unwrap(), &[]);
    assert_eq!(done.failure().code, "disk_busy");
    assert!(!path.exists());
    let done = capture("disk-capture", &disk, path.to_str().unwrap(), &[("FORCE", "yes")]);
    assert!(done.ok().log.contains("may be inconsistent"), "{done:?}");
}
