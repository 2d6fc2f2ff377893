//! A reader that is read ahead of its user on a thread of its own, and proven on another one: fetching, hashing and
//! unpacking overlap. Bounded by a few blocks. Must not interpret the bytes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::disk::stream::Bytes;
use crate::image::proof::{Proof, Wrong};

/// Bytes that are handed over at once.
const BLOCK: usize = 512 << 10;
/// Blocks that wait between two threads.
const WAITING: usize = 6;

/// A block, or why there is none.
type Step = io::Result<Vec<u8>>;

/// The bytes, in order.
pub struct Ahead {
    steps: Receiver<Step>,
    used: Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    /// Where an error goes that nobody reads any more, when there is a proof to be finished.
    late: Option<Sender<io::Error>>,
}

/// Why bytes are not what they should be.
#[derive(Debug)]
pub enum Fault {
    /// They are others.
    Wrong(Wrong),
    /// Not all of them came; the error, when the reader has not seen it.
    Broken(Option<io::Error>),
}

/// How far the reading is, and at its end what the proof says.
pub struct Tracker {
    got: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
    verdict: Receiver<Result<(), Fault>>,
    late: Receiver<io::Error>,
}

/// Starts to read. With a proof, or where the reader itself `proves` its bytes, it goes on to the end when the user leaves.
pub fn ahead(reader: Box<dyn Read + Send>, proof: Proof, proves: bool) -> io::Result<(Ahead, Tracker)> {
    let (to_user, steps) = sync_channel(WAITING);
    let (used, free) = channel();
    let (to_late, late) = channel();
    let is_proven = proves || !proof.is_waived();
    let (to_tracker, verdict) = sync_channel(1);
    let (got, cancelled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let blocks = Blocks { reader, free, got: got.clone(), cancelled: cancelled.clone() };
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.into()).spawn(work);
    if !is_proven {
        spawn("read", Box::new(move || blocks.read_all(&to_user)))?;
    } else {
        let (to_proof, to_prove) = sync_channel(WAITING);
        spawn("read", Box::new(move || blocks.read_all(&to_proof)))?;
        spawn("prove", Box::new(move || prove(&proof, &to_prove, &to_user, &to_tracker)))?;
    }
    let late_of_user = is_proven.then_some(to_late);
    let user = Ahead { steps, used, block: Vec::new(), at: 0, late: late_of_user };
    Ok((user, Tracker { got, cancelled, verdict, late }))
}

impl Tracker {
    /// Bytes read so far.
    pub fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    /// Waits for the end of the bytes. Success when nothing was promised.
    pub fn verdict(&self) -> Result<(), Fault> {
        match self.verdict.recv() {
            Ok(Err(Fault::Broken(None))) => Err(Fault::Broken(self.late.try_recv().ok())),
            Ok(verdict) => verdict,
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The proof goes on to the end; an error that is still on its way to us belongs to its verdict.
        if let Some(late) = &self.late {
            for e in self.steps.iter().filter_map(Result::err) {
                let _ = late.send(e);
            }
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

struct Blocks {
    reader: Box<dyn Read + Send>,
    free: Receiver<Vec<u8>>,
    got: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
}

impl Blocks {
    /// Until the end, an error, or nobody wants any more.
    fn read_all(mut self, to: &SyncSender<Step>) {
        while !self.cancelled.load(Ordering::Relaxed) {
            let mut block = self.free.try_recv().unwrap_or_default();
            block.resize(BLOCK, 0);
            let (len, result) = self.fill(&mut block);
            block.truncate(len);
            if len > 0 && to.send(Ok(block)).is_err() {
                return;
            }
            match result {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => {
                    let _ = to.send(Err(e));
                    return;
                }
            }
        }
    }

    /// Whether there may be more.
    fn fill(&mut self, block: &mut [u8]) -> (usize, io::Result<bool>) {
        let mut len = 0;
        while len < block.len() {
            match self.reader.read(&mut block[len..]) {
                Ok(0) => return (len, Ok(false)),
                Ok(n) => {
                    len += n;
                    self.got.fetch_add(n as u64, Ordering::Relaxed);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (len, Err(e)),
            }
        }
        (len, Ok(true))
    }
}

/// Goes on to the end even when the user has left: what a decoder stumbled over shows best as a wrong digest.
fn prove(proof: &Proof, steps: &Receiver<Step>, to: &SyncSender<Step>, verdict: &SyncSender<Result<(), Fault>>) {
    let mut broken = None;
    let blocks = std::iter::from_fn(|| match steps.recv() {
        Ok(Ok(block)) => Some(block),
        Ok(Err(e)) => {
            broken = Some(e);
            None
        }
        Err(_) => None,
    });
    let result = proof.of(blocks, |block| drop(to.send(Ok(block))));
    let result = match broken {
        Some(e) => {
            let _ = to.send(Err(e));
            Err(Fault::Broken(None))
        }
        None => result.map_err(Fault::Wrong),
    };
    let _ = verdict.send(result);
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            let used = std::mem::take(&mut self.block);
            self.at = 0;
            let _ = self.used.send(used);
            if let Ok(step) = self.steps.recv() {
                self.block = step?;
            }
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, len: usize) {
        self.at = (self.at + len).min(self.block.len());
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

impl Bytes for Ahead {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::checksum::parse;

    fn sum_of(bytes: &[u8]) -> Proof {
        use sha2::Digest;
        let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        Proof { checksum: parse(&format!("sha256:{hex}")).unwrap(), signature: None }
    }

    #[test]
    fn all_bytes_come_and_are_proven() {
        let bytes: Vec<u8> = (0..5 << 20).map(|n: u32| (n >> 9) as u8).collect();
        for proof in [Proof::default(), sum_of(&bytes)] {
            let (mut reader, tracker) = ahead(Box::new(io::Cursor::new(bytes.clone())), proof, false).unwrap();
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap();
            assert!(out == bytes);
            assert!(tracker.verdict().is_ok());
            assert_eq!(tracker.got(), bytes.len() as u64);
        }
    }

    #[test]
    fn the_proof_goes_on_when_the_user_stops() {
        let bytes = vec![7; 9 << 20];
        let (mut reader, tracker) =
            ahead(Box::new(io::Cursor::new(bytes.clone())), sum_of(&bytes[1..]), false).unwrap();
        reader.read_exact(&mut [0; 10]).unwrap();
        drop(reader);
        assert!(matches!(tracker.verdict(), Err(Fault::Wrong(Wrong::Digest { .. }))));
    }

    #[test]
    fn a_break_comes_after_the_bytes_before_it() {
        struct Breaks(bool);
        impl Read for Breaks {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    Err(io::Error::other("cut"))
                } else {
                    buf[0] = 9;
                    Ok(1)
                }
            }
        }
        let (mut reader, tracker) = ahead(Box::new(Breaks(false)), sum_of(b"x"), false).unwrap();
        let mut out = Vec::new();
        assert_eq!(reader.read_to_end(&mut out).unwrap_err().to_string(), "cut");
        assert_eq!(out, [9]);
        assert!(matches!(tracker.verdict(), Err(Fault::Broken(None))));
    }
}
