//! A file tree in memory: what a package, a layer or a finished image holds. Sorted by path, so everything
//! made from it has one order. Knows the rules of a tree (parents are directories), not where it came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

/// Every entry of every archive we write bears this time (2025-01-01), so that equal inputs give equal bytes.
pub const MTIME: u32 = 1_735_689_600;
/// [`MTIME`] in words.
pub const MTIME_TEXT: &str = "2025-01-01T00:00:00Z";

/// A path that cannot be in a tree, or cannot be there beside what is there already.
#[derive(Debug, Error)]
pub enum Error {
    /// The path is empty, or climbs with `..`.
    #[error("`{path}` is no path inside an image")]
    BadPath {
        /// As it was given.
        path: String,
    },
    /// A parent of the path is a file or a symbolic link.
    #[error("`{path}` cannot be added: `{parent}` is a {kind}, not a directory; ship the files under the real path")]
    ParentNotDirectory {
        /// What should have been added.
        path: String,
        /// Its ancestor.
        parent: String,
        /// What the ancestor is.
        kind: &'static str,
    },
    /// A layer puts files below a path that is no directory in the layers under it.
    #[error("`{path}` is a {kind} in a lower layer, and this layer has files below it; build it on the real path")]
    Implied {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A directory with content would be replaced by something else.
    #[error("`{path}` is a directory with content and cannot become a {kind}")]
    DirectoryInTheWay {
        /// The path.
        path: String,
        /// What it should have become.
        kind: &'static str,
    },
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file; the content is shared between copies.
    File(Arc<Vec<u8>>),
    /// A symbolic link with its target.
    Symlink(String),
    /// A device node.
    Device {
        /// Character device, else block device.
        character: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl Kind {
    /// For messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::Symlink(_) => "symbolic link",
            Self::Device { .. } => "device node",
            Self::Fifo => "named pipe",
        }
    }
}

/// An entry: what it is and whose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Node {
    /// A directory of root.
    pub fn directory(mode: u32) -> Self {
        Self { kind: Kind::Directory, mode, uid: 0, gid: 0 }
    }

    /// A file of root.
    pub fn file(content: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self { kind: Kind::File(Arc::new(content.into())), mode, uid: 0, gid: 0 }
    }

    /// A symbolic link of root.
    pub fn symlink(target: impl Into<String>) -> Self {
        Self { kind: Kind::Symlink(target.into()), mode: 0o777, uid: 0, gid: 0 }
    }
}

/// Paths without leading slash, each with its node. The root itself is no entry.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// Brings `./usr//bin/`, `/usr/bin` and `usr/bin` to the last form; the root becomes the empty string.
pub fn normalise(path: &str) -> Result<String, Error> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Error::BadPath { path: path.to_owned() }),
            part if part.contains('\0') => return Err(Error::BadPath { path: path.to_owned() }),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

