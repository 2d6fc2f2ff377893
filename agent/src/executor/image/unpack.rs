//! A layer, an archive from anywhere, onto a root file system: no path leaves it, what it takes away is gone, and it stays
//! within a budget of bytes and entries.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sys::tree::{Special, Tree};
use tar::EntryType;

use crate::executor::memory;

/// More than any image of the field has.
const ENTRIES: u64 = 1 << 20;
const BYTES: u64 = 64 << 30;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const XATTR: &str = "SCHILY.xattr.";

/// The layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive, or the transfer below it.
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    /// The file system.
    #[error("cannot write {path}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tree being built.
    #[error(transparent)]
    Tree(#[from] sys::tree::Error),
    /// A name that leads out of the image.
    #[error("{0:?} leads out of the image")]
    Outside(PathBuf),
    /// A kind of entry that no image has.
    #[error("{0:?} is of a kind that images do not have")]
    Kind(PathBuf),
    /// It is larger than there is room for.
    #[error("it unpacks to more than {most} {what}")]
    Budget {
        /// How much there is.
        most: u64,
        /// Of what.
        what: &'static str,
    },
}

/// What may still be unpacked.
#[derive(Debug)]
pub struct Budget {
    most: u64,
    bytes: u64,
    entries: u64,
}

impl Budget {
    /// Of an image that is unpacked to this place: where that is in memory, what can be spared.
    pub fn of(place: &Path) -> Self {
        let in_memory = sys::mounts::is_in_memory(place).unwrap_or(false);
        let most = if in_memory { memory::spare() } else { BYTES };
        Self { most, bytes: most, entries: ENTRIES }
    }

    fn take(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.entries = self.entries.checked_sub(1).ok_or(UnpackError::Budget { most: ENTRIES, what: "entries" })?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(UnpackError::Budget { most: self.most, what: "bytes" })?;
        Ok(())
    }
}

/// Adds a layer, compressed or not, to the tree at `root`.
pub fn layer(reader: &mut dyn Read, root: &Path, budget: &mut Budget) -> Result<(), UnpackError> {
    let mut reader = BufReader::with_capacity(1 << 17, reader);
    let head = reader.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let mut plain = flate2::bufread::MultiGzDecoder::new(reader);
        unpack(&mut plain, root, budget)?;
        return to_end(plain);
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut plain = zstd::stream::read::Decoder::with_buffer(reader)?;
        unpack(&mut plain, root, budget)?;
        return to_end(plain);
    }
    unpack(&mut reader, root, budget)?;
    to_end(reader)
}

/// What is behind the archive's end is read, because the stream's digest is only checked there.
fn to_end(mut rest: impl Read) -> Result<(), UnpackError> {
    let mut sink = [0; 1 << 14];
    while rest.read(&mut sink)? > 0 {}
    Ok(())
}

fn unpack(reader: &mut dyn Read, root: &Path, budget: &mut Budget) -> Result<(), UnpackError> {
    let mut tree = Tree::open(root)?;
    let mut archive = tar::Archive::new(reader);
    let mut made = HashSet::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            continue;
        }
        budget.take(entry.size())?;
        let path = confined(&entry.path()?)?;
        let name = path.file_name().unwrap_or_default().as_bytes();
        let parent = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            for child in tree.children(parent)?.into_iter().map(|child| parent.join(child)) {
                if !made.contains(&child) {
                    tree.remove(&child)?;
                }
            }
        } else if let Some(gone) = name.strip_prefix(WHITEOUT) {
            let gone = parent.join(OsStr::from_bytes(gone));
            if !gone.as_os_str().is_empty() && !made.contains(&gone) {
                tree.remove(&gone)?;
            }
        } else {
            add(&mut tree, &mut entry, &path)?;
            made.extend(path.ancestors().map(Path::to_owned));
        }
    }
    Ok(())
}

fn add<R: Read>(tree: &mut Tree, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<(), UnpackError> {
    let header = entry.header();
    let device = || -> io::Result<(u32, u32)> {
        Ok((header.device_major()?.unwrap_or_default(), header.device_minor()?.unwrap_or_default()))
    };
    let kind = header.entry_type();
    match kind {
        EntryType::Directory => drop(tree.directory(path)?),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mut file = tree.file(path)?;
            io::copy(entry, &mut file).map_err(|source| UnpackError::Write { path: path.to_owned(), source })?;
        }
        EntryType::Symlink => tree.symlink(path, &target(entry, path)?)?,
        // It has the owner and mode of what it links to.
        EntryType::Link => return Ok(tree.hard_link(path, &confined(&target(entry, path)?)?)?),
        EntryType::Char => {
            let (major, minor) = device()?;
            tree.special(path, Special::Character(major, minor))?;
        }
        EntryType::Block => {
            let (major, minor) = device()?;
            tree.special(path, Special::Block(major, minor))?;
        }
        EntryType::Fifo => tree.special(path, Special::Fifo)?,
        _ => return Err(UnpackError::Kind(path.to_owned())),
    }
    dress(tree, entry, path, kind)
}

/// Owner before mode, because the kernel takes set-uid away with a new owner; attributes last, capabilities likewise.
fn dress<R: Read>(
    tree: &mut Tree,
    entry: &mut tar::Entry<'_, R>,
    path: &Path,
    kind: EntryType,
) -> Result<(), UnpackError> {
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| UnpackError::Kind(path.to_owned()));
    let (uid, gid, mode) = (id(header.uid()?)?, id(header.gid()?)?, header.mode()?);
    tree.set_owner(path, uid, gid)?;
    if kind != EntryType::Symlink {
        tree.set_mode(path, mode & 0o7777)?;
    }
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(XATTR)) else { continue };
        // Others belong to file systems or policies of another machine.
        if name == "security.capability" || name.starts_with("user.") {
            tree.set_xattr(path, name.as_bytes(), extension.value_bytes())?;
        }
    }
    Ok(())
}

fn target<R: Read>(entry: &tar::Entry<'_, R>, path: &Path) -> Result<PathBuf, UnpackError> {
    Ok(entry.link_name()?.ok_or_else(|| UnpackError::Kind(path.to_owned()))?.into_owned())
}

/// Relative, without `.`; empty for the root itself.
fn confined(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(UnpackError::Outside(path.to_owned())),
        }
    }
    Ok(clean)
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
