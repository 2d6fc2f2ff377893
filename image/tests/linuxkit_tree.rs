//! `--format tar` has the tree of the stock CLI: compared with recorded expectations, and with the CLI itself where a
//! `linuxkit` is on PATH. `UPDATE_GOLDENS=1` records anew. What is not compared: times, modes of links, plain directories
//! that an archive may or may not mention, and empty values in config.json and runtime.json.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Site, sha256};
use serde_json::Value;
use tar::EntryType;

const OTHER: &str = "\
images: [{reference: test/other:1, entrypoint: [/usr/bin/other], command: [argument], env: [FROM=image]}]
files:
  - {path: /usr/bin/other, mode: \"0755\", contents: other}
  - {path: /etc/hosts, contents: gone}
  - {path: /.dockerenv, contents: gone}
";
const LABELLED: &str = "\
images:
  - reference: test/labelled:1
    entrypoint: [/step]
    labels: {org.mobyproject.config: '{\"binds\": [\"/label:/label\"], \"capabilities\": [\"CAP_SYS_TIME\"], \"pid\": \"host\", \"runtime\": {\"mkdir\": [\"/from/label\"]}}'}
files: [{path: /step, mode: \"0755\", contents: program}]
";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/linuxkit")
}

fn site() -> Site {
    let site = Site::ready();
    for (name, text) in [("other", OTHER), ("labelled", LABELLED)] {
        site.write(&format!("components/{name}/component.yaml"), text);
        site.succeed(&["component", "--lock", "debs.lock", &format!("components/{name}")]);
    }
    for file in fs::read_dir(fixtures()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), site.path().join(file.file_name())).unwrap();
    }
    site.write("source", "from the host\n");
    site
}

/// A line an entry: kind, mode, owner, path, and what it holds. The last entry of a path counts.
fn listing(archive: &[u8]) -> String {
    let mut archive = tar::Archive::new(archive);
    let mut lines: BTreeMap<String, (bool, String)> = BTreeMap::new();
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().trim_matches('/').trim_start_matches("./").to_owned();
        let (mut mode, kind) = (entry.header().mode().unwrap() & 0o7777, entry.header().entry_type());
        let owner = format!("{}:{}", entry.header().uid().unwrap(), entry.header().gid().unwrap());
        let link = entry.link_name().unwrap().map(|link| link.to_string_lossy().into_owned()).unwrap_or_default();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let (letter, held) = match kind {
            EntryType::Directory => ('d', String::new()),
            EntryType::Symlink => {
                mode = 0o777;
                ('l', format!(" -> {link}"))
            }
            EntryType::Link => {
                let content = contents[link.trim_matches('/')].clone();
                let held = shown(&path, &content);
                contents.insert(path.clone(), content);
                ('f', held)
            }
            _ => {
                let held = shown(&path, &content);
                contents.insert(path.clone(), content);
                ('f', held)
            }
        };
        let plain = letter == 'd' && mode == 0o755 && owner == "0:0";
        if !path.is_empty() {
            lines.insert(path.clone(), (plain, format!("{letter} {mode:04o} {owner} {path}{held}\n")));
        }
    }
    let is_parent = |path: &str| lines.keys().any(|other| other.starts_with(&format!("{path}/")));
    lines.iter().filter(|(path, (plain, _))| !plain || !is_parent(path)).map(|(_, (_, line))| line.as_str()).collect()
}

fn shown(path: &str, content: &[u8]) -> String {
    if !path.ends_with("/config.json") && !path.ends_with("/runtime.json") {
        let text = std::str::from_utf8(content).unwrap_or_default();
        let short = content.len() < 40 && !text.is_empty();
        return if short { format!(" {text:?}") } else { format!(" {}", &sha256(content)[..12]) };
    }
    let mut document: Value = serde_json::from_slice(content).unwrap();
    normalise(&mut document);
    format!(" {document}")
}

/// Without what says nothing, and sets in one order.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(normalise);
            object.retain(|_, value| !is_empty(value));
        }
        Value::Array(list) => {
            list.iter_mut().for_each(normalise);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if list.iter().all(|value| text(value).starts_with("CAP_")) {
                list.sort_by_key(text);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// What the stock CLI makes of the files, where there is one.
fn stock(directory: &Path, cache: &Path, files: &[&str]) -> Option<String> {
    let version = Command::new("linuxkit").arg("version").output().ok()?;
    assert!(version.status.success());
    // It writes a lock into its cache.
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(cache.join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let out = tempfile::tempdir().unwrap();
    let output = Command::new("linuxkit")
        .arg("--cache")
        .arg(copy.path())
        .args(["build", "--no-sbom", "--format", "tar", "--arch", "amd64", "--name", "stock", "--dir"])
        .arg(out.path())
        .args(files)
        .current_dir(directory)
        .env("HOME", out.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{files:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(listing(&fs::read(out.path().join("stock.tar")).unwrap()))
}

#[test]
fn trees_of_the_fixtures_are_those_of_the_stock_cli() {
    let site = site();
    for (name, files) in
        [("keys", &["keys.yaml"][..]), ("volumes", &["volumes.yaml"]), ("merged", &["first.yaml", "second.yaml"])]
    {
        site.succeed(&[&["build", "--format", "tar"][..], files].concat());
        let ours = listing(&fs::read(site.path().join("out/image-x86_64.tar")).unwrap());
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{name}.tree"));
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(&golden, &ours).unwrap();
        }
        assert_eq!(ours, fs::read_to_string(&golden).unwrap(), "{name} differs from {}", golden.display());
        match stock(site.path(), &site.path().join("out/cache/oci"), files) {
            Some(stock) => assert_same(name, &ours, &stock),
            None => eprintln!("{name}: compared with recorded expectations only: there is no `linuxkit` on PATH"),
        }
    }
}

/// The first lines that differ, one under the other: whole listings are too long to read.
fn assert_same(name: &str, ours: &str, stock: &str) {
    for (ours, stock) in ours.lines().zip(stock.lines()) {
        assert_eq!(ours, stock, "{name} differs from the stock CLI's");
    }
    assert_eq!(ours.lines().count(), stock.lines().count(), "{name}");
}

#[test]
fn our_own_images_are_those_of_the_stock_cli() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let cache = root.join("out/cache/oci");
    if !cache.join("index.json").exists() || Command::new("linuxkit").arg("version").output().is_err() {
        eprintln!(
            "SKIP our_own_images_are_those_of_the_stock_cli: needs `linuxkit` on PATH and the components of `make image`"
        );
        return;
    }
    let base = root.join("linuxkit/ironhook.yaml");
    let yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    for file in fs::read_dir(root.join("linuxkit")).unwrap().map(|entry| entry.unwrap().path()).filter(yaml) {
        // A file without a kernel goes over the others.
        let alone = fs::read_to_string(&file).unwrap().lines().any(|line| line == "kernel:");
        let files = if alone { vec![&file] } else { vec![&base, &file] };
        let out = tempfile::tempdir().unwrap();
        let mut command = assert_cmd::Command::cargo_bin("ironhook-image").unwrap();
        let command =
            command.args(["build", "--format", "tar", "--out"]).arg(out.path()).args(&files).current_dir(&root);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ours = listing(&fs::read(out.path().join("image-x86_64.tar")).unwrap());
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let stock = stock(&root, &cache, &files.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        // Ours marks a stage only where there are two.
        let stock = stock.replace(",\"dev.ironhook.stage\":\"2\"", "").replace("\"dev.ironhook.stage\":\"2\"", "");
        assert_same(&file.display().to_string(), &ours, &stock);
    }
}