impl Tree {
    /// Adds or replaces an entry; missing parents become directories of root with mode 0755.
    pub fn insert(&mut self, path: &str, node: Node) -> Result<(), Error> {
        let path = normalise(path)?;
        if path.is_empty() {
            return if node.kind == Kind::Directory { Ok(()) } else { Err(Error::BadPath { path }) };
        }
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            match self.nodes.get(parent).map(|node| &node.kind) {
                Some(Kind::Directory) => {}
                Some(other) => {
                    let (parent, kind) = (parent.to_owned(), other.name());
                    return Err(Error::ParentNotDirectory { path, parent, kind });
                }
                None => {
                    self.nodes.insert(parent.to_owned(), Node::directory(0o755));
                }
            }
        }
        let replaces_directory = self.nodes.get(&path).is_some_and(|old| old.kind == Kind::Directory);
        if replaces_directory && node.kind != Kind::Directory && self.children(&path).next().is_some() {
            return Err(Error::DirectoryInTheWay { path, kind: node.kind.name() });
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// A directory that must be there; one that is there already keeps its mode.
    pub fn ensure_directory(&mut self, path: &str) -> Result<(), Error> {
        match self.get(path) {
            Some(Node { kind: Kind::Directory, .. }) => Ok(()),
            _ => self.insert(path, Node::directory(0o755)),
        }
    }

    /// Everything of `other` below `prefix`; what is there already is replaced.
    pub fn merge(&mut self, prefix: &str, other: &Tree) -> Result<(), Error> {
        for (path, node) in other.iter() {
            self.insert(&format!("{prefix}/{path}"), node.clone())?;
        }
        Ok(())
    }

    /// Takes away a path and all below it.
    pub fn remove(&mut self, path: &str) {
        let below: Vec<String> = self.children(path).map(str::to_owned).collect();
        for path in below.iter().map(String::as_str).chain([path]) {
            self.nodes.remove(path);
        }
    }

    /// All paths below a directory, at any depth.
    pub fn children<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.nodes
            .range(prefix.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&prefix))
    }

    /// The entry of a path as it stands; symbolic links are not followed.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The content of the file a path leads to, symbolic links (also of parents) followed inside the tree.
    pub fn resolve(&self, path: &str) -> Option<&Node> {
        self.resolve_within(path, 32)
    }

    fn resolve_within(&self, path: &str, links: usize) -> Option<&Node> {
        let mut at: Vec<String> = Vec::new();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        for (index, part) in parts.iter().enumerate() {
            if *part == ".." {
                at.pop();
                continue;
            }
            at.push((*part).to_owned());
            if let Kind::Symlink(target) = &self.get(&at.join("/"))?.kind {
                let rest = parts[index + 1..].join("/");
                let base = if target.starts_with('/') { String::new() } else { at[..at.len() - 1].join("/") };
                return self.resolve_within(&format!("{base}/{target}/{rest}"), links.checked_sub(1)?);
            }
        }
        self.get(&at.join("/"))
    }

    /// All entries in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(entries: &[(&str, Node)]) -> Tree {
        let mut tree = Tree::default();
        for (path, node) in entries {
            tree.insert(path, node.clone()).unwrap();
        }
        tree
    }

    #[test]
    fn parents_come_with_an_entry_and_keep_their_mode() {
        let mut tree = tree(&[("etc", Node::directory(0o700))]);
        tree.insert("/etc/ssl/x", Node::file("a", 0o644)).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, node)| (path, node.mode)).collect();
        assert_eq!(paths, [("etc", 0o700), ("etc/ssl", 0o755), ("etc/ssl/x", 0o644)]);
    }

    #[test]
    fn directory_and_symlink_clash_both_ways() {
        let mut tree = tree(&[("lib", Node::symlink("usr/lib"))]);
        let error = tree.insert("lib/modules/x", Node::file("", 0o644)).unwrap_err().to_string();
        assert!(error.contains("`lib` is a symbolic link"), "{error}");
        tree.insert("usr/lib/a", Node::file("", 0o644)).unwrap();
        let error = tree.insert("usr/lib", Node::symlink("../lib")).unwrap_err().to_string();
        assert!(error.contains("directory with content"), "{error}");
    }

    #[test]
    fn resolve_follows_links_of_parents_and_ends_in_a_loop() {
        let tree = tree(&[
            ("lib64", Node::symlink("usr/lib64")),
            ("usr/lib64/ld.so", Node::symlink("../lib/ld-1.so")),
            ("usr/lib/ld-1.so", Node::file("elf", 0o755)),
            ("a", Node::symlink("b")),
            ("b", Node::symlink("/a")),
        ]);
        assert_eq!(tree.resolve("lib64/ld.so").unwrap().kind, Kind::File(Arc::new(b"elf".to_vec())));
        assert!(tree.resolve("a").is_none() && tree.resolve("lib64/missing").is_none());
    }

    #[test]
    fn climbing_paths_are_refused() {
        assert!(normalise("a/../../b").is_err());
        assert_eq!(normalise("./a//b/").unwrap(), "a/b");
    }

    #[test]
    fn remove_takes_only_the_path_and_what_is_below() {
        let mut tree = tree(&[("a/b/c", Node::file("", 0o644)), ("a/bc", Node::file("", 0o644))]);
        tree.remove("a/b");
        assert_eq!(tree.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "a/bc"]);
    }
}
