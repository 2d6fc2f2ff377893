//! Which accelerator QEMU may use. KVM is used only after a guest of 512 bytes said hello under it within a time
//! limit: there are hosts where /dev/kvm opens and the guest then hangs.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::command::command;

const LIMIT: Duration = Duration::from_secs(5);
/// `mov dx, 0x3f8; mov al, 'K'; out dx, al; hlt; jmp $-1`: one byte on the first serial port.
const HELLO: [u8; 9] = [0xba, 0xf8, 0x03, 0xb0, b'K', 0xee, 0xf4, 0xeb, 0xfd];

/// The accelerator to use, as QEMU's `-accel` names it. `IRONHOOK_ACCEL` overrules the probe.
pub fn probe() -> io::Result<&'static str> {
    match std::env::var("IRONHOOK_ACCEL").as_deref() {
        Ok("kvm") => Ok("kvm"),
        Ok("tcg") => Ok("tcg"),
        Ok(other) => Err(io::Error::other(format!("IRONHOOK_ACCEL is {other:?}, expected kvm or tcg"))),
        Err(_) if std::fs::File::open("/dev/kvm").is_ok() && says_hello("kvm", LIMIT)? => Ok("kvm"),
        Err(_) => Ok("tcg"),
    }
}

fn says_hello(accel: &str, limit: Duration) -> io::Result<bool> {
    let dir = tempfile::tempdir()?;
    let image = dir.path().join("hello.img");
    let mut sector = [0; 512];
    sector[..HELLO.len()].copy_from_slice(&HELLO);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&image, sector)?;
    let mut child = qemu(accel).arg(format!("file={},format=raw,if=ide", image.display())).spawn()?;
    let (said, heard) = mpsc::channel();
    let mut output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut byte = [0];
        let hello = output.as_mut().is_some_and(|out| out.read_exact(&mut byte).is_ok() && byte == *b"K");
        // Nobody listens any more when the time was over.
        let _ = said.send(hello);
    });
    let hello = heard.recv_timeout(limit).unwrap_or(false);
    // A guest that hangs in the kernel may never be reaped: it is killed, and not waited for in vain.
    child.kill()?;
    if hello {
        child.wait()?;
        let _ = reader.join();
    }
    Ok(hello)
}

fn qemu(accel: &str) -> Command {
    let mut qemu = command("qemu-system-x86_64", ["-machine", "pc", "-accel", accel, "-m", "16", "-nodefaults"]);
    qemu.args(["-display", "none", "-serial", "stdio", "-drive"]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    qemu
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_smallest_guest_says_hello_under_emulation() {
        assert!(super::says_hello("tcg", std::time::Duration::from_secs(60)).unwrap());
    }
}
