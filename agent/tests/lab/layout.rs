//! An OCI layout with busybox in it, as `hack/with-dockerd` gives the same root file system to the engine.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

const TOOLS: [&str; 14] =
    ["sh", "sleep", "cat", "echo", "kill", "seq", "id", "test", "ls", "mkdir", "dd", "tail", "true", "grep"];

/// Adds the image to the layout; `labels` as JSON.
pub fn add(layout: &Path, name: &str, labels: &str) {
    add_with(layout, name, labels, &[]);
}

/// The same, with a file of these bytes in it.
pub fn add_with(layout: &Path, name: &str, labels: &str, noise: &[u8]) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(&digest), bytes).unwrap();
        serde_json::json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &root(noise));
    let labels: serde_json::Value = serde_json::from_str(labels).unwrap();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Labels": labels},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
    let mut entry = blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let path = layout.join("index.json");
    let mut index: serde_json::Value = fs::read(&path)
        .map(|text| serde_json::from_slice(&text).unwrap())
        .unwrap_or_else(|_| serde_json::json!({"schemaVersion": 2, "manifests": []}));
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(path, index.to_string()).unwrap();
}

fn root(noise: &[u8]) -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    for directory in ["bin/", "tmp/", "etc/"] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0), directory, &[][..]).unwrap();
    }
    let bytes = fs::read(busybox).unwrap();
    tar.append_data(&mut header(tar::EntryType::Regular, bytes.len()), "bin/busybox", bytes.as_slice()).unwrap();
    if !noise.is_empty() {
        tar.append_data(&mut header(tar::EntryType::Regular, noise.len()), "noise", noise).unwrap();
    }
    for tool in TOOLS {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0), format!("bin/{tool}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}
