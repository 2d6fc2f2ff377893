//! What a transfer sends: bytes in memory, or a file read in large pieces as it goes. A file that shrinks meanwhile
//! ends the transfer; nothing is made up for what is missing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use axum::body::Bytes;

/// Read at once; of every transfer that runs, this much is in memory. A window never needs more.
const PIECE: u64 = 256 << 10;

/// The content of one transfer.
pub(super) enum Source {
    Memory(Bytes),
    File(Pieces),
}

/// A file, and the piece of it that is in memory.
pub(super) struct Pieces {
    file: File,
    total: u64,
    piece: Vec<u8>,
    start: u64,
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl Source {
    /// None when there is no such regular file.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let file = File::open(path)?;
        let total = file.metadata()?.len();
        Ok(Some(Self::File(Pieces { file, total, piece: Vec::new(), start: 0 })))
    }

    pub(super) fn total(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(pieces) => pieces.total,
        }
    }

    /// Makes `from..to` readable by [`Source::get`].
    pub(super) fn load(&mut self, from: u64, to: u64) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(pieces) => pieces.load(from, to),
        }
    }

    /// What was loaded; shorter at the end.
    pub(super) fn get(&self, from: u64, to: u64) -> &[u8] {
        let (piece, start): (&[u8], u64) = match self {
            Self::Memory(bytes) => (bytes, 0),
            Self::File(pieces) => (&pieces.piece, pieces.start),
        };
        let end = piece.len() as u64;
        let at = |position: u64| position.saturating_sub(start).min(end) as usize;
        &piece[at(from)..at(to)]
    }
}

impl Pieces {
    fn load(&mut self, from: u64, to: u64) -> io::Result<()> {
        let to = to.min(self.total);
        if from >= self.start && to <= self.start + self.piece.len() as u64 {
            return Ok(());
        }
        let length = (to - from).max(PIECE).min(self.total - from);
        self.piece.resize(length as usize, 0);
        self.start = from;
        self.file.read_exact_at(&mut self.piece, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_in_pieces_and_one_that_shrinks_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..3 * PIECE + 5).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let mut source = Source::open(&path).unwrap().unwrap();
        for (from, to) in [(0, 10), (PIECE - 3, PIECE + 4), (0, 1), (3 * PIECE, 3 * PIECE + 100)] {
            source.load(from, to).unwrap();
            let end = to.min(source.total()) as usize;
            assert!(source.get(from, to) == &bytes[from as usize..end], "{from}..{to}");
        }
        File::options().write(true).open(&path).unwrap().set_len(PIECE).unwrap();
        assert!(source.load(PIECE, PIECE + 10).is_err());
        assert!(
            Source::open(dir.path()).unwrap().is_none() && Source::open(&dir.path().join("none")).unwrap().is_none()
        );
    }
}
