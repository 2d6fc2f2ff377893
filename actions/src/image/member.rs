//! One file of a tar archive as a stream: what is named is found by reading, nothing is written anywhere. Its end is only
//! reached when the archive's end is.

use std::io::{self, Read};
use std::path::Path;

use crate::archive::reader::{self, Archive, What};
use crate::archive::rules;

/// Names of the archive that an error shows.
const SHOWN: usize = 10;

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is not readable.
    #[error("the archive cannot be read")]
    Archive(#[source] io::Error),
    /// There are others.
    #[error("it has no file {name:?}; there are: {}", .there.join(", "))]
    Missing {
        /// As asked for.
        name: String,
        /// The first of those there are.
        there: Vec<String>,
    },
    /// There, but no plain file.
    #[error("{name:?} is no file of one piece: it is a link, a directory, a device or sparse")]
    Kind {
        /// As asked for.
        name: String,
    },
}

/// Such a file.
pub struct Member {
    archive: Archive<Box<dyn Read + Send>>,
    size: u64,
    left: u64,
    ended: bool,
}

impl Member {
    /// Reads the archive up to it.
    pub fn find(stream: Box<dyn Read + Send>, name: &str) -> Result<Self, Error> {
        let wanted = rules::member(name.as_bytes()).map_err(|error| Error::Archive(io::Error::other(error)))?;
        let mut archive = Archive::new(stream);
        let mut there = Vec::new();
        while let Some(entry) = archive.next().map_err(|error| Error::Archive(io_error(error)))? {
            if entry.path == wanted {
                return match entry.what {
                    What::File { size, map: None } => Ok(Self { archive, size, left: size, ended: false }),
                    _ => Err(Error::Kind { name: name.to_owned() }),
                };
            }
            if there.len() < SHOWN && entry.path != Path::new("") {
                there.push(entry.path.display().to_string());
            }
        }
        Err(Error::Missing { name: name.to_owned(), there })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whatever follows has to be an archive, too.
    fn finish(&mut self) -> Result<(), reader::Error> {
        while self.archive.next()?.is_some() {}
        self.archive.drain()
    }
}

impl Read for Member {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left > 0 {
            let got = self.archive.read_data(buf).map_err(io_error)?;
            self.left -= got as u64;
            return Ok(got);
        }
        if !self.ended && !buf.is_empty() {
            self.finish().map_err(io_error)?;
            self.ended = true;
        }
        Ok(0)
    }
}

/// A stream that broke says so itself.
fn io_error(error: reader::Error) -> io::Error {
    match error {
        reader::Error::Read { source, .. } => source,
        error @ reader::Error::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, size: usize, flag: u8) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn archive() -> Vec<u8> {
        let mut bytes = header("./readme", 3, b'0');
        bytes.extend(b"abc");
        bytes.resize(1024, 0);
        bytes.extend(header("dir", 0, b'5'));
        bytes.extend(header("images/disk.raw", 700, b'0'));
        bytes.extend([7; 700]);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend([0; 1024]);
        bytes
    }

    fn find(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>, Error> {
        let mut member = Member::find(Box::new(io::Cursor::new(bytes)), name)?;
        let mut out = Vec::new();
        member.read_to_end(&mut out).map_err(Error::Archive)?;
        Ok(out)
    }

    #[test]
    fn one_file_comes_whole_or_not_at_all() {
        assert_eq!(find(archive(), "images/disk.raw").unwrap(), [7; 700]);
        assert_eq!(find(archive(), "./readme").unwrap(), b"abc");
        let all = archive().len();
        for cut in [all - 512, all - 1100, 1100, 600] {
            let error = find(archive()[..cut].to_vec(), "images/disk.raw").unwrap_err();
            assert!(
                matches!(&error, Error::Archive(e) if e.kind() == io::ErrorKind::UnexpectedEof),
                "{cut}: {error:?}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let error = find(archive(), "disk.raw").unwrap_err().to_string();
        assert_eq!(error, "it has no file \"disk.raw\"; there are: readme, dir, images/disk.raw");
        assert!(matches!(find(archive(), "dir"), Err(Error::Kind { .. })));
        assert!(matches!(find(vec![7; 5000], "x"), Err(Error::Archive(_))));
    }
}
