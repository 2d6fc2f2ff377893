//! From package names to an ext4 file system in a file, without mounting anything.
//! Needs root only for what user namespaces give anyone: file owners.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{EPOCH, ROOT_LABEL, TargetError, file_error};
use crate::command::{command, run};

/// Small enough to be written quickly under emulation, with room for a first boot to write to.
pub(super) const ROOT_SIZE: u64 = 384 << 20;
/// Fixed, so that a rebuild from the same packages differs as little as possible.
const UUID: &str = "6a2f0c1e-5d0b-4c57-9f0e-1d2c3b4a5968";

/// Installs the packages of the recipe; the result is a tar archive with owners and modes.
pub(super) fn bootstrap(repo: &Path, recipe: &Path, work: &Path) -> Result<PathBuf, TargetError> {
    let list = recipe.join("packages");
    let text = fs::read_to_string(&list).map_err(file_error(&list))?;
    let packages: Vec<&str> =
        text.lines().filter_map(|line| line.split('#').next()).map(str::trim).filter(|p| !p.is_empty()).collect();
    let mirror = run(&mut Command::new(repo.join("hack/mirror")))?;
    let tar = work.join("root.tar");
    let mut mmdebstrap = command("mmdebstrap", ["--quiet", "--variant=essential", "--skip=output/dev"]);
    mmdebstrap.env("SOURCE_DATE_EPOCH", EPOCH).env("RECIPE", recipe);
    mmdebstrap.arg(format!("--include={}", packages.join(",")));
    for tree in ["doc", "man", "info", "locale", "lintian", "bug"] {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{tree}/*"));
    }
    // Before the packages, because the initramfs is made while the kernel is installed.
    mmdebstrap.arg("--setup-hook=cp -R \"$RECIPE/rootfs/.\" \"$1\"/ && chmod -R u=rwX,go=rX \"$1\"/etc \"$1\"/usr");
    mmdebstrap.arg("--customize-hook=chroot \"$1\" systemctl --quiet enable systemd-networkd.service");
    run(mmdebstrap.arg("trixie").arg(&tar).arg(mirror.trim()))?;
    Ok(tar)
}

/// Makes an ext4 file system with the contents of the archive.
pub(super) fn file_system(tar: &Path, work: &Path) -> Result<PathBuf, TargetError> {
    let image = work.join("root.ext4");
    let script = r#"set -e
        tree=$(mktemp -d -p "$WORK" tree.XXXXXX)
        trap 'rm -rf "$tree"' EXIT
        tar -C "$tree" --numeric-owner -xf "$TAR"
        mkdir -p "$tree/dev"
        truncate -s "$SIZE" "$IMAGE"
        mke2fs -q -t ext4 -L "$LABEL" -U "$ID" -E "hash_seed=$ID,root_owner=0:0" -m 0 \
            -O '^metadata_csum_seed,^orphan_file' -d "$tree" "$IMAGE""#;
    let mut shell = if is_root()? {
        command("sh", ["-c", script])
    } else {
        command("unshare", ["--user", "--map-auto", "--map-root-user", "sh", "-c", script])
    };
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    shell.env("PATH", path).env("E2FSPROGS_FAKE_TIME", EPOCH).env("SIZE", ROOT_SIZE.to_string());
    shell.env("LABEL", ROOT_LABEL).env("ID", UUID);
    run(shell.env("WORK", work).env("TAR", tar).env("IMAGE", &image))?;
    Ok(image)
}

fn is_root() -> Result<bool, TargetError> {
    Ok(run(&mut command("id", ["-u"]))?.trim() == "0")
}
