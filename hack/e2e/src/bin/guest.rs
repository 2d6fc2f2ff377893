//! The program of the guest lab inside the machine: runs the command of `/etc/ironhook-guest/command`, one word a
//! line, with its output on the second serial port, and switches the machine off with its exit status.
//! Standard library only: it is packed as the only program of its image.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

const COMMAND: &str = "/etc/ironhook-guest/command";
/// Where the lab listens.
const OUTPUT: &str = "/dev/ttyS1";
const BUSYBOX: &str = "/usr/bin/busybox";
/// QEMU's isa-debug-exit: a byte written here ends the machine.
const EXIT_PORT: u64 = 0xf4;
/// The highest exit status that fits beside the signals; a command that cannot be run has it too.
const HIGHEST: i32 = 62;

fn main() -> Result<()> {
    let status = match prepare().and_then(|output| report(&output)) {
        Ok(status) => status,
        Err(error) => {
            // There may be no other output, and the machine ends before init has shown what we write to it.
            let console = OpenOptions::new().write(true).open("/dev/console");
            let _ = console.and_then(|mut console| writeln!(console, "ironhook-guest: {error}"));
            // Others hold the console open, so closing it waits for nothing.
            std::thread::sleep(Duration::from_secs(1));
            HIGHEST
        }
    };
    let port = OpenOptions::new().write(true).open("/dev/port")?;
    // Never 0: QEMU makes `2 n + 1` of it, and 1 is also how QEMU itself fails.
    port.write_all_at(&[u8::try_from(status + 1).unwrap_or(u8::MAX)], EXIT_PORT)
}

/// The tools that the lab did not bring, and where output goes, line feeds as they are.
fn prepare() -> Result<File> {
    for words in [
        &["--install", "-s", "/usr/bin"][..],
        &["stty", "-F", OUTPUT, "raw", "-echo"],
        &["ip", "link", "set", "lo", "up"],
    ] {
        Command::new(BUSYBOX).args(words).status().map_err(|error| Error::other(format!("{BUSYBOX}: {error}")))?;
    }
    OpenOptions::new().write(true).open(OUTPUT).map_err(|error| Error::other(format!("{OUTPUT}: {error}")))
}

/// Runs the command. The lab takes an output without its last line for one that was cut short; the last to close a
/// serial port waits until everything has left.
fn report(mut output: &File) -> Result<i32> {
    let status = run(output).or_else(|error| writeln!(output, "ironhook-guest: {error}").map(|()| HIGHEST))?;
    writeln!(output, "ironhook-guest: ended with {status}")?;
    Ok(status)
}

/// The command's exit status, or 63 + n for signal n: the port takes seven bits.
fn run(output: &File) -> Result<i32> {
    let text = std::fs::read_to_string(COMMAND).map_err(|error| Error::other(format!("{COMMAND}: {error}")))?;
    let mut words = text.lines();
    let program = words.next().ok_or_else(|| Error::other(format!("{COMMAND} is empty")))?;
    let status = Command::new(program)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("IRONHOOK_IN_GUEST", "yes")
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .status()
        .map_err(|error| Error::other(format!("cannot run {program}: {error}")))?;
    Ok(status.code().map_or_else(|| HIGHEST + 1 + status.signal().unwrap_or(0), |code| code.min(HIGHEST)))
}
