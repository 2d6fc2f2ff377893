//! `docs/command-line.md` is what the table says. `UPDATE_GOLDENS=1` rewrites it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn the_manual_of_the_command_line_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/command-line.md");
    let page = spec::cmdline::manual::markdown();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, kept, "{} is out of date; UPDATE_GOLDENS=1 rewrites it", path.display());
}
