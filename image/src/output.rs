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

/// Writes a file by way of a temporary one in the same directory.
pub fn write_with<E: From<Error>>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<(), E> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(directory)?;
    let mut temporary =
        tempfile::NamedTempFile::new_in(directory).map_err(|source| Error::new("make a file in", directory, source))?;
    {
        let mut buffered = io::BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
        fill(&mut buffered)?;
        buffered.flush().map_err(|source| Error::new("write", path, source))?;
    }
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary
        .as_file()
        .set_permissions(open_to_all)
        .map_err(|source| Error::new("change the mode of", path, source))?;
    temporary.persist(path).map_err(|error| Error::new("rename to", path, error.error))?;
    Ok(())
}

/// [`write_with`] for bytes at hand.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_with(path, |out| out.write_all(bytes).map_err(|source| Error::new("write", path, source)))
}
