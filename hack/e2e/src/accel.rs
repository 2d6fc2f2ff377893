//! Which accelerator QEMU may use. KVM is used only after a tiny guest on the same machine and processor as all others
//! said hello under it within a time limit: there are hosts where /dev/kvm opens and the guest then hangs or QEMU ends.

use std::io::{self, BufReader, Read};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::vm;

const LIMIT: Duration = Duration::from_secs(5);
/// SeaBIOS boots from no disk of a single sector.
const DISK: usize = 1 << 20;
/// On the first serial port, behind what the firmware says: `mov dx, 0x3f8`; `cs lodsb` from behind the code,
/// `out dx, al` until NUL; `hlt; jmp $-1`.
const HELLO: &[u8] =
    b"\xba\xf8\x03\xbe\x13\x7c\x2e\xac\x84\xc0\x74\x03\xee\xeb\xf7\xf4\xeb\xfd\0hello from the guest\0";
const SAID: &str = "hello from the guest";

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
    let mut disk = vec![0; DISK];
    disk[..HELLO.len()].copy_from_slice(HELLO);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(&image, disk)?;
    let mut qemu = vm::base(accel);
    qemu.args(["-m", "64M", "-drive", &format!("file={},format=raw,if=ide", image.display())]);
    let mut child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (said, heard) = mpsc::channel();
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut bytes = output.into_iter().flat_map(|out| BufReader::new(out).bytes()).map_while(Result::ok);
        let hello = bytes.any(|byte| {
            heard.push(byte);
            heard.ends_with(SAID.as_bytes())
        });
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_smallest_guest_says_hello_under_emulation() {
        assert!(super::says_hello("tcg", std::time::Duration::from_secs(60)).unwrap());
    }
}
