//! What is made from the table of actions: the page of the documentation, the man page, and the images that are published.
//! `UPDATE_GOLDENS=1` (`make gen`) writes the pages.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use actions::{help, table};

const BEGIN: &str = "<!-- from the table of actions by `make gen`: begin -->\n";
const END: &str = "<!-- end -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_GOLDENS").is_some()
}

#[test]
fn the_documentation_lists_every_input() {
    let path = root().join("docs/actions.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", help::markdown());
    if is_updating() {
        fs::write(&path, &wanted).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == wanted, "docs/actions.md is old: make gen");
}

#[test]
fn the_man_page_lists_every_input_and_can_be_shown() {
    let path = root().join("docs/man/ironhook-actions.1");
    let wanted = help::manual();
    if is_updating() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &wanted).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == wanted, "docs/man/ironhook-actions.1 is old: make gen");
    for action in table::ACTIONS {
        for input in action.inputs {
            assert!(wanted.contains(input.name), "{}: {}", action.name, input.name);
        }
    }
    if let Ok(output) = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path).output() {
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_name_is_an_image_with_its_label_and_its_link() {
    let text = fs::read_to_string(root().join("linuxkit/components/actions/component.yaml")).unwrap();
    let mut names = 0;
    for action in table::ACTIONS {
        for name in action.also.iter().chain([&action.name]) {
            for line in [
                format!("  - reference: docker.io/ironhook/{name}:latest\n    entrypoint: [/usr/bin/{name}]\n"),
                format!("    env: [\"IRONHOOK_ACTION={name}\"]\n    labels: {{dev.ironhook.action: {name}, "),
                format!("  - {{path: /usr/bin/{name}, symlink: ironhook-actions}}\n"),
            ] {
                assert!(text.contains(&line), "{name}: no {line}");
            }
            names += 1;
        }
    }
    assert_eq!(text.matches("reference:").count(), names, "an image without an action");
}
