//! Files below a directory that cannot be left: links and `..` are resolved as if the directory were the root
//! (openat2(2), RESOLVE_IN_ROOT). Writes replace a file as a whole, or leave it as it was.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

/// Why a file below the root could not be written.
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
    /// The path is relative, has `..` in it, or names no file.
    #[error("{} does not name a file by an absolute path without '..'", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// One step failed.
    #[error("cannot {what} {} on the target", path.display())]
    Step {
        /// The step, as a verb.
        what: &'static str,
        /// The path as the target sees it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Owner and modes of a file to be written. The modes are set as given, whatever the umask is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of the file.
    pub mode: u32,
    /// Of parent directories that have to be made.
    pub dir_mode: u32,
}

/// A directory that acts as the root.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens the directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd =
            open(root, flags, Mode::empty()).map_err(|e| Error::Root { root: root.to_owned(), source: e.into() })?;
        Ok(Self { fd })
    }

    /// Writes the file as a whole under a temporary name, makes it durable, and renames it into place. A link of that
    /// name is replaced, not followed. Parents that are missing are made; those that exist keep their attributes.
    pub fn replace(&self, path: &Path, contents: &[u8], attributes: Attributes) -> Result<(), Error> {
        let (parents, name) = split(path)?;
        let dir = self.directories(&parents, attributes)?;
        let step = |what, source: io::Error| Error::Step { what, path: path.to_owned(), source };
        let temporary = temporary_name(name);
        // In a container every process is number 1: one that was killed may have left its own behind. What cannot be
        // removed is an error of the write.
        let _ = unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        let written = write(&dir, &temporary, contents, attributes)
            .and_then(|()| Ok(renameat(&dir, temporary.as_str(), &dir, name)?))
            .and_then(|()| Ok(nix::unistd::fsync(&dir)?));
        written.map_err(|source| {
            // Gone already when only the last step failed.
            let _ = unlinkat(&dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            step("write", source)
        })
    }

    /// Opens the directory, making what is missing of it.
    fn directories(&self, parents: &[&OsStr], attributes: Attributes) -> Result<OwnedFd, Error> {
        let mut so_far = PathBuf::from(".");
        let mut dir = self.resolve(&so_far)?;
        for name in parents {
            so_far.push(name);
            dir = match self.resolve(&so_far) {
                Err(Error::Step { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
                    self.make_directory(&dir, name, &so_far, attributes)?
                }
                resolved => resolved?,
            };
        }
        Ok(dir)
    }

    fn make_directory(&self, parent: &OwnedFd, name: &OsStr, path: &Path, a: Attributes) -> Result<OwnedFd, Error> {
        let step = |e: Errno| Error::Step { what: "make the directory", path: shown(path), source: e.into() };
        mkdirat(parent, name, Mode::S_IRWXU).map_err(step)?;
        let dir = self.resolve(path)?;
        own(&dir, a.uid, a.gid, a.dir_mode).map_err(step)?;
        nix::unistd::fsync(parent).map_err(step)?;
        Ok(dir)
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Error> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.fd, path, how).map_err(|e| Error::Step {
            what: "open the directory",
            path: shown(path),
            source: e.into(),
        })
    }
}

fn shown(relative: &Path) -> PathBuf {
    Path::new("/").join(relative.strip_prefix(".").unwrap_or(relative))
}

fn split(path: &Path) -> Result<(Vec<&OsStr>, &OsStr), Error> {
    let refused = || Error::Path { path: path.to_owned() };
    let mut names = Vec::new();
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(refused());
    }
    for component in components {
        match component {
            Component::Normal(name) => names.push(name),
            _ => return Err(refused()),
        }
    }
    let name = names.pop().ok_or_else(refused)?;
    Ok((names, name))
}

/// Hidden, short enough for any file system, and ours by the process id.
fn temporary_name(name: &OsStr) -> String {
    let stem: String = name.to_string_lossy().chars().take(40).collect();
    format!(".{stem}.ironhook-{}", std::process::id())
}

fn write(dir: &OwnedFd, name: &str, contents: &[u8], a: Attributes) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(nix::fcntl::openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.write_all(contents)?;
    own(&file, a.uid, a.gid, a.mode)?;
    file.sync_all()
}

/// Owner first: chown(2) clears the set-uid bits that the mode may ask for.
fn own<F: AsFd>(fd: &F, uid: u32, gid: u32, mode: u32) -> Result<(), Errno> {
    fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(fd, Mode::from_bits_truncate(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn mine(mode: u32) -> Attributes {
        Attributes { uid: Uid::current().as_raw(), gid: Gid::current().as_raw(), mode, dir_mode: 0o750 }
    }

    #[test]
    fn parents_are_made_and_modes_are_exact() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.replace(Path::new("/etc/a/b.conf"), b"one", mine(0o666)).unwrap();
        root.replace(Path::new("/etc/a/b.conf"), b"two", mine(0o4755)).unwrap();
        let path = dir.path().join("etc/a/b.conf");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(fs::metadata(dir.path().join("etc")).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file stayed");
    }

    #[test]
    fn what_a_killed_process_of_this_number_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(temporary_name(OsStr::new("b.conf"))), b"half").unwrap();
        Root::open(dir.path()).unwrap().replace(Path::new("/b.conf"), b"whole", mine(0o644)).unwrap();
        assert_eq!(fs::read(dir.path().join("b.conf")).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the stale file stayed");
    }

    #[test]
    fn a_link_out_of_the_root_leads_back_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let inside = dir.path().join(outside.path().strip_prefix("/").unwrap());
        fs::create_dir_all(&inside).unwrap();
        symlink(outside.path(), dir.path().join("way")).unwrap();
        symlink("../../../../../../../tmp", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.replace(Path::new("/way/file"), b"x", mine(0o644)).unwrap();
        assert!(inside.join("file").exists());
        assert!(!outside.path().join("file").exists());
        root.replace(Path::new("/up/file-of-the-confined-test"), b"x", mine(0o644)).unwrap();
        assert!(dir.path().join("tmp/file-of-the-confined-test").exists());
    }

    #[test]
    fn a_link_of_the_name_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let victim = tempfile::NamedTempFile::new().unwrap();
        symlink(victim.path(), dir.path().join("resolv.conf")).unwrap();
        Root::open(dir.path()).unwrap().replace(Path::new("/resolv.conf"), b"x", mine(0o644)).unwrap();
        assert_eq!(fs::read(victim.path()).unwrap(), b"");
        assert!(!fs::symlink_metadata(dir.path().join("resolv.conf")).unwrap().is_symlink());
    }

    #[test]
    fn a_link_to_a_missing_directory_is_an_error_not_a_directory_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/nowhere", dir.path().join("gone")).unwrap();
        let error = Root::open(dir.path()).unwrap().replace(Path::new("/gone/x"), b"", mine(0o644)).unwrap_err();
        assert!(error.to_string().contains("/gone"), "{error}");
    }

    #[test]
    fn paths_that_name_no_file_are_refused() {
        for path in ["etc/x", "/", "", "/etc/", "/etc/../x"] {
            assert!(matches!(split(Path::new(path)), Err(Error::Path { .. })), "{path}");
        }
    }
}
