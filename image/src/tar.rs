//! Between tar archives and trees: packages and layers come in, layers and `--format tar` go out.
//! Whiteouts are for layers only; whoever reads a layer says so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use tar::{Archive, Builder, Entry, EntryType, Header};
use thiserror::Error;

use crate::tree::{self, Kind, MTIME, Node, Tree};

/// An archive that cannot be read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// The archive is damaged or ends early.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// An entry cannot be part of a tree.
    #[error("entry `{path}` of the archive is unusable")]
    Entry {
        /// The entry.
        path: String,
        /// Why.
        #[source]
        source: tree::Error,
    },
    /// A hard link to something the archive does not hold.
    #[error("entry `{path}` is a hard link to `{target}`, which is no file of the archive")]
    HardLink {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A file larger than an initramfs can hold, or a size that is a lie.
    #[error("entry `{path}` claims {size} bytes; an image can hold less than 4 GiB per file")]
    TooLarge {
        /// The entry.
        path: String,
        /// As the header says it.
        size: u64,
    },
    /// More than any machine would want to hold in memory.
    #[error("the archive unpacks to more than {} GiB", LIMIT >> 30)]
    Bomb,
    /// A name that we cannot keep as it is.
    #[error("entry `{path}` has a name that is not UTF-8")]
    Name {
        /// As far as it can be shown.
        path: String,
    },
    /// An owner that does not fit 32 bits.
    #[error("entry `{path}` belongs to {id}, which is no user or group")]
    Owner {
        /// The entry.
        path: String,
        /// As the header says it.
        id: u64,
    },
    /// An entry of a kind that has no place in an image.
    #[error("entry `{path}` of the archive is of kind {kind:?}, which an image cannot hold")]
    Unsupported {
        /// The entry.
        path: String,
        /// The kind as the archive says it.
        kind: EntryType,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive entry `{path}`")]
    Write {
        /// The entry.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads all entries over `tree`; later ones win. `rename` may move a path before it is placed.
pub fn read_into(tree: &mut Tree, reader: impl Read, rename: impl Fn(String) -> String) -> Result<(), Error> {
    for_each(reader, |path, node| {
        let path = rename(path);
        match node {
            Incoming::Node(node) => {
                // A directory of a package may be a link elsewhere; the first directory keeps its place.
                tree.insert(&path, node).map_err(|source| Error::Entry { path, source })
            }
            Incoming::HardLink(target) => {
                let target = rename(target);
                let node = linked(tree.get(&target)).ok_or(Error::HardLink { path: path.clone(), target })?;
                tree.insert(&path, node).map_err(|source| Error::Entry { path, source })
            }
        }
    })
}

/// Applies a layer: whiteouts take away what lower layers brought, a changed kind replaces the old one.
pub fn apply_layer(tree: &mut Tree, reader: impl Read) -> Result<(), Error> {
    let mut layer = Tree::default();
    let (mut whiteouts, mut named) = (Vec::new(), BTreeSet::new());
    for_each(reader, |path, node| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == ".wh..wh..opq" {
            whiteouts.push((directory.to_owned(), true));
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            whiteouts.push((format!("{directory}/{hidden}").trim_start_matches('/').to_owned(), false));
            return Ok(());
        }
        let node = match node {
            Incoming::Node(node) => node,
            Incoming::HardLink(target) => {
                let found = linked(layer.get(&target).or_else(|| tree.get(&target)));
                found.ok_or_else(|| Error::HardLink { path: path.clone(), target })?
            }
        };
        named.insert(path.clone());
        layer.insert(&path, node).map_err(|source| Error::Entry { path, source })
    })?;
    for (path, opaque) in whiteouts {
        let below: Vec<String> = tree.children(&path).map(str::to_owned).collect();
        below.iter().for_each(|path| tree.remove(path));
        if !opaque {
            tree.remove(&path);
        }
    }
    for (path, node) in layer.iter() {
        // A directory that the layer only implies replaces nothing: the files would leave the link's target silently.
        let implied = node.kind == Kind::Directory && !named.contains(path);
        match tree.get(path) {
            Some(old) if old.kind == Kind::Directory && implied => continue,
            Some(old) if old.kind.name() != node.kind.name() && !implied => tree.remove(path),
            Some(old) if old.kind.name() != node.kind.name() => {
                let source = tree::Error::Implied { path: path.to_owned(), kind: old.kind.name() };
                return Err(Error::Entry { path: path.to_owned(), source });
            }
            _ => {}
        }
        tree.insert(path, node.clone()).map_err(|source| Error::Entry { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// What a hard link may lead to: anything but a directory.
fn linked(target: Option<&Node>) -> Option<Node> {
    target.filter(|node| node.kind != Kind::Directory).cloned()
}

enum Incoming {
    Node(Node),
    HardLink(String),
}

/// The most that one archive may unpack to, with its headers.
const LIMIT: u64 = 4 << 30;

fn for_each(reader: impl Read, mut visit: impl FnMut(String, Incoming) -> Result<(), Error>) -> Result<(), Error> {
    let mut archive = Archive::new(reader.take(LIMIT));
    let mut total = 0;
    let mut lost = 0;
    for entry in archive.entries().map_err(Error::Read)? {
        let mut entry = entry.map_err(Error::Read)?;
        let path = path(&entry.path_bytes())?;
        if path.is_empty() {
            continue;
        }
        let size = entry.size();
        total += size;
        if size > u64::from(u32::MAX) {
            return Err(Error::TooLarge { path, size });
        }
        if total > LIMIT {
            return Err(Error::Bomb);
        }
        lost += usize::from(has_attributes(&mut entry)?);
        let incoming = incoming(&path, &mut entry)?;
        visit(path, incoming)?;
    }
    if lost > 0 {
        tracing::warn!("extended attributes of {lost} files are left out: an initramfs cannot hold them");
    }
    Ok(())
}

fn path(bytes: &[u8]) -> Result<String, Error> {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    let raw = std::str::from_utf8(bytes).map_err(|_| Error::Name { path: shown() })?;
    tree::normalise(raw).map_err(|source| Error::Entry { path: shown(), source })
}

fn has_attributes(entry: &mut Entry<impl Read>) -> Result<bool, Error> {
    let Some(extensions) = entry.pax_extensions().map_err(Error::Read)? else { return Ok(false) };
    Ok(extensions.flatten().any(|extension| extension.key_bytes().starts_with(b"SCHILY.xattr.")))
}

fn incoming(path: &str, entry: &mut Entry<impl Read>) -> Result<Incoming, Error> {
    let header = entry.header();
    let id = |id: io::Result<u64>| {
        let id = id.map_err(Error::Read)?;
        u32::try_from(id).map_err(|_| Error::Owner { path: path.to_owned(), id })
    };
    let (mode, uid, gid) = (header.mode().map_err(Error::Read)? & 0o7777, id(header.uid())?, id(header.gid())?);
    let link = entry.link_name_bytes().unwrap_or_default().into_owned();
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => {
            Kind::Symlink(String::from_utf8(link).map_err(|_| Error::Name { path: path.to_owned() })?)
        }
        EntryType::Fifo => Kind::Fifo,
        kind @ (EntryType::Char | EntryType::Block) => Kind::Device {
            character: kind == EntryType::Char,
            major: header.device_major().map_err(Error::Read)?.unwrap_or(0),
            minor: header.device_minor().map_err(Error::Read)?.unwrap_or(0),
        },
        EntryType::Link => return Ok(Incoming::HardLink(self::path(&link)?)),
        EntryType::Regular | EntryType::Continuous => {
            let size = entry.size();
            let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0).min(1 << 26));
            entry.read_to_end(&mut content).map_err(Error::Read)?;
            if content.len() as u64 != size {
                return Err(Error::Read(io::ErrorKind::UnexpectedEof.into()));
            }
            Kind::File(content.into())
        }
        kind => return Err(Error::Unsupported { path: path.to_owned(), kind }),
    };
    Ok(Incoming::Node(Node { kind, mode, uid, gid }))
}

/// Writes a tree in the order of its paths, with hard links for files that share their content and owner.
pub fn write(tree: &Tree, out: &mut dyn Write) -> Result<(), Error> {
    let mut builder = Builder::new(out);
    let mut written: BTreeMap<(usize, u32, u32, u32), String> = BTreeMap::new();
    for (path, node) in tree.iter() {
        let fail = |source| Error::Write { path: path.to_owned(), source };
        let mut header = Header::new_gnu();
        header.set_mode(node.mode);
        header.set_uid(node.uid.into());
        header.set_gid(node.gid.into());
        header.set_mtime(MTIME.into());
        header.set_size(0);
        match &node.kind {
            Kind::Directory => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, format!("{path}/"), io::empty()).map_err(fail)?;
            }
            Kind::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, path, target).map_err(fail)?;
            }
            Kind::Device { character, major, minor } => {
                header.set_entry_type(if *character { EntryType::Char } else { EntryType::Block });
                header.set_device_major(*major).map_err(fail)?;
                header.set_device_minor(*minor).map_err(fail)?;
                builder.append_data(&mut header, path, io::empty()).map_err(fail)?;
            }
            Kind::Fifo => {
                header.set_entry_type(EntryType::Fifo);
                builder.append_data(&mut header, path, io::empty()).map_err(fail)?;
            }
            Kind::File(content) => {
                let identity = (content.as_ptr() as usize, node.mode, node.uid, node.gid);
                if let Some(first) = written.get(&identity).filter(|_| !content.is_empty()) {
                    header.set_entry_type(EntryType::Link);
                    builder.append_link(&mut header, path, first).map_err(fail)?;
                    continue;
                }
                written.insert(identity, path.to_owned());
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, content.as_slice()).map_err(fail)?;
            }
        }
    }
    builder.finish().map_err(|source| Error::Write { path: "end".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(tree, &mut bytes).unwrap();
        bytes
    }

    fn tree(entries: &[(&str, Node)]) -> Tree {
        let mut tree = Tree::default();
        for (path, node) in entries {
            tree.insert(path, node.clone()).unwrap();
        }
        tree
    }

    #[test]
    fn a_tree_survives_the_round_trip() {
        let long = format!("usr/{}/file", "d".repeat(180));
        let shared = Node::file("shared", 0o755);
        let before = tree(&[
            ("bin", Node::symlink("usr/bin")),
            ("usr/bin/a", shared.clone()),
            ("usr/bin/b", shared),
            (&long, Node::file("x", 0o600)),
            (
                "dev/null",
                Node { kind: Kind::Device { character: true, major: 1, minor: 3 }, mode: 0o666, uid: 0, gid: 0 },
            ),
        ]);
        let mut after = Tree::default();
        read_into(&mut after, packed(&before).as_slice(), |path| path).unwrap();
        assert_eq!(after, before);
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_lower_layers() {
        let mut merged =
            tree(&[("a/x", Node::file("1", 0o644)), ("a/y", Node::file("1", 0o644)), ("o/z", Node::file("1", 0o644))]);
        let upper = tree(&[
            ("a/.wh.x", Node::file("", 0o644)),
            ("o/.wh..wh..opq", Node::file("", 0o644)),
            ("o/new", Node::file("2", 0o644)),
        ]);
        apply_layer(&mut merged, packed(&upper).as_slice()).unwrap();
        assert_eq!(merged.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "a/y", "o", "o/new"]);
    }

    #[test]
    fn an_implied_directory_keeps_the_mode_and_never_replaces_a_link() {
        let header = |path: &str| {
            let mut header = Header::new_gnu();
            header.set_path(path).unwrap();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_cksum();
            [header.as_bytes().as_slice(), &[0; 1024]].concat()
        };
        let mut below = tree(&[("etc", Node::directory(0o700)), ("lib", Node::symlink("usr/lib"))]);
        apply_layer(&mut below, header("etc/x").as_slice()).unwrap();
        assert_eq!(below.get("etc").unwrap().mode, 0o700);
        let error = apply_layer(&mut below, header("lib/x").as_slice()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("`lib` is a symbolic link in a lower layer"), "{source}");
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let bytes = packed(&tree(&[("a", Node::file(vec![7; 4000], 0o644))]));
        assert!(read_into(&mut Tree::default(), &bytes[..2000], |path| path).is_err());
    }
}
