//! What a transfer sends: bytes in memory, or a file read in large pieces as it goes. A file that shrinks meanwhile
//! ends the transfer; nothing is made up for what is missing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;

/// Read at once. A block never needs more than two pieces.
const PIECE: u64 = 1 << 20;

/// The content of one transfer.
pub(super) struct Source {
    total: u64,
    file: Option<Arc<File>>,
    piece: Bytes,
    start: u64,
}

impl From<Bytes> for Source {
    fn from(piece: Bytes) -> Self {
        Self { total: piece.len() as u64, file: None, piece, start: 0 }
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
        Ok(Some(Self { total, file: Some(Arc::new(file)), piece: Bytes::new(), start: 0 }))
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Makes `from..to` readable by [`Source::get`].
    pub(super) async fn load(&mut self, from: u64, to: u64) -> io::Result<()> {
        let to = to.min(self.total);
        let Some(file) = self.file.clone() else { return Ok(()) };
        if from >= self.start && to <= self.start + self.piece.len() as u64 {
            return Ok(());
        }
        let length = (to - from).max(PIECE).min(self.total - from);
        let read = move || {
            let mut piece = vec![0; length as usize];
            file.read_exact_at(&mut piece, from)?;
            Ok::<_, io::Error>(piece)
        };
        let piece = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        (self.piece, self.start) = (piece.into(), from);
        Ok(())
    }

    /// What was loaded; shorter at the end.
    pub(super) fn get(&self, from: u64, to: u64) -> &[u8] {
        let end = self.piece.len() as u64;
        let at = |position: u64| (position.saturating_sub(self.start)).min(end) as usize;
        &self.piece[at(from)..at(to)]
    }
}
