//! The layer of stage two: a tree as a squashfs, made by squashfs-tools from a tar on its standard input, the same bytes
//! for the same tree and the same version of the tool, on any number of cores.

use std::io::{self, BufWriter};
use std::path::Path;
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::tar;
use crate::tree::{MTIME, Tree};

/// A layer that cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// The tool is not there.
    #[error("cannot run mksquashfs; `make deps` installs it (package squashfs-tools)")]
    Start(#[source] io::Error),
    /// The tool failed.
    #[error("mksquashfs failed: {said}")]
    Failed {
        /// Its last words.
        said: String,
    },
    /// It does not take the tree.
    #[error("cannot hand the tree to mksquashfs")]
    Feed(#[source] tar::Error),
}

/// Writes the tree as a squashfs into a file that exists and is empty; `threads` shows only in the time it takes.
pub fn write(tree: &Tree, level: u32, threads: u32, path: &Path) -> Result<(), Error> {
    let (level, time) = (level.to_string(), MTIME.to_string());
    let mut child = Command::new("mksquashfs")
        .arg("-")
        .arg(path)
        .args(["-tar", "-comp", "zstd", "-Xcompression-level", &level, "-mkfs-time", &time, "-all-time", &time])
        .args(["-root-time", &time, "-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .args(["-processors", &threads.to_string()])
        .args(["-no-xattrs", "-no-progress", "-quiet", "-noappend"])
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::Start)?;
    let fed = match child.stdin.take() {
        Some(stdin) => tar::write(tree, &mut BufWriter::with_capacity(1 << 20, stdin)),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(Error::Start)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason given").to_owned();
        return Err(Error::Failed { said });
    }
    fed.map_err(Error::Feed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    #[test]
    fn a_layer_is_the_same_bytes_whatever_compresses_it() {
        let mut tree = Tree::default();
        for index in 0..40u32 {
            let content: Vec<u8> = (0..90_000u32).map(|at| (at.wrapping_mul(index + 3) >> 5) as u8).collect();
            tree.insert(&format!("services/x/lower/{index}"), Node { uid: index, ..Node::file(content, 0o640) })
                .unwrap();
        }
        tree.insert("services/x/lower/link", Node::symlink("0")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let made = |threads| {
            let path = directory.path().join(format!("layer{threads}"));
            std::fs::write(&path, "").unwrap();
            write(&tree, 3, threads, &path).unwrap();
            std::fs::read(path).unwrap()
        };
        let one = made(1);
        assert!(one.starts_with(b"hsqs"));
        assert!(one == made(2) && one == made(5));
    }
}
