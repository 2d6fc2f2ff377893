//! From the entries of an archive to files of a tree: data, owners, modes, times, attributes, links, devices, holes, and
//! what a layer of a container image takes away. Must not know where the archive comes from, nor leave the tree.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use spec::Code;
use sys::tree::{self, Special, Tree};

use crate::archive::acl::{self, Who};
use crate::archive::reader::{self, Archive, Entry, What};
use crate::archive::rules::{self, Whiteout};
use crate::failed::Coded;

/// Bytes copied at once.
const BUFFER: usize = 1 << 20;
/// What has to wait for the end of an archive takes at most this much memory.
const MOST_WAITING: usize = 64 << 20;
/// Files with names of users are small.
const MOST_NAMES: u64 = 1 << 20;
/// On ext file systems it is there before anything else.
const LOST_AND_FOUND: &str = "lost+found";

/// Why an archive is not extracted, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] reader::Error),
    /// The target.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The data of a file.
    #[error("cannot write /{} on the target", path.display())]
    Write {
        /// Of the file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// More than there can be room for.
    #[error("/{} is said to have {claimed} bytes, the whole target has {has}", path.display())]
    TooLarge {
        /// Of the file.
        path: PathBuf,
        /// By the archive.
        claimed: u64,
        /// Of the file system.
        has: u64,
    },
    /// An access control list.
    #[error("cannot set the access control list of /{}", path.display())]
    Acl {
        /// Of the file.
        path: PathBuf,
        /// What is wrong.
        source: acl::Error,
    },
    /// A name that a layer must not use.
    #[error("the layer's entry /{} is refused", path.display())]
    Name {
        /// Of the entry.
        path: PathBuf,
        /// Why.
        source: rules::Refusal,
    },
    /// More directories than any system has.
    #[error("the archive has too many directories to remember")]
    Many,
}

impl Coded for Error {
    fn code(&self) -> Code {
        let of = |source: &io::Error| match source.kind() {
            io::ErrorKind::StorageFull => Code::DiskTooSmall,
            _ => Code::FileIo,
        };
        match self {
            Self::Archive(reader::Error::Truncated { .. }) => Code::Truncated,
            Self::Archive(reader::Error::Read { source, .. }) => {
                fetch::Error::within(source).map_or(Code::Decode, |_| Code::Truncated)
            }
            Self::Archive(_) | Self::Name { .. } | Self::Acl { .. } | Self::Many => Code::Decode,
            Self::Tree(tree::Error::Root { source, .. } | tree::Error::Step { source, .. })
            | Self::Write { source, .. } => of(source),
            Self::TooLarge { .. } => Code::DiskTooSmall,
        }
    }
}

/// What of an entry is restored besides its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preserve {
    /// Owner and group; else root's.
    pub owner: bool,
    /// Extended attributes but for capabilities.
    pub xattr: bool,
    /// Access control lists.
    pub acl: bool,
    /// File capabilities.
    pub caps: bool,
    /// Times.
    pub times: bool,
}

impl Preserve {
    /// Everything.
    pub const ALL: Self = Self { owner: true, xattr: true, acl: true, caps: true, times: true };
    /// Nothing.
    pub const NONE: Self = Self { owner: false, xattr: false, acl: false, caps: false, times: false };
}

/// Where in the tree, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Below the root of the tree.
    pub base: PathBuf,
    /// What is restored.
    pub preserve: Preserve,
    /// Whether it is a layer of a container image, with whiteouts.
    pub is_layer: bool,
}

/// What was extracted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Count {
    /// Entries.
    pub entries: u64,
    /// Bytes of data, without holes.
    pub bytes: u64,
    /// Entries whose owner, mode or attributes the file system cannot keep.
    pub unkept: u64,
}

/// Attributes that are set when nothing else changes the entry any more.
struct Late {
    path: PathBuf,
    entry: Entry,
}

/// One archive on its way into a tree.
pub struct Extraction<'a> {
    tree: &'a mut Tree,
    options: &'a Options,
    count: Count,
    directories: Vec<Late>,
    lists: Vec<Late>,
    waiting: usize,
    /// Of a layer: what it has put there itself, which its own whiteouts do not take away.
    own: HashSet<u64>,
    hasher: RandomState,
    buffer: Vec<u8>,
}

/// Where entries come from, and who is told how far they are.
struct Input<'a, R> {
    archive: &'a mut Archive<R>,
    tick: &'a mut dyn FnMut(&mut R),
}

