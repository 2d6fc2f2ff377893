//! A log file that cannot fill the memory it lives in: at its limit it becomes `<file>.1`, and a new one begins.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// With its predecessor a log takes at most twice this.
pub const LIMIT: u64 = 4 << 20;

/// An open log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    limit: u64,
    file: File,
    size: u64,
}

impl Log {
    /// Opens it to append.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit, file, size })
    }

    /// Appends bytes that belong together.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        if self.size > 0 && self.size + length > self.limit {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            *self = Self::open(&self.path, self.limit)?;
        }
        self.file.write_all(bytes)?;
        self.size += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_takes_more_than_twice_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.log");
        let mut log = Log::open(&path, 10).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(std::fs::read_to_string(directory.path().join("service.log.1")).unwrap(), "three\n");
    }

    #[test]
    fn what_was_there_is_kept_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.log");
        Log::open(&path, 10).unwrap().append(b"12345678\n").unwrap();
        Log::open(&path, 10).unwrap().append(b"9\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "9\n");
    }
}
