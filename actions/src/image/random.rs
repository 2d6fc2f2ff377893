//! The published file read in any order, for formats that need it. What was proven in one pass over the whole file stays
//! true of every later read: each is compared with what that pass saw.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use fetch::{Options, Ranged};
use sha2::{Digest, Sha256};

use crate::image::proof::{Proof, Wrong};
use crate::image::published::{self, Error, Place};
use crate::image::qcow2::ReadAt;

/// Bytes that are compared at once.
const PIECE: u64 = 256 << 10;

struct OnDisk(File, u64);

impl ReadAt for OnDisk {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn length(&self) -> u64 {
        self.1
    }
}

impl ReadAt for Ranged {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        Ranged::read_at(self, buf, offset)
    }

    fn length(&self) -> u64 {
        Ranged::length(self)
    }
}

/// Opens it.
pub fn open(place: &Place, options: &Options) -> Result<Box<dyn ReadAt>, Error> {
    match place {
        Place::Web(urls) => Ok(Box::new(Ranged::open(urls, options).map_err(Error::Fetch)?)),
        Place::File(path) => {
            let failed = |source| Error::Open { path: path.clone(), source };
            let mut file = File::open(path).map_err(failed)?;
            let length = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
            Ok(Box::new(OnDisk(file, length)))
        }
        Place::Registry { reference, title, access } => {
            Ok(Box::new(published::ranged(reference, title.as_deref(), access)?))
        }
    }
}

/// What one pass over a file saw of each piece of it.
pub struct Seen(Vec<[u8; 16]>);

/// Reads the whole file once, and proves it.
pub fn prove(file: &mut dyn Read, proof: &Proof) -> io::Result<Result<Seen, Wrong>> {
    let mut seen = Vec::new();
    let mut broken = None;
    let pieces = std::iter::from_fn(|| {
        let mut piece = Vec::with_capacity(PIECE as usize);
        match (&mut *file).take(PIECE).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some(piece),
            Err(e) => {
                broken = Some(e);
                None
            }
        }
    });
    let proven = proof.of(pieces, |piece| seen.push(hash(&piece)));
    match broken {
        Some(e) => Err(e),
        None => Ok(proven.map(|()| Seen(seen))),
    }
}

fn hash(piece: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(piece)[..16]);
    short
}

/// A file of which every piece has to be what was seen before.
pub struct Compared {
    file: Box<dyn ReadAt>,
    seen: Seen,
    kept: Option<(u64, Vec<u8>)>,
}

impl Compared {
    /// The same file, opened again.
    pub fn new(file: Box<dyn ReadAt>, seen: Seen) -> Self {
        Self { file, seen, kept: None }
    }

    fn piece(&mut self, index: u64) -> io::Result<&[u8]> {
        if self.kept.as_ref().is_none_or(|(kept, _)| *kept != index) {
            let start = index * PIECE;
            let mut piece = vec![0; PIECE.min(self.file.length().saturating_sub(start)) as usize];
            self.file.read_at(&mut piece, start)?;
            if self.seen.0.get(index as usize) != Some(&hash(&piece)) {
                return Err(io::Error::other(format!("it changed at byte {start} between two reads of it")));
            }
            self.kept = Some((index, piece));
        }
        Ok(self.kept.as_ref().map(|(_, piece)| piece.as_slice()).unwrap_or_default())
    }
}

impl ReadAt for Compared {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let piece = self.piece(at / PIECE)?;
            let from = piece.get((at % PIECE) as usize..).filter(|from| !from.is_empty());
            let from = from.ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = from.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&from[..len]);
            done += len;
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        self.file.length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_changes_after_its_proof_is_noticed() {
        let bytes: Vec<u8> = (0..700_000u32).map(|n| (n >> 5) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let place = Place::File(file.path().to_owned());
        let open = || open(&place, &Options::default()).unwrap();
        let seen = || prove(&mut bytes.as_slice(), &Proof::default()).unwrap().unwrap();
        let mut compared = Compared::new(open(), seen());
        let mut buf = vec![0; 300_000];
        compared.read_at(&mut buf, 399_999).unwrap();
        assert!(buf == bytes[399_999..699_999]);
        assert!(compared.read_at(&mut buf, 400_001).is_err());
        file.as_file().write_all_at(b"x", 600_000).unwrap();
        let mut compared = Compared::new(open(), seen());
        compared.read_at(&mut buf[..9], 0).unwrap();
        assert!(compared.read_at(&mut buf[..9], 699_000).is_err());
    }
}
