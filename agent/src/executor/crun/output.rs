//! One stream of what a container of crun writes. The shim keeps it in two files of bounded size, of which the older goes
//! when the newer is full, so that a chatty action cannot fill the memory; the agent reads behind it, whenever it lives.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Of one of the two files.
const MOST: u64 = 8 << 20;
/// Read at once.
const PIECE: u64 = 256 << 10;

/// Keeps what comes until its end. The writer is never held up: what cannot be written is lost.
pub fn keep(from: impl Read, path: &Path) {
    keep_of(from, path, MOST);
}

fn keep_of(mut from: impl Read, path: &Path, most: u64) {
    if write(&mut from, path, most).is_err() {
        // Whoever writes would otherwise wait, or be ended.
        let _ = io::copy(&mut from, &mut io::sink());
    }
}

fn write(from: &mut impl Read, path: &Path, most: u64) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let (mut size, mut piece) = (file.metadata()?.len(), vec![0; 64 << 10]);
    loop {
        let n = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if size >= most {
            fs::rename(path, older(path))?;
            (file, size) = (File::options().create(true).append(true).open(path)?, 0);
        }
        file.write_all(&piece[..n])?;
        size += n as u64;
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".old");
    PathBuf::from(name)
}

/// Reads a stream while it is kept, from the oldest byte that is there.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Option<File>,
}

impl Reader {
    /// Of the stream kept at this path; nothing need be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// The next bytes; empty when there are none for now.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.file.is_none() {
            self.file = open(&older(&self.path))?.map_or_else(|| open(&self.path), |file| Ok(Some(file)))?;
        }
        while let Some(file) = &mut self.file {
            // Asked first: a file that is no longer the newer one has its last byte.
            let newest = number(&self.path)? == Some(file.metadata()?.ino());
            file.take(PIECE).read_to_end(&mut bytes)?;
            if newest || !bytes.is_empty() {
                break;
            }
            let own = file.metadata()?.ino();
            let next = if number(&older(&self.path))? == Some(own) { self.path.clone() } else { older(&self.path) };
            let Some(next) = open(&next)? else { break };
            self.file = Some(next);
        }
        Ok(bytes)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    absent(File::open(path))
}

fn number(path: &Path) -> io::Result<Option<u64>> {
    absent(fs::metadata(path)).map(|found| found.map(|meta| meta.ino()))
}

fn absent<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut Reader) -> String {
        let mut text = Vec::new();
        loop {
            let bytes = reader.read().unwrap();
            if bytes.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(bytes);
        }
    }

    #[test]
    fn who_keeps_up_reads_everything_and_who_comes_late_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let mut reader = Reader::new(path.clone());
        assert_eq!(all(&mut reader), "");
        let (mut read, mut written) = (String::new(), String::new());
        for i in 0..50 {
            let line = format!("line {i}\n");
            keep_of(line.as_bytes(), &path, 20);
            written += &line;
            read += &all(&mut reader);
        }
        assert_eq!(read, written);
        let late = all(&mut Reader::new(path.clone()));
        assert!(written.ends_with(&late) && late.len() > 20 && late.len() < 80, "{late:?}");
        let kept: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(kept < 80, "{kept}");
    }

    #[test]
    fn who_is_behind_by_a_file_misses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        keep_of(&b"first of many\n"[..], &path, 10);
        let mut reader = Reader::new(path.clone());
        assert_eq!(reader.read().unwrap(), b"first of many\n");
        keep_of(&b"second\n"[..], &path, 10);
        assert_eq!(all(&mut reader), "second\n");
    }

    #[test]
    fn a_writer_goes_on_although_nothing_can_be_kept() {
        keep(io::repeat(b'x').take(1 << 20), Path::new("/proc/no/such/place"));
    }
}
