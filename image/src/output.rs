//! Files we leave behind: written beside their place and renamed, so a half-written one is never seen.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A file or directory that could not be made.
#[derive(Debug, Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Error {
    /// An operation on a path that failed.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }
}

/// Makes a directory and its parents.
pub fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::new("make directory", path, source))
}

/// Reads a file whole.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::new("read", path, source))
}

/// A file that is written whole and not yet in its place; dropped, it is gone.
#[derive(Debug)]
pub struct Pending {
    file: tempfile::NamedTempFile,
    place: PathBuf,
}

impl Pending {
    /// An empty one beside its place.
    pub fn new(place: &Path) -> Result<Self, Error> {
        let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_directory(directory)?;
        let file = tempfile::NamedTempFile::new_in(directory);
        let file = file.map_err(|source| Error::new("make a file in", directory, source))?;
        Ok(Self { file, place: place.to_owned() })
    }

    /// One filled by a writer.
    pub fn with<E: From<Error>>(place: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<Self, E> {
        let mut pending = Self::new(place)?;
        let mut buffered = io::BufWriter::with_capacity(1 << 20, pending.file.as_file_mut());
        fill(&mut buffered)?;
        buffered.flush().map_err(|source| Error::new("write", place, source))?;
        drop(buffered);
        Ok(pending)
    }

    /// Where it is for now.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What it will be.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Puts it in its place, readable for all.
    pub fn commit(self) -> Result<(), Error> {
        let Self { file, place } = self;
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let changed = file.as_file().set_permissions(open_to_all);
        changed.map_err(|source| Error::new("change the mode of", &place, source))?;
        file.persist(&place).map_err(|error| Error::new("rename to", &place, error.error))?;
        Ok(())
    }
}

/// Writes a file by way of a temporary one in the same directory.
pub fn write_with<E: From<Error>>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<(), E> {
    Ok(Pending::with(path, fill)?.commit()?)
}

/// [`write_with`] for bytes at hand.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_with(path, |out| out.write_all(bytes).map_err(|source| Error::new("write", path, source)))
}
