//! What a build leaves: hard links, duplicates, gzip, microcode, volumes, two stages, `inspect` and the bill of materials.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::Read as _;

use common::{IMAGE, Site, TAR, entries, layer, sha256};
use serde_json::Value;
use spec::stage::Layer;
use tar::EntryType::{Link, Regular};

fn archive(site: &Site, out: &str) -> Vec<(String, Vec<u8>, u32)> {
    entries(&zstd::decode_all(&site.initramfs(out)[..]).unwrap())
}

fn find<'a>(entries: &'a [(String, Vec<u8>, u32)], name: &str) -> &'a (String, Vec<u8>, u32) {
    entries.iter().find(|entry| entry.0 == name).unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn hard_links_stay_and_duplicates_are_stored_once() {
    let site = Site::ready();
    let big = "z".repeat(5000);
    let files = [("x", Regular, "small"), ("y", Link, "x"), ("big", Regular, &big), ("again", Regular, &big)];
    site.image("docker.io/test/step:1", &[(TAR, &layer(&files))]);
    site.succeed(&["build", "image.yaml"]);
    let entries = archive(&site, "out");
    let below = |name: &str| find(&entries, &format!("containers/onboot/000-step/lower/{name}")).clone();
    assert_eq!((below("x").2, below("y").2, below("big").2, below("again").2), (2, 2, 2, 2));
    assert_eq!(below("x").1.len() + below("y").1.len(), 5);
    assert_eq!(below("big").1.len() + below("again").1.len(), 5000);
}

#[test]
fn gzip_and_microcode_before_it() {
    let site = Site::ready();
    let mut microcode = Vec::new();
    cpio::newc::trailer(&mut microcode).unwrap();
    let kernel = [("kernel", Regular, "vmlinuz"), ("intel.cpio", Regular, std::str::from_utf8(&microcode).unwrap())];
    site.image("docker.io/test/kernel:1", &[(TAR, &layer(&kernel))]);
    let kernel = "kernel: {image: test/kernel:1, tar: none, ucode: intel.cpio, cmdline: console=ttyS0}";
    site.write("image.yaml", &IMAGE.replace("kernel: {image: test/kernel:1}", kernel));
    site.succeed(&["build", "image.yaml", "--compression", "gzip", "--level", "9"]);
    let initramfs = site.initramfs("out");
    let rest = initramfs.strip_prefix(&microcode[..]).expect("the microcode comes first, uncompressed");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(rest).read_to_end(&mut unpacked).unwrap();
    let entries = entries(&unpacked);
    assert_eq!(entries.last().unwrap().0, "etc/ironhook/end");
    assert_eq!(fs::read_to_string(site.path().join("out/cmdline-x86_64")).unwrap(), "console=ttyS0");
    let told = site.succeed(&["inspect", "out/initramfs-x86_64"]);
    assert!(told.contains(&format!("{} entries, complete", entries.len() - 1)), "{told}");
}

