//! A tree of files being built below a directory that cannot be left: links in a path lead where they would if the
//! directory were the root (openat2(2), RESOLVE_IN_ROOT), and the last name of a path is never followed. Must not decide
//! what is built.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FchmodatFlags, makedev};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

/// Why something could not be done to the tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be opened.
    #[error("cannot open the root {}", root.display())]
    Root {
        /// The root.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// One step failed.
    #[error("cannot {what} /{} on the target", path.display())]
    Step {
        /// The step, as a verb.
        what: &'static str,
        /// The path as the target sees it, without its slash.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What the kernel said, as a number.
    pub fn errno(&self) -> Option<i32> {
        let (Self::Root { source, .. } | Self::Step { source, .. }) = self;
        source.raw_os_error()
    }
}

/// A special file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// A named pipe.
    Fifo,
    /// A character device: major and minor.
    Character(u32, u32),
    /// A block device: major and minor.
    Block(u32, u32),
}

/// The tree. Paths are relative to its root and have neither `.` nor `..`; the empty path is the root itself.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// The directory that the last path was in: most paths come together.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Tree {
    /// Below this directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let failed = |e: Errno| Error::Root { root: root.to_owned(), source: e.into() };
        Ok(Self { root: open(root, flags, Mode::empty()).map_err(failed)?, last: None })
    }

    /// A new regular file in the place of whatever had its name; only its owner may use it until a mode is set.
    pub fn file(&mut self, path: &Path) -> Result<File, Error> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let make = |dir: BorrowedFd<'_>, name: &OsStr| openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        Ok(File::from(self.replace("make the file", path, make)?))
    }

    /// The directory, made when there is none; says whether it was.
    pub fn directory(&mut self, path: &Path) -> Result<bool, Error> {
        if path.as_os_str().is_empty() || self.stat(path)?.is_some_and(|stat| is_kind(&stat, SFlag::S_IFDIR)) {
            return Ok(false);
        }
        self.replace("make the directory", path, |dir, name| mkdirat(dir, name, Mode::S_IRWXU))?;
        Ok(true)
    }

    /// A symbolic link that says `target`.
    pub fn symlink(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        self.replace("make the link", path, |dir, name| symlinkat(target, dir, name))
    }

    /// Another name of what `existing` names.
    pub fn hard_link(&mut self, path: &Path, existing: &Path) -> Result<(), Error> {
        if path == existing {
            return Ok(());
        }
        let (from, name) = self.parent(existing, false)?;
        let (from, name) = (from.try_clone_to_owned().map_err(|e| step("look at", existing, e))?, name.to_owned());
        let make = |dir: BorrowedFd<'_>, new: &OsStr| linkat(&from, name.as_os_str(), dir, new, LinkatFlags::empty());
        // What is linked to must not be removed to make room for its own name.
        if fstatat(&from, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_err() {
            return Err(step("link to", existing, Errno::ENOENT));
        }
        self.replace("make the link", path, make)
    }

    /// A device or a named pipe.
    pub fn special(&mut self, path: &Path, special: Special) -> Result<(), Error> {
        let (kind, number) = match special {
            Special::Fifo => (SFlag::S_IFIFO, 0),
            Special::Character(major, minor) => (SFlag::S_IFCHR, makedev(major.into(), minor.into())),
            Special::Block(major, minor) => (SFlag::S_IFBLK, makedev(major.into(), minor.into())),
        };
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        self.replace("make the special file", path, |dir, name| mknodat(dir, name, kind, mode, number))
    }

    /// Removes what has this name, a directory with all that is in it; nothing when there is nothing.
    pub fn remove(&mut self, path: &Path) -> Result<(), Error> {
        self.last = None;
        match self.parent(path, false) {
            Ok((dir, name)) => remove_all(dir, name).map_err(|e| step("remove", path, e)),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Names in a directory; none when it is no directory, or missing.
    pub fn children(&mut self, path: &Path) -> Result<Vec<OsString>, Error> {
        match self.stat(path)? {
            Some(stat) if is_kind(&stat, SFlag::S_IFDIR) => {}
            _ => return Ok(Vec::new()),
        }
        let dir = self.resolve(path).map_err(|e| step("list", path, e))?;
        names(dir).map_err(|e| step("list", path, e))
    }

    /// Whether there is a directory of this name, and not a link to one.
    pub fn is_directory(&mut self, path: &Path) -> Result<bool, Error> {
        Ok(self.stat(path)?.is_some_and(|stat| is_kind(&stat, SFlag::S_IFDIR)))
    }

    /// A path of this process that leads to the directory, whatever links are on the way: for mount(2).
    pub fn handle(&self, path: &Path) -> Result<OwnedFd, Error> {
        self.resolve(path).map_err(|e| step("open", path, e))
    }

    /// Owner and group, of a link itself.
    pub fn set_owner(&mut self, path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
        let (dir, name) = self.parent(path, false)?;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|e| step("set the owner of", path, e))
    }

    /// Permission bits, exactly these; a link has none, and one that is in the way is left alone.
    pub fn set_mode(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        let Some(stat) = self.stat(path)? else { return Err(step("set the mode of", path, Errno::ENOENT)) };
        let mode = Mode::from_bits_truncate(mode);
        let (dir, name) = self.parent(path, false)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let done = match stat.st_mode & libc::S_IFMT {
            libc::S_IFLNK => Ok(()),
            libc::S_IFREG | libc::S_IFDIR => openat(dir, name, flags, Mode::empty()).and_then(|fd| fchmod(&fd, mode)),
            // Opening a device does things; nothing else writes to this tree.
            _ => fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink),
        };
        done.map_err(|e| step("set the mode of", path, e))
    }

    /// Time of the last change, in seconds and nanoseconds since 1970, of a link itself.
    pub fn set_time(&mut self, path: &Path, (seconds, nanos): (i64, u32)) -> Result<(), Error> {
        let (dir, name) = self.parent(path, false)?;
        let time = TimeSpec::new(seconds, nanos.into());
        utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|e| step("set the time of", path, e))
    }

    /// One extended attribute, of a link itself.
    pub fn set_xattr(&mut self, path: &Path, attribute: &[u8], value: &[u8]) -> Result<(), Error> {
        let (dir, name) = self.parent(path, false)?;
        // There is no call that takes a directory and a name.
        let mut full = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        full.extend_from_slice(name.as_bytes());
        let nul = |_| step("set an attribute of", path, Errno::EINVAL);
        let (full, attribute) = (CString::new(full).map_err(nul)?, CString::new(attribute).map_err(nul)?);
        // SAFETY: lsetxattr(2) reads two strings that end with NUL and `value.len()` bytes; all live for the call.
        let done = unsafe { libc::lsetxattr(full.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        Errno::result(done).map(drop).map_err(|e| step("set an attribute of", path, e))
    }

    /// All bytes of the file system that `path` is on.
    pub fn space(&mut self, path: &Path) -> Result<u64, Error> {
        let (dir, _) = self.parent(path, true)?;
        let stat = nix::sys::statvfs::fstatvfs(dir).map_err(|e| step("look at", path, e))?;
        Ok(stat.blocks().saturating_mul(stat.fragment_size()))
    }

    /// Whether the file system that `path` is on knows owners, modes and attributes at all; FAT does not.
    pub fn keeps_owners(&mut self, path: &Path) -> Result<bool, Error> {
        let (dir, _) = self.parent(path, true)?;
        let stat = nix::sys::statfs::fstatfs(dir).map_err(|e| step("look at", path, e))?;
        Ok(stat.filesystem_type() != nix::sys::statfs::MSDOS_SUPER_MAGIC)
    }

    /// The start of a regular file, at most `most` bytes; none when there is none.
    pub fn read(&self, path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = match openat2(&self.root, path, how) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(e) => return Err(step("read", path, e)),
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes).map_err(|e| step("read", path, e))?;
        Ok(Some(bytes))
    }

    /// Everything is on the medium when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        nix::unistd::syncfs(&self.root).map_err(|e| step("write out", Path::new(""), e))
    }

    fn stat(&mut self, path: &Path) -> Result<Option<FileStat>, Error> {
        let parent = match self.parent(path, false) {
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
            parent => parent?,
        };
        match fstatat(parent.0, parent.1, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(step("look at", path, e)),
        }
    }

    /// Makes something new; what had its name is removed first, unless it is a directory with something in it.
    fn replace<T>(
        &mut self,
        what: &'static str,
        path: &Path,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> nix::Result<T>,
    ) -> Result<T, Error> {
        let (dir, name) = self.parent(path, true)?;
        let made = match make(dir, name) {
            Err(Errno::EEXIST) => {
                let gone = match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
                    Err(Errno::EISDIR | Errno::EPERM) => unlinkat(dir, name, UnlinkatFlags::RemoveDir),
                    gone => gone,
                };
                gone.and_then(|()| make(dir, name))
            }
            made => made,
        };
        made.map_err(|e| step(what, path, e))
    }

    /// The directory that `path` is in, and the name in it; the root is in itself. Missing parents are made when asked.
    fn parent<'a, 'p>(&'a mut self, path: &'p Path, make: bool) -> Result<(BorrowedFd<'a>, &'p OsStr), Error> {
        let Some(name) = path.file_name() else { return Ok((self.root.as_fd(), OsStr::new("."))) };
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent.as_os_str().is_empty() {
            return Ok((self.root.as_fd(), name));
        }
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            let dir = match self.resolve(parent) {
                Err(Errno::ENOENT) if make => self.make_parents(parent)?,
                resolved => resolved.map_err(|e| step("open the directory", parent, e))?,
            };
            self.last = Some((parent.to_owned(), dir));
        }
        match &self.last {
            Some((_, dir)) => Ok((dir.as_fd(), name)),
            None => Ok((self.root.as_fd(), name)),
        }
    }

    /// Parents that an archive does not list get the mode they have everywhere.
    fn make_parents(&self, path: &Path) -> Result<OwnedFd, Error> {
        let mut so_far = PathBuf::new();
        let failed = |so_far: &Path, e| step("make the directory", so_far, e);
        let mut dir = self.resolve(&so_far).map_err(|e| failed(&so_far, e))?;
        for name in path {
            so_far.push(name);
            dir = match self.resolve(&so_far) {
                Err(Errno::ENOENT) => {
                    mkdirat(&dir, name, Mode::S_IRWXU).map_err(|e| failed(&so_far, e))?;
                    let made = self.resolve(&so_far).map_err(|e| failed(&so_far, e))?;
                    fchmod(&made, Mode::from_bits_truncate(0o755)).map_err(|e| failed(&so_far, e))?;
                    made
                }
                resolved => resolved.map_err(|e| failed(&so_far, e))?,
            };
        }
        Ok(dir)
    }

    /// Opens a directory as if the root were `/`.
    fn resolve(&self, path: &Path) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.root, path, how)
    }
}

