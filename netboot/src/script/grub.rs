//! The same decisions for boot programs that run no iPXE script: GRUB (Secure Boot, virtual media), pxelinux, and the
//! `cmdline.txt` of a Raspberry Pi. Pure.

use super::line::{Line, LineError};
use super::plain;
use crate::Settings;

/// Sends GRUB to the configuration of its own interface: what is the same for everybody.
pub(super) const DOORMAN: &str = "\
set timeout=0\n\
configfile /grub/${net_default_mac}/grub.cfg\n\
echo Ironhook: the server has no configuration for ${net_default_mac}\n\
sleep 60\n\
reboot\n";

/// Kernel and initramfs from where GRUB itself came; `root` is a GRUB path prefix, empty for the device it came from.
pub(super) fn installer(who: &str, root: &str, arch: &str, line: &Line) -> Result<String, LineError> {
    let words: Vec<String> = line.text.split(' ').map(quoted).collect::<Result<_, _>>()?;
    let line = words.join(" ");
    Ok(format!(
        "set timeout=0\n\
         echo \"Ironhook: {who} boots the installation environment\"\n\
         if linux {root}/vmlinuz-{arch} {line}; then\n\
         \x20 if initrd {root}/initramfs-{arch}; then\n\
         \x20   boot\n\
         \x20 fi\n\
         fi\n\
         echo \"Ironhook: kernel or initramfs cannot be loaded (the reason is above). This machine starts again in 60 seconds\"\n\
         sleep 60\n\
         reboot\n",
        who = screen(who),
    ))
}

/// Back to the firmware.
pub(super) fn disk(who: &str, why: &str) -> String {
    format!("echo \"Ironhook: {} boots from its own disk: {}\"\nsleep 2\nexit 1\n", screen(who), screen(why))
}

/// The reason on the screen, and the same question again.
pub(super) fn park(who: &str, why: &str) -> String {
    format!(
        "echo \"Ironhook: {} is parked: {}\"\necho \"Ironhook: this machine asks again every 5 minutes\"\nsleep 300\nreboot\n",
        screen(who),
        screen(why)
    )
}

/// For pxelinux, whose LOCALBOOT goes on with the firmware's order.
pub(super) fn pxelinux_disk() -> String {
    "DEFAULT disk\nPROMPT 0\nLABEL disk\n  LOCALBOOT -1\n".into()
}

/// For pxelinux and isolinux: kernel and initramfs from where it came itself. `initrd=` in the line, which is for the
/// kernel's EFI stub, would be another INITRD to them.
pub(super) fn pxelinux_installer(arch: &str, line: &Line) -> String {
    let line: Vec<&str> = line.text.split(' ').filter(|word| !word.starts_with("initrd=")).collect();
    format!(
        "DEFAULT ironhook\nPROMPT 0\nLABEL ironhook\n  KERNEL vmlinuz-{arch}\n  INITRD initramfs-{arch}\n  APPEND {}\n",
        line.join(" ")
    )
}

/// For the boot program of a Raspberry Pi, beside its firmware.
pub(super) fn raspberry_config(_settings: &Settings) -> String {
    "arm_64bit=1\nenable_uart=1\nkernel=vmlinuz-aarch64\ninitramfs initramfs-aarch64 followkernel\n".into()
}

/// GRUB reads its configuration as a shell does.
fn quoted(word: &str) -> Result<String, LineError> {
    if word.contains('\'') {
        return Err(LineError::Argument(word.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+@%".contains(c);
    Ok(if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") })
}

/// Between double quotes.
fn screen(text: &str) -> String {
    plain(text).replace(['"', '$', '\\', '`'], "'")
}
