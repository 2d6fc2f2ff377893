//! `docs/command-line.md` and `docs/boot-codes.md` are what their tables say. `UPDATE_GOLDENS=1` rewrites them.

#![allow(clippy::unwrap_used)]

use std::path::Path;

fn is_kept(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, kept, "{} is out of date; run `make gen`", path.display());
}

#[test]
fn the_manual_of_the_command_line_is_the_table() {
    is_kept("command-line.md", &spec::cmdline::manual::markdown());
}

#[test]
fn the_manual_of_the_codes_is_the_table() {
    // In a table `<url>` would be a tag.
    let escaped = |line: &str| if line.starts_with('|') { line.replace('<', "\\<") } else { line.to_owned() } + "\n";
    is_kept("boot-codes.md", &spec::boot::markdown().lines().map(escaped).collect::<String>());
}
