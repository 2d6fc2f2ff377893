//! What the default flavour does not hold: a shell, or a program that is one by another name. No machine is needed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use e2e::command::run;
use e2e::lab::Places;

const SHELLS: [&str; 8] = ["sh", "ash", "bash", "dash", "busybox", "toybox", "zsh", "ksh"];

#[test]
fn the_default_flavour_has_no_shell_and_no_busybox() {
    let initramfs = Places::find().unwrap().out.join("initramfs-x86_64");
    let list = format!("zstd -dc {:?} | cpio --quiet -t", initramfs.display().to_string());
    let paths = run(Command::new("sh").args(["-c", &list])).unwrap();
    assert!(paths.lines().any(|path| path == "init"), "no list of an initramfs: {paths}");
    let shells: Vec<&str> =
        paths.lines().filter(|path| path.rsplit('/').next().is_some_and(|name| SHELLS.contains(&name))).collect();
    assert!(shells.is_empty(), "{shells:?}");
}
