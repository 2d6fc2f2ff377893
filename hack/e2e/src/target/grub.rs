//! GRUB for both firmwares as plain files, made from the host's modules with the configuration inside:
//! nothing of GRUB has to be found on the disk at boot. Writing them onto the disk is `disk`'s.

use std::fs;
use std::path::{Path, PathBuf};

use super::{TargetError, file_error};
use crate::command::{command, run};

/// Where Debian's grub-pc-bin and grub-efi-amd64-bin put their modules.
const MODULES: &str = "/usr/lib/grub";
const COMMON: [&str; 9] = ["part_gpt", "ext2", "search", "search_label", "linux", "boot", "serial", "terminal", "echo"];

/// What goes onto the disk.
pub(super) struct Grub {
    /// The boot sector; only its first 440 bytes are code.
    pub boot: Vec<u8>,
    /// What the boot sector loads: GRUB's kernel and modules.
    pub core: Vec<u8>,
    /// `EFI/BOOT/BOOTX64.EFI`.
    pub efi: PathBuf,
}

/// Makes the images.
pub(super) fn images(recipe: &Path, work: &Path) -> Result<Grub, TargetError> {
    let config = recipe.join("grub.cfg");
    let core = work.join("core.img");
    make("i386-pc", &["biosdisk"], &config, &core)?;
    let efi = work.join("BOOTX64.EFI");
    make("x86_64-efi", &["all_video"], &config, &efi)?;
    let boot = Path::new(MODULES).join("i386-pc/boot.img");
    Ok(Grub { boot: boot_sector(&boot)?, core: read(&core)?, efi })
}

fn make(platform: &str, extra: &[&str], config: &Path, output: &Path) -> Result<(), TargetError> {
    let mut mkimage = command("grub-mkimage", ["-O", platform, "-p", "/boot/grub", "-d"]);
    mkimage.arg(Path::new(MODULES).join(platform)).arg("-c").arg(config).arg("-o").arg(output);
    run(mkimage.args(COMMON).args(extra))?;
    Ok(())
}

fn boot_sector(path: &Path) -> Result<Vec<u8>, TargetError> {
    let boot = read(path)?;
    let problem = if boot.len() != 512 {
        "not one sector"
    } else if boot[510..] != [0x55, 0xaa] {
        "no boot signature"
    } else {
        return Ok(boot);
    };
    Err(TargetError::Grub { path: path.to_owned(), problem })
}

fn read(path: &Path) -> Result<Vec<u8>, TargetError> {
    fs::read(path).map_err(file_error(path))
}