#[test]
fn volumes_are_laid_out_and_named_by_path() {
    let site = Site::ready();
    site.image("docker.io/test/data:1", &[(TAR, &layer(&[("x", Regular, "data")]))]);
    let volumes = "volumes: [{name: empty}, {name: full, image: test/data:1, readonly: true}, \
        {name: layout, image: test/data:1, format: oci}]\n";
    let yaml = IMAGE.replace("command: [/step, again]", "binds: [empty:/e, full:/f:ro]");
    site.write("image.yaml", &format!("{volumes}{yaml}"));
    site.succeed(&["build", "image.yaml"]);
    let entries = archive(&site, "out");
    for name in ["empty/lower", "empty/tmp", "empty/merged", "full/merged"] {
        find(&entries, &format!("containers/volumes/{name}"));
    }
    assert_eq!(find(&entries, "containers/volumes/full/lower/x").1, b"data");
    let index: Value = serde_json::from_slice(&find(&entries, "containers/volumes/layout/lower/index.json").1).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    find(&entries, &format!("containers/volumes/layout/lower/blobs/sha256/{digest}"));
    let config: Value = serde_json::from_slice(&find(&entries, "containers/services/again/config.json").1).unwrap();
    let source = |path: &str| {
        let mounts = config["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == path).unwrap()["source"].clone()
    };
    assert_eq!(
        (source("/e"), source("/f")),
        ("/containers/volumes/empty/merged".into(), "/containers/volumes/full/merged".into())
    );
}

#[test]
fn two_stages_come_from_the_same_yaml_and_the_one_file_shape_is_the_default() {
    let site = Site::ready();
    site.image("docker.io/test/late:1", &[(TAR, &layer(&[("usr/bin/x", Regular, "late")]))]);
    let late = "services: [{name: late, image: test/late:1, annotations: {dev.ironhook.stage: \"2\"}}, ";
    let yaml =
        IMAGE.replace("services: [", late) + "  - {path: containers/services/late/lower/etc/own, contents: mine}\n";
    site.write("image.yaml", &yaml);
    site.succeed(&["build", "image.yaml"]);
    let one = archive(&site, "out");
    assert_eq!(find(&one, "containers/services/late/lower/usr/bin/x").1, b"late");
    assert!(!one.iter().any(|entry| entry.0.contains("stage2")));
    let config = String::from_utf8(find(&one, "containers/services/late/config.json").1.clone()).unwrap();
    assert!(!config.contains("dev.ironhook.stage"), "nobody waits for a layer that is not there: {config}");

    site.succeed(&["build", "image.yaml", "--two-stages"]);
    let two = archive(&site, "out");
    assert!(!two.iter().any(|entry| entry.0.starts_with("containers/services/late/lower")));
    let described = Layer::parse(&find(&two, "etc/ironhook/stage2").1).unwrap();
    let layer = fs::read(site.path().join("out").join(&described.file)).unwrap();
    assert_eq!((described.sha256, described.size), (sha256(&layer), layer.len() as u64));
    let bill = fs::read_to_string(site.path().join("out/initramfs-x86_64.spdx.json")).unwrap();
    assert!(bill.contains(&sha256(&layer)) && bill.contains("\"SPDXRef-layer\""), "{bill}");
    let config: Value = serde_json::from_slice(&find(&two, "containers/services/late/config.json").1).unwrap();
    assert_eq!(config["annotations"]["dev.ironhook.stage"], "2");
    let runtime: Value = serde_json::from_slice(&find(&two, "containers/services/late/runtime.json").1).unwrap();
    assert_eq!(runtime["mounts"][2]["options"][0], "lowerdir=/containers/stage2/services/late/lower");
    find(&two, "containers/stage2");
    assert_eq!(find(&two, "containers/onboot/000-step/lower/step").1, b"program", "others stay in the first stage");
    // As a second initramfs: the same layer at the place where init looks.
    let second = entries(&fs::read(site.path().join("out/stage2-x86_64.cpio")).unwrap());
    assert_eq!(find(&second, "stage2/stage2-x86_64").1, layer);
    let mut unsquashfs = std::process::Command::new("unsquashfs");
    unsquashfs.args(["-cat", "stage2-x86_64", "services/late/lower/etc/own"]);
    let listed = unsquashfs.current_dir(site.path().join("out")).output().unwrap();
    assert_eq!(listed.stdout, b"mine", "{}", String::from_utf8_lossy(&listed.stderr));
    let told = site.succeed(&["inspect", "out/initramfs-x86_64"]);
    assert!(told.contains("stage two: stage2-x86_64, "), "{told}");

    site.succeed(&["build", "image.yaml"]);
    assert!(!site.output("out").iter().any(|name| name.starts_with("stage2")), "an old layer stays behind");
    site.write("image.yaml", &yaml.replace("stage: \"2\"", "stage: \"3\""));
    let error = site.fail(&["build", "image.yaml"]);
    assert!(error.contains("container `late`: annotation dev.ironhook.stage is `3`"), "{error}");
}

#[test]
fn the_bill_of_materials_is_spdx_and_inspect_reads_it() {
    let site = Site::ready();
    site.succeed(&["build", "image.yaml"]);
    let bill = fs::read(site.path().join("out/initramfs-x86_64.spdx.json")).unwrap();
    let bill: Value = serde_json::from_slice(&bill).unwrap();
    assert_eq!((&bill["spdxVersion"], &bill["dataLicense"]), (&"SPDX-2.3".into(), &"CC0-1.0".into()));
    let packages = bill["packages"].as_array().unwrap();
    let ids: Vec<&str> = packages.iter().map(|package| package["SPDXID"].as_str().unwrap()).collect();
    let plain = |id: &&str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
    assert!(ids.iter().all(|id| id.starts_with("SPDXRef-") && plain(id)), "{ids:?}");
    for relation in bill["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            let id = relation[end].as_str().unwrap();
            assert!(id == "SPDXRef-DOCUMENT" || ids.contains(&id), "{id} is related and not there");
        }
    }
    let initramfs = packages.iter().find(|package| package["name"] == "initramfs-x86_64").unwrap();
    assert_eq!(initramfs["checksums"][0]["checksumValue"], sha256(&site.initramfs("out")).as_str());
    let told = site.succeed(&["inspect", "out/initramfs-x86_64"]);
    assert!(told.contains("image    docker.io/test/step:1 "), "{told}");
    assert!(told.contains("onboot/000-step") && told.contains("kernel modules"), "{told}");
    fs::write(site.path().join("out/initramfs-x86_64.spdx.json"), b"{\"packages\": []}").unwrap();
    let told = site.succeed(&["inspect", "out/initramfs-x86_64"]);
    assert!(told.contains("is the bill of another initramfs"), "{told}");
    let cut = &site.initramfs("out")[..200];
    fs::write(site.path().join("out/initramfs-x86_64"), cut).unwrap();
    let error = site.fail(&["inspect", "out/initramfs-x86_64"]);
    assert!(error.contains("cannot read the archive in out/initramfs-x86_64"), "{error}");
}
