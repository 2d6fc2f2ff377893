//! The initramfs: a newc archive of a tree, the same bytes for the same tree.
//! Knows the kernel's unpacker (hard links, 4 GiB files), not what is in the tree and not how it is compressed.

use std::collections::HashMap;
use std::io::{self, Write};

use cpio::newc::{self, ModeFileType};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::tree::{Kind, MTIME, Node, Tree};

/// Files below this size become links only where they were links before: one between two small configuration files
/// would save nothing and let one change with the other.
const LINK_FROM: usize = 4096;

/// An initramfs that cannot be written.
#[derive(Debug, Error)]
pub enum Error {
    /// newc holds sizes in 32 bits.
    #[error("`{path}` is larger than the 4 GiB that an initramfs can hold per file")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// Writing failed.
    #[error("cannot write the initramfs at `{path}`")]
    Write {
        /// The entry that was being written.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What makes two files one: the same content, or being one file in the image they come from; and the same owner.
type Identity = (Content, u32, u32, u32);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Content {
    Same([u8; 32]),
    Linked(usize),
}

/// Written before all others: a machine with too little memory keeps the beginning of the archive, and with it the
/// program that says so.
const FIRST: [&str; 4] = ["init", "etc", "etc/ironhook", "etc/ironhook/entries"];

/// Writes the tree, then the end marker holding the number of entries before it, then the trailer.
/// Returns that number.
pub fn write(tree: &Tree, end_marker: &str, out: &mut dyn Write) -> Result<usize, Error> {
    let count = entries(tree, out)?;
    let marker = Node::file(format!("{count}\n"), 0o644);
    let number = u32::try_from(count + 1).unwrap_or(u32::MAX);
    write_entry(out, end_marker, &marker, Inode { number, nlink: 1, with_content: true })?;
    trailer(out)?;
    Ok(count)
}

/// Writes the tree alone: an archive that comes after the first.
pub fn write_plain(tree: &Tree, out: &mut dyn Write) -> Result<(), Error> {
    entries(tree, out)?;
    trailer(out)
}

fn trailer(out: &mut dyn Write) -> Result<(), Error> {
    newc::trailer(out).map(|_| ()).map_err(|source| Error::Write { path: "end".into(), source })
}

fn entries(tree: &Tree, out: &mut dyn Write) -> Result<usize, Error> {
    let identities: HashMap<&str, Identity> =
        tree.iter().filter_map(|(path, node)| Some((path, identity(node)?))).collect();
    let mut links: HashMap<Identity, u32> = HashMap::new();
    for identity in identities.values() {
        *links.entry(*identity).or_default() += 1;
    }
    let mut inodes: HashMap<Identity, u32> = HashMap::new();
    let mut count = 0;
    let first = |entry: &(&str, &Node)| FIRST.contains(&entry.0);
    let ordered = tree.iter().filter(first).chain(tree.iter().filter(|entry| !first(entry)));
    for (index, (path, node)) in ordered.enumerate() {
        let own = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let identity = identities.get(path).filter(|identity| links[*identity] > 1);
        let (inode, first) = match identity {
            Some(identity) => match inodes.get(identity) {
                Some(inode) => (*inode, false),
                None => {
                    inodes.insert(*identity, own);
                    (own, true)
                }
            },
            None => (own, true),
        };
        let nlink = identity.map_or(1, |identity| links[identity]);
        write_entry(out, path, node, Inode { number: inode, nlink, with_content: first })?;
        count += 1;
    }
    Ok(count)
}

fn identity(node: &Node) -> Option<Identity> {
    match &node.kind {
        Kind::File(content) => {
            let content = match content.len() {
                LINK_FROM.. => Content::Same(Sha256::digest(content.as_slice()).into()),
                _ => Content::Linked(content.as_ptr() as usize),
            };
            Some((content, node.mode, node.uid, node.gid))
        }
        _ => None,
    }
}

struct Inode {
    number: u32,
    nlink: u32,
    with_content: bool,
}

fn write_entry(out: &mut dyn Write, path: &str, node: &Node, inode: Inode) -> Result<(), Error> {
    let builder = newc::Builder::new(path.trim_start_matches('/'))
        .ino(inode.number)
        .nlink(inode.nlink)
        .mode(node.mode)
        .uid(node.uid)
        .gid(node.gid)
        .mtime(MTIME);
    let (builder, content): (_, &[u8]) = match &node.kind {
        Kind::Directory => (builder.set_mode_file_type(ModeFileType::Directory), b""),
        Kind::Symlink(target) => (builder.set_mode_file_type(ModeFileType::Symlink), target.as_bytes()),
        Kind::Fifo => (builder.set_mode_file_type(ModeFileType::Fifo), b""),
        Kind::Device { character, major, minor } => {
            let kind = if *character { ModeFileType::Char } else { ModeFileType::Block };
            (builder.set_mode_file_type(kind).rdev_major(*major).rdev_minor(*minor), b"")
        }
        Kind::File(content) => {
            let content = if inode.with_content { content.as_slice() } else { b"" };
            (builder.set_mode_file_type(ModeFileType::Regular), content)
        }
    };
    let size = u32::try_from(content.len()).map_err(|_| Error::TooLarge { path: path.to_owned() })?;
    let fail = |source| Error::Write { path: path.to_owned(), source };
    let mut writer = builder.write(out, size);
    writer.write_all(content).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        let big = vec![42; 9000];
        for path in ["containers/a/lower/bin/x", "containers/b/lower/bin/x"] {
            tree.insert(path, Node::file(big.clone(), 0o755)).unwrap();
        }
        tree.insert("containers/c/x", Node::file(big, 0o644)).unwrap();
        let small = Node::file("linked", 0o644);
        tree.insert("etc/one", small.clone()).unwrap();
        tree.insert("etc/other", small).unwrap();
        tree.insert("etc/same", Node::file("linked", 0o644)).unwrap();
        tree.insert("etc/hosts", Node::file("127.0.0.1 localhost\n", 0o644)).unwrap();
        tree.insert("init", Node::symlink("sbin/init")).unwrap();
        tree
    }

    fn archive() -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let count = write(&tree(), "/etc/ironhook/end", &mut bytes).unwrap();
        (bytes, count)
    }

