//! Drives the built program where it is not process 1. Booting with it is the lab's.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use anyhow::{Context, Result};

fn run(name: &str, arguments: &[&str]) -> Result<(i32, String)> {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_ironhook-init")).arg0(name).args(arguments).output()?;
    assert!(stdout.is_empty());
    Ok((status.code().context("killed by a signal")?, String::from_utf8(stderr)?))
}

#[test]
fn a_person_who_calls_it_is_told_what_it_is_for() -> Result<()> {
    let (status, said) = run("ironhook-init", &[])?;
    assert_eq!(status, 2);
    assert!(said.contains("as process 1") && said.contains("modprobe"), "{said}");
    Ok(())
}

#[test]
fn as_modprobe_it_says_what_it_cannot_do() -> Result<()> {
    let (status, said) = run("/sbin/modprobe", &["-r", "overlay"])?;
    assert_eq!((status, said.as_str()), (1, "modprobe: option -r is not known here\n"));
    let (status, said) = run("modprobe", &["-q", "--", "no-such-module-anywhere"])?;
    assert_eq!(status, 1);
    assert!(said.is_empty() || said.contains("modules.dep"), "{said}");
    Ok(())
}