/// Extracts all entries; the stream behind the archive is read to its end. `tick` is called now and then.
pub fn extract<R: Read>(
    archive: &mut Archive<R>,
    tree: &mut Tree,
    options: &Options,
    tick: &mut dyn FnMut(&mut R),
) -> Result<Count, Error> {
    let mut work = Extraction {
        tree,
        options,
        count: Count::default(),
        directories: Vec::new(),
        lists: Vec::new(),
        waiting: 0,
        own: HashSet::new(),
        hasher: RandomState::new(),
        buffer: vec![0; BUFFER],
    };
    work.tree.directory(&options.base)?;
    let mut from = Input { archive, tick };
    while let Some(entry) = from.archive.next()? {
        (from.tick)(from.archive.stream());
        work.entry(entry, &mut from)?;
    }
    work.finish()
}

impl Extraction<'_> {
    fn entry<R: Read>(&mut self, entry: Entry, from: &mut Input<'_, R>) -> Result<(), Error> {
        let path = self.options.base.join(&entry.path);
        // An empty path joined would end with a slash.
        let path = if entry.path.as_os_str().is_empty() { self.options.base.clone() } else { path };
        if self.options.is_layer {
            let named = rules::whiteout(&entry.path);
            if let Some(whiteout) = named.map_err(|source| Error::Name { path: entry.path.clone(), source })? {
                return self.white_out(&whiteout);
            }
            self.own.insert(self.hasher.hash_one(&path));
        }
        self.count.entries += 1;
        match &entry.what {
            What::Directory => {
                self.tree.directory(&path)?;
                return self.wait(path, entry, true);
            }
            What::File { size, map } => {
                let data = map.as_ref().map_or(*size, |map| map.iter().map(|piece| piece.len).sum());
                let has = self.tree.space(&path)?;
                if data > has {
                    return Err(Error::TooLarge { path, claimed: data, has });
                }
                let file = self.tree.file(&path)?;
                self.data(&path, file, &entry.what, from)?;
            }
            // Everything about it was said where it came first.
            What::HardLink(existing) => return Ok(self.tree.hard_link(&path, &self.options.base.join(existing))?),
            What::Symlink(target) => self.tree.symlink(&path, target)?,
            What::Fifo => self.tree.special(&path, Special::Fifo)?,
            What::Device(true, major, minor) => self.tree.special(&path, Special::Block(*major, *minor))?,
            What::Device(false, major, minor) => self.tree.special(&path, Special::Character(*major, *minor))?,
        }
        self.attributes(&path, &entry)?;
        if entry.acl_access.is_some() && self.options.preserve.acl {
            self.wait(path, entry, false)?;
        }
        Ok(())
    }

    fn data<R: Read>(
        &mut self,
        path: &Path,
        mut file: File,
        what: &What,
        from: &mut Input<'_, R>,
    ) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let What::File { size, map } = what else { return Ok(()) };
        let whole = [crate::archive::sparse::Extent { offset: 0, len: *size }];
        for piece in map.as_deref().unwrap_or(&whole) {
            if map.is_some() {
                file.seek(SeekFrom::Start(piece.offset)).map_err(failed)?;
            }
            let mut left = piece.len;
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                let got = from.archive.read_data(&mut self.buffer[..most])?;
                file.write_all(&self.buffer[..got]).map_err(failed)?;
                left -= got as u64;
                self.count.bytes += got as u64;
                (from.tick)(from.archive.stream());
            }
        }
        if map.is_some() {
            file.set_len(*size).map_err(failed)?;
        }
        Ok(())
    }

    /// Owner before mode, because changing it clears bits; attributes before times.
    fn attributes(&mut self, path: &Path, entry: &Entry) -> Result<(), Error> {
        let preserve = self.options.preserve;
        let (uid, gid) = if preserve.owner { (entry.uid, entry.gid) } else { (0, 0) };
        let mut done = self.tree.set_owner(path, uid, gid).and_then(|()| self.tree.set_mode(path, entry.mode));
        for (name, value) in &entry.xattrs {
            let is_wanted = match name.as_slice() {
                b"security.capability" => preserve.caps,
                // Lists come as text, too, which is what is used.
                acl::ACCESS | acl::DEFAULT => false,
                _ => preserve.xattr,
            };
            if is_wanted {
                done = done.and_then(|()| self.tree.set_xattr(path, name, value));
            }
        }
        self.kept(path, done)?;
        if preserve.times {
            self.tree.set_time(path, entry.mtime)?;
        }
        Ok(())
    }

    /// What the file system cannot do is counted; anything else is an error.
    fn kept(&mut self, path: &Path, done: Result<(), tree::Error>) -> Result<(), Error> {
        match done {
            Err(error) if !self.tree.keeps_owners(path)? => {
                self.count.unkept += 1;
                drop(error);
                Ok(())
            }
            done => Ok(done?),
        }
    }

    fn wait(&mut self, path: PathBuf, entry: Entry, is_directory: bool) -> Result<(), Error> {
        let text: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let lists = [&entry.acl_access, &entry.acl_default].into_iter().flatten().map(Vec::len).sum::<usize>();
        self.waiting += size_of::<Late>() + 2 * path.as_os_str().len() + text + lists;
        if self.waiting + self.own.len() * 16 > MOST_WAITING {
            return Err(Error::Many);
        }
        let to = if is_directory { &mut self.directories } else { &mut self.lists };
        to.push(Late { path, entry });
        Ok(())
    }

    fn white_out(&mut self, whiteout: &Whiteout) -> Result<(), Error> {
        match whiteout {
            Whiteout::Gone(path) => {
                let path = self.options.base.join(path);
                if !self.own.contains(&self.hasher.hash_one(&path)) {
                    self.tree.remove(&path)?;
                }
            }
            Whiteout::Opaque(path) => self.empty(&self.options.base.join(path))?,
        }
        Ok(())
    }

    /// Removes what is in a directory, but for what this layer has put there.
    fn empty(&mut self, path: &Path) -> Result<(), Error> {
        for name in self.tree.children(path)? {
            let child = path.join(name);
            if !self.own.contains(&self.hasher.hash_one(&child)) {
                self.tree.remove(&child)?;
            } else if self.tree.is_directory(&child)? {
                self.empty(&child)?;
            }
        }
        Ok(())
    }

    /// Names of users may come with the archive, so lists are set when it is all there; directories after what is in
    /// them, the innermost first, so that their times stay.
    fn finish(mut self) -> Result<Count, Error> {
        let names = Names::of(self.tree, &self.options.base)?;
        for Late { path, entry } in std::mem::take(&mut self.lists) {
            self.list(&path, acl::ACCESS, entry.acl_access.as_deref(), &names)?;
            if self.options.preserve.times {
                self.tree.set_time(&path, entry.mtime)?;
            }
        }
        let mut directories = std::mem::take(&mut self.directories);
        directories.sort_by(|a, b| b.path.cmp(&a.path));
        for Late { path, entry } in directories {
            // A later entry may have put something else there.
            if !path.as_os_str().is_empty() && !self.tree.is_directory(&path)? {
                continue;
            }
            self.attributes(&path, &entry)?;
            if self.options.preserve.acl {
                self.list(&path, acl::ACCESS, entry.acl_access.as_deref(), &names)?;
                self.list(&path, acl::DEFAULT, entry.acl_default.as_deref(), &names)?;
            }
            if self.options.preserve.times {
                self.tree.set_time(&path, entry.mtime)?;
            }
        }
        Ok(self.count)
    }

    fn list(&mut self, path: &Path, attribute: &[u8], text: Option<&[u8]>, names: &Names) -> Result<(), Error> {
        let Some(text) = text else { return Ok(()) };
        let value = acl::value(text, &|who, name| names.number(who, name));
        let value = value.map_err(|source| Error::Acl { path: path.to_owned(), source })?;
        let done = self.tree.set_xattr(path, attribute, &value);
        self.kept(path, done)
    }
}

/// Users and groups of the target.
struct Names {
    users: String,
    groups: String,
}

impl Names {
    fn of(tree: &Tree, base: &Path) -> Result<Self, Error> {
        let text = |name: &str| -> Result<String, Error> {
            let bytes = tree.read(&base.join("etc").join(name), MOST_NAMES)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Self { users: text("passwd")?, groups: text("group")? })
    }

    fn number(&self, who: Who, name: &str) -> Option<u32> {
        let text = match who {
            Who::User => &self.users,
            Who::Group => &self.groups,
        };
        acl::number_in(text, name)
    }
}

/// Whether there is nothing in the directory but what making a file system puts there.
pub fn is_empty(tree: &mut Tree, path: &Path) -> Result<bool, Error> {
    Ok(tree.children(path)?.iter().all(|name| name == LOST_AND_FOUND))
}

/// Takes away everything that is in the directory.
pub fn clear(tree: &mut Tree, path: &Path) -> Result<(), Error> {
    for name in tree.children(path)?.into_iter().filter(|name| name != LOST_AND_FOUND) {
        tree.remove(&path.join(name))?;
    }
    Ok(())
}
