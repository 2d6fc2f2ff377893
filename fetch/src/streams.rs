//! The rest of a file by several ranges at once: each a request of its own for exactly so many bytes of exactly the file
//! that had begun to arrive. Gives the bytes in order, or up as soon as one range is not what was asked for: whoever reads
//! goes on with one connection then. Bounded by one piece for each connection.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};

use crate::body::text;
use crate::client::Client;

/// The most that may be asked for.
pub const MOST: usize = 8;
/// Where the first piece begins: what comes before is read from the answer that is at hand.
pub(crate) const FIRST: u64 = 256 << 10;
/// Bytes of a range.
const PIECE: u64 = 3 << 19;
/// How often a range is asked for whose connection breaks.
const TRIES: u32 = 3;

/// The connections.
#[derive(Debug)]
pub(crate) struct Streams {
    sources: Vec<Source>,
    /// Which of them has the piece that is read.
    current: usize,
    piece: io::Cursor<Vec<u8>>,
    left: Arc<AtomicBool>,
}

/// One of them. Its buffer goes to and fro.
#[derive(Debug)]
struct Source {
    pieces: Receiver<Vec<u8>>,
    used: Sender<Vec<u8>>,
}

/// The file, as its first answer described it.
#[derive(Clone, Debug)]
struct File {
    tag: String,
    total: u64,
}

impl Streams {
    /// Begins at [`FIRST`] of a file of `total` bytes; nothing when that is not worth it, or the tag not a strong one.
    pub(crate) fn start(client: &Client, tag: &str, total: u64) -> Option<Self> {
        let count = client.options.streams.min(MOST);
        if count < 2 || total <= FIRST + PIECE || !tag.starts_with('"') {
            return None;
        }
        let left = Arc::new(AtomicBool::new(false));
        let mut sources = Vec::new();
        for index in 0..count as u64 {
            let (to_reader, pieces) = sync_channel(1);
            let (used, free) = channel();
            // The receiver is one line up.
            let _ = used.send(Vec::new());
            let worker =
                Worker { client: client.clone(), file: File { tag: tag.to_owned(), total }, left: left.clone() };
            let work = move || worker.run(index, count as u64, &to_reader, &free);
            thread::Builder::new().name("fetch".into()).spawn(work).ok()?;
            sources.push(Source { pieces, used });
        }
        let current = sources.len() - 1;
        Some(Self { sources, current, piece: io::Cursor::default(), left })
    }

    /// The next bytes; nothing when a range did not come as it should.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Option<usize> {
        if self.piece.position() == self.piece.get_ref().len() as u64 {
            let used = std::mem::take(&mut self.piece).into_inner();
            if used.capacity() > 0 {
                // A worker that has ended needs it no more.
                let _ = self.sources[self.current].used.send(used);
            }
            self.current = (self.current + 1) % self.sources.len();
            self.piece = io::Cursor::new(self.sources[self.current].pieces.recv().ok()?);
        }
        self.piece.read(buf).ok().filter(|n| *n > 0)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

/// A thread with a connection.
struct Worker {
    client: Client,
    file: File,
    /// Nobody reads any more.
    left: Arc<AtomicBool>,
}

impl Worker {
    /// Every so many-th piece, until the end, or until one cannot be had.
    fn run(&self, index: u64, count: u64, to: &SyncSender<Vec<u8>>, free: &Receiver<Vec<u8>>) {
        let mut from = FIRST + index * PIECE;
        while from < self.file.total {
            let last = (from + PIECE).min(self.file.total) - 1;
            let Ok(mut piece) = free.recv() else { return };
            let done = (0..TRIES).find_map(|_| self.get(from, last, &mut piece).transpose());
            let Some(Ok(())) = done else { return };
            if to.send(piece).is_err() {
                return;
            }
            from += count * PIECE;
        }
    }

    /// One range. Nothing when its connection broke and another one may do; an error when the answer is another one.
    fn get(&self, from: u64, last: u64, piece: &mut Vec<u8>) -> Result<Option<()>, ()> {
        let range = format!("bytes={from}-{last}");
        let Ok(response) = self.client.get().header(RANGE, range).header(IF_RANGE, &self.file.tag).send() else {
            return Ok(None);
        };
        if response.status().is_server_error() {
            return Ok(None);
        }
        let sent = |name| text(response.headers(), name);
        let wanted = format!("bytes {from}-{last}/{}", self.file.total);
        let is_it = response.status() == StatusCode::PARTIAL_CONTENT
            && sent(ETAG).as_ref() == Some(&self.file.tag)
            && sent(CONTENT_RANGE).as_ref() == Some(&wanted);
        if !is_it {
            return Err(());
        }
        piece.resize((last - from + 1) as usize, 0);
        self.read(response, piece)
    }

    fn read(&self, mut from: impl Read, piece: &mut [u8]) -> Result<Option<()>, ()> {
        let mut got = 0;
        while got < piece.len() {
            if self.left.load(Ordering::Relaxed) {
                return Err(());
            }
            match from.read(&mut piece[got..]) {
                Ok(0) => return Ok(None),
                Ok(n) => got += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(()),
                Err(_) => return Ok(None),
            }
        }
        // Its end, so that the connection can be used again; what is more than was announced is not ours.
        match from.read(&mut [0]) {
            Ok(0) => Ok(Some(())),
            _ => Err(()),
        }
    }
}
