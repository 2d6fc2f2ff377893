//! A folder with component descriptions, a cache and what was built; and images written by hand, right or wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};
use sha2::Digest as _;
use tempfile::TempDir;

pub const KERNEL: &str = "\
images: [{reference: test/kernel:1}]
files:
  - {path: /kernel, contents: vmlinuz}
  - {path: /kernel.tar, source: modules.tar}
";
pub const INIT: &str = "\
images: [{reference: test/init:1}]
files:
  - {path: /init, mode: \"0755\", contents: program}
  - {path: /lib, symlink: usr/lib}
";
pub const STEP: &str = "\
images:
  - reference: test/step:1
    entrypoint: [/step]
    labels: {org.mobyproject.config: '{\"net\": \"host\"}'}
files: [{path: /step, mode: \"0755\", contents: program}]
";
pub const IMAGE: &str = "\
kernel: {image: test/kernel:1}
init: [test/init:1]
onboot: [{name: step, image: test/step:1}]
services: [{name: again, image: test/step:1, command: [/step, again]}]
files:
  - {path: etc/site, contents: here}
";

pub struct Site {
    directory: TempDir,
}

impl Site {
    pub fn new() -> Self {
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

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::cargo_bin("ironhook-image").unwrap().current_dir(self.path()).args(arguments).output().unwrap()
    }

    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn fail(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn components(&self) -> String {
        let folders = ["components/kernel", "components/init", "components/step"];
        self.succeed(&[&["component", "--lock", "debs.lock"][..], &folders].concat())
    }

    /// A new site with its components made.
    pub fn ready() -> Self {
        let site = Self::new();
        site.components();
        site
    }

    /// Puts bytes into the layout's blobs; returns their descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex = sha256(bytes);
        let blobs = self.path().join("out/cache/oci/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&hex), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    }

    /// Puts an image into the layout: layers of any media type, as they are; returns the descriptors of its layers.
    pub fn image(&self, reference: &str, layers: &[(&str, &[u8])]) -> Vec<Value> {
        let run = json!({"Entrypoint": ["/x"]});
        let config = json!({"architecture": "amd64", "os": "linux", "config": run, "rootfs": {"type": "layers", "diff_ids": []}});
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<Value> = layers.iter().map(|(kind, bytes)| self.blob(kind, bytes)).collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut entry = self.blob(kind, manifest.to_string().as_bytes());
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": reference});
        let path = self.path().join("out/cache/oci/index.json");
        let mut index: Value = fs::read(&path).map_or_else(
            |_| json!({"schemaVersion": 2, "manifests": []}),
            |bytes| serde_json::from_slice(&bytes).unwrap(),
        );
        let manifests = index["manifests"].as_array_mut().unwrap();
        manifests.retain(|old| old["annotations"]["org.opencontainers.image.ref.name"] != reference);
        manifests.push(entry);
        fs::write(path, index.to_string()).unwrap();
        layers
    }

    /// What is in the output directory, hidden files too.
    pub fn output(&self, out: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path().join(out)) else { return Vec::new() };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "cache")
            .collect();
        names.sort();
        names
    }

    pub fn initramfs(&self, out: &str) -> Vec<u8> {
        fs::read(self.path().join(out).join("initramfs-x86_64")).unwrap()
    }
}

pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header of a kind, size and link target as asked for, whatever is true.
pub fn header(path: &str, kind: tar::EntryType, size: u64, link: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if !link.is_empty() {
        header.set_link_name(link).unwrap();
    }
    header.set_cksum();
    header
}

/// A layer of small files and links.
pub fn layer(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let (content, link) = if kind.is_file() { (text.as_bytes(), "") } else { (&b""[..], *text) };
        builder.append(&header(path, *kind, content.len() as u64, link), content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Names, contents and link counts of a newc archive.
pub fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>, u32)> {
    let (mut rest, mut entries) = (archive, Vec::new());
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            return entries;
        }
        let (name, links) = (reader.entry().name().to_owned(), reader.entry().nlink());
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
        entries.push((name, content, links));
        rest = reader.finish().unwrap();
    }
}
