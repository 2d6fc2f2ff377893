//! The committed code is what the .proto files generate. `UPDATE_GOLDENS=1` rewrites it.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

const FILES: [&str; 3] = ["workflow.proto", "agent.proto", "ironhook.proto"];

#[test]
fn generated_code_matches_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().unwrap();
    generate(&root.join("proto"), fresh.path());

    let names = listing(fresh.path());
    assert!(!names.is_empty());
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        for name in &names {
            std::fs::copy(fresh.path().join(name), committed.join(name)).unwrap();
        }
        return;
    }
    assert_eq!(names, listing(&committed), "a generated file is missing or superfluous; run `make gen`");
    for name in &names {
        let want = std::fs::read_to_string(fresh.path().join(name)).unwrap();
        let have = std::fs::read_to_string(committed.join(name)).unwrap();
        assert!(want == have, "{} is stale; run `make gen`", name.display());
    }
}

fn generate(protos: &Path, out: &Path) {
    let descriptors = protox::compile(FILES, [protos]).unwrap();
    tonic_prost_build::configure().build_transport(false).out_dir(out).compile_fds(descriptors).unwrap();
}

fn listing(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name())).collect();
    names.sort();
    names
}