    #[test]
    fn equal_content_is_stored_once_and_the_marker_is_last_with_the_count() {
        let (bytes, count) = archive();
        let mut rest: &[u8] = &bytes;
        let mut seen = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = Vec::new();
            io::Read::read_to_end(&mut reader, &mut content).unwrap();
            let entry = reader.entry();
            seen.push((entry.name().to_owned(), entry.ino(), entry.nlink(), content.len(), entry.mtime()));
            rest = reader.finish().unwrap();
        }
        let find = |name: &str| seen.iter().find(|entry| entry.0 == name).unwrap();
        let (a, b, c) = (find("containers/a/lower/bin/x"), find("containers/b/lower/bin/x"), find("containers/c/x"));
        assert_eq!((a.1, a.2, a.3), (b.1, 2, 9000));
        assert_eq!(b.3, 0, "the second link holds no content");
        assert!(c.1 != a.1 && c.3 == 9000, "another mode is another file");
        let (one, other, same) = (find("etc/one"), find("etc/other"), find("etc/same"));
        assert!(one.1 == other.1 && one.2 == 2 && other.3 == 0, "a hard link stays one");
        assert!(same.1 != one.1 && same.2 == 1 && same.3 == 6, "small files of equal content stay two");
        assert_eq!(seen.last().unwrap().0, "etc/ironhook/end");
        let first: Vec<_> = seen.iter().take(2).map(|entry| entry.0.as_str()).collect();
        assert_eq!(first, ["etc", "init"], "what has to be there when the rest is not");
        assert_eq!(seen.len(), count + 1);
        assert!(seen.iter().all(|entry| entry.4 == MTIME));
    }

    #[test]
    fn two_archives_of_one_tree_are_the_same_bytes() {
        assert_eq!(archive(), archive());
    }
}
