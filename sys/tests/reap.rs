//! Reaping sees every child of the process, so its test has a process of its own.

use std::io;
use std::process::Command;

use sys::reap::{Exit, reap, wait_any};

#[test]
fn an_end_is_told_again_until_it_is_reaped() -> io::Result<()> {
    assert_eq!(wait_any()?, None);
    let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn()?;
    let first = wait_any()?;
    assert_eq!(first.map(|ended| (ended.pid.unsigned_abs(), ended.exit)), Some((child.id(), Exit::Code(7))));
    assert_eq!(wait_any()?, first);
    reap(child.id().cast_signed())?;
    assert_eq!(wait_any()?, None);
    assert!(child.wait().is_err());
    Ok(())
}