fn step(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Step { what, path: path.to_owned(), source: source.into() }
}

fn is_kind(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & libc::S_IFMT == kind.bits()
}

fn names(dir: OwnedFd) -> nix::Result<Vec<OsString>> {
    let mut dir = Dir::from_fd(dir)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Directories are opened without following links, so nothing outside is reached. Depth is that of the tree.
fn remove_all(dir: BorrowedFd<'_>, name: &OsStr) -> nix::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let inner = openat(dir, name, flags, Mode::empty())?;
    let listed = inner.try_clone().map_err(|_| Errno::EMFILE)?;
    for child in names(listed)? {
        remove_all(inner.as_fd(), &child)?;
    }
    unlinkat(dir, name, UnlinkatFlags::RemoveDir)
}

/// The value of an extended attribute of a file, not following a link; none when it has none of that name.
pub fn xattr(path: &Path, attribute: &str) -> io::Result<Option<Vec<u8>>> {
    let nul = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (path, name) = (CString::new(path.as_os_str().as_bytes()).map_err(nul)?, CString::new(attribute).map_err(nul)?);
    let mut value = vec![0u8; 1 << 16];
    // SAFETY: lgetxattr(2) reads two strings that end with NUL and writes at most `value.len()` bytes; all live for the
    // call.
    let got = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(got) {
        Ok(len) => {
            value.truncate(usize::try_from(len).unwrap_or(0));
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        (dir, tree)
    }

    #[test]
    fn links_on_the_way_stay_inside_and_the_last_name_is_not_followed() {
        let (dir, mut tree) = tree();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "precious").unwrap();
        symlink(outside.path(), dir.path().join("way")).unwrap();
        symlink(outside.path().join("victim"), dir.path().join("last")).unwrap();
        let gone = tree.file(Path::new("way/victim")).unwrap_err();
        assert!(matches!(gone.errno(), Some(libc::ENOENT | libc::EEXIST)), "{gone}");
        tree.file(Path::new("last")).unwrap();
        assert!(!fs::symlink_metadata(dir.path().join("last")).unwrap().is_symlink());
        symlink(outside.path(), dir.path().join("whole")).unwrap();
        tree.remove(Path::new("whole")).unwrap();
        assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"precious");
    }

    #[test]
    fn a_full_directory_is_not_replaced_and_an_empty_one_is() {
        let (dir, mut tree) = tree();
        fs::create_dir_all(dir.path().join("full/x")).unwrap();
        assert_eq!(tree.file(Path::new("full")).unwrap_err().errno(), Some(libc::ENOTEMPTY));
        tree.file(Path::new("full/x")).unwrap();
        assert!(dir.path().join("full/x").is_file());
        tree.remove(Path::new("full")).unwrap();
        assert!(!dir.path().join("full").exists());
        tree.remove(Path::new("no/such")).unwrap();
    }

    #[test]
    fn modes_times_and_hard_links_are_exact() {
        let (dir, mut tree) = tree();
        drop(tree.file(Path::new("a/b")).unwrap());
        tree.hard_link(Path::new("c"), Path::new("a/b")).unwrap();
        tree.hard_link(Path::new("c"), Path::new("c")).unwrap();
        tree.set_mode(Path::new("c"), 0o4711).unwrap();
        tree.set_time(Path::new("c"), (-5, 7)).unwrap();
        tree.set_mode(Path::new(""), 0o750).unwrap();
        let meta = fs::metadata(dir.path().join("a/b")).unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (2, 0o4711, -5, 7));
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o755);
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o750);
        let missing = tree.hard_link(Path::new("a/b"), Path::new("nothing")).unwrap_err();
        assert_eq!(missing.errno(), Some(libc::ENOENT));
        assert!(dir.path().join("a/b").exists(), "the old file is gone");
    }

    #[test]
    fn attributes_of_a_file_are_set() {
        let (dir, mut tree) = tree();
        drop(tree.file(Path::new("f")).unwrap());
        match tree.set_xattr(Path::new("f"), b"user.ironhook", b"1") {
            Ok(()) => assert_eq!(xattr(&dir.path().join("f"), "user.ironhook").unwrap().unwrap(), b"1"),
            Err(error) => assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}"),
        }
    }
}
