//! The house of design §3, checked: who depends on whom, who may use tokio, how large files may be.
//! `UPDATE_GOLDENS=1` rewrites the golden; a new line in it is a deliberate change.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const MEDIAN: usize = 150;
const P90: usize = 400;
const CAP: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn edges_between_crates_are_the_golden_ones() {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let mut edges = BTreeSet::new();
    for package in packages {
        let from = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            if dependency["kind"].is_null() && (ours.contains(to) || to == "tokio") {
                edges.insert(format!("{from} -> {to}\n"));
            }
        }
    }
    let found: String = edges.into_iter().collect();
    let golden = root().join("hack/goldens/edges.txt");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&golden).unwrap(), "edges differ from {}", golden.display());
}

#[test]
fn pid_1_is_free_of_tokio_and_http() {
    let tree = cargo(&["tree", "-p", "init", "-e", "normal", "--prefix", "none", "--offline"]);
    for banned in ["tokio ", "reqwest ", "hyper "] {
        assert!(!tree.lines().any(|line| line.starts_with(banned)), "init depends on {banned}:\n{tree}");
    }
}

#[test]
fn only_sys_may_say_unsafe() {
    for crate_dir in members() {
        let manifest = std::fs::read_to_string(crate_dir.join("Cargo.toml")).unwrap();
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert_eq!(inherits, !crate_dir.ends_with("sys"), "{}", crate_dir.display());
    }
}

#[test]
fn files_keep_their_budget_and_say_what_they_own() {
    let mut sizes: Vec<(usize, PathBuf)> = Vec::new();
    for file in members().iter().flat_map(|dir| rust_files(dir)) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with //!", file.display());
        let is_test = file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs");
        if !is_test {
            sizes.push((text.lines().take_while(|line| *line != "#[cfg(test)]").count(), file));
        }
    }
    sizes.sort();
    let at = |share: usize| &sizes[(sizes.len() - 1) * share / 100];
    assert!(at(50).0 <= MEDIAN, "median: {:?}", at(50));
    assert!(at(90).0 <= P90, "p90: {:?}", at(90));
    assert!(at(100).0 <= CAP, "cap: {:?}", at(100));
}

fn members() -> Vec<PathBuf> {
    let names = "spec proto sys fetch image init bootkit agent actions netboot server hack/e2e";
    names.split(' ').map(|name| root().join(name)).collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() && name != "gen" && name != "target" {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}
