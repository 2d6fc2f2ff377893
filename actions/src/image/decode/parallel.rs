//! Pieces of a file that unpack independently (members, frames), cut ahead of time, unpacked on several threads and given
//! out in order. A piece too large to be held is unpacked as a stream instead. Bounded by [`BUDGET`].

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::window::Window;
use super::{cores, damaged};

/// Bytes that all pieces on their way may take, packed (twice: kept and copied) and unpacked.
const BUDGET: usize = 96 << 20;
/// A piece that is, or unpacks to, more than this is streamed.
pub const LARGEST: usize = 16 << 20;

/// Where the next piece ends.
pub enum Cut {
    /// Here; it unpacks to at most `room` bytes.
    At { len: usize, room: usize },
    /// Not yet seen.
    More,
    /// Too far away: stream it.
    Alone,
}

/// Unpacks whole pieces; each thread has its own.
pub type Unpack = Box<dyn FnMut(&[u8], usize) -> io::Result<Vec<u8>>>;

/// A format that consists of pieces.
pub trait Format: Send + 'static {
    /// Whether a cut may be wrong; then it is tried again as a stream.
    const GUESSES: bool;
    /// Unpacks one piece as a stream and reads not one byte further.
    type One: Read + Send;
    /// Looks at the bytes from the start of a piece. With `ended` it never asks for more. Called again with a longer
    /// view after `More`; begins with a new piece after anything else.
    fn cut(&mut self, ahead: &[u8], ended: bool) -> io::Result<Cut>;
    /// Forgets a piece it has seen in part.
    fn reset(&mut self);
    fn unpacker() -> io::Result<Unpack>;
    fn one(window: Window) -> io::Result<Self::One>;
    fn back(one: Self::One) -> Window;
}

enum State<O> {
    Cutting(Window),
    One(O),
    Broken,
}

struct Worker {
    jobs: SyncSender<(Vec<u8>, usize)>,
    results: Receiver<io::Result<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// A piece on its way.
struct Flying {
    worker: usize,
    len: usize,
    weight: usize,
}

/// The content of such a file.
pub struct Parallel<F: Format> {
    format: F,
    state: State<F::One>,
    workers: Vec<Worker>,
    /// The next one to get a piece.
    turn: usize,
    flying: VecDeque<Flying>,
    out: Vec<u8>,
    out_at: usize,
}

impl<F: Format> Parallel<F> {
    pub fn new(format: F, window: Window) -> io::Result<Self> {
        let state = State::Cutting(window);
        Ok(Self { format, state, workers: Vec::new(), turn: 0, flying: VecDeque::new(), out: Vec::new(), out_at: 0 })
    }

    /// Gives pieces to the threads as long as there are some and there is room; false when the next one has to be
    /// streamed.
    fn dispatch(&mut self) -> io::Result<bool> {
        let State::Cutting(window) = &mut self.state else { return Ok(true) };
        if self.workers.is_empty() {
            self.workers = (0..cores()).map(|_| worker::<F>()).collect::<io::Result<_>>()?;
        }
        let mut dispatched: usize = self.flying.iter().map(|f| f.len).sum();
        let mut weight: usize = self.flying.iter().map(|f| f.weight).sum();
        while self.flying.len() < 2 * self.workers.len() && weight < BUDGET {
            if window.ahead().len() == dispatched && !window.more()? {
                break;
            }
            let ahead = &window.ahead()[dispatched..];
            match self.format.cut(ahead, window.has_ended())? {
                Cut::At { len, room } => {
                    let job = (ahead[..len].to_vec(), room);
                    self.workers[self.turn].jobs.send(job).map_err(|_| gone())?;
                    let flying = Flying { worker: self.turn, len, weight: 2 * len + room };
                    dispatched += len;
                    weight += flying.weight;
                    self.flying.push_back(flying);
                    self.turn = (self.turn + 1) % self.workers.len();
                }
                Cut::More => {
                    window.more()?;
                }
                Cut::Alone => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The oldest piece on its way, or a switch to a stream where the cut was wrong.
    fn take(&mut self, flying: &Flying) -> io::Result<()> {
        match self.workers[flying.worker].results.recv().map_err(|_| gone())? {
            Ok(bytes) => {
                if let State::Cutting(window) = &mut self.state {
                    window.consume(flying.len);
                }
                self.out = bytes;
                self.out_at = 0;
                Ok(())
            }
            Err(e) if !F::GUESSES => Err(e),
            Err(_) => {
                for later in std::mem::take(&mut self.flying) {
                    let _ = self.workers[later.worker].results.recv().map_err(|_| gone())?;
                }
                self.format.reset();
                self.stream()
            }
        }
    }

    fn stream(&mut self) -> io::Result<()> {
        if let State::Cutting(window) = std::mem::replace(&mut self.state, State::Broken) {
            self.state = State::One(F::one(window)?);
        }
        Ok(())
    }

    fn advance(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        if let State::One(one) = &mut self.state {
            let n = one.read(buf)?;
            if n > 0 {
                return Ok(Some(n));
            }
            if let State::One(one) = std::mem::replace(&mut self.state, State::Broken) {
                let mut window = F::back(one);
                let ended = window.is_empty()?;
                self.state = State::Cutting(window);
                return Ok(ended.then_some(0));
            }
        }
        let is_cut = self.dispatch()?;
        match self.flying.pop_front() {
            Some(flying) => self.take(&flying)?,
            None if !is_cut => self.stream()?,
            None => return Ok(Some(0)),
        }
        Ok(None)
    }
}

impl<F: Format> Read for Parallel<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if buf.is_empty() {
                return Ok(0);
            }
            if self.out_at < self.out.len() {
                let n = (&self.out[self.out_at..]).read(buf)?;
                self.out_at += n;
                return Ok(n);
            }
            self.out = Vec::new();
            self.out_at = 0;
            if matches!(self.state, State::Broken) {
                return Err(damaged("it cannot be read any further"));
            }
            if let Some(n) = self.advance(buf)? {
                return Ok(n);
            }
        }
    }
}

impl<F: Format> Drop for Parallel<F> {
    fn drop(&mut self) {
        for worker in self.workers.drain(..) {
            let Worker { jobs, results, thread } = worker;
            drop((jobs, results));
            // A thread that panicked has already been noticed by its channel.
            let _ = thread.map(JoinHandle::join);
        }
    }
}

fn worker<F: Format>() -> io::Result<Worker> {
    let (jobs, to_do) = sync_channel::<(Vec<u8>, usize)>(2);
    let (done, results) = sync_channel(2);
    let thread = thread::Builder::new().name("unpack".into()).spawn(move || {
        let mut unpack = F::unpacker();
        for (piece, room) in to_do {
            let result = match &mut unpack {
                Ok(unpack) => unpack(&piece, room),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            if done.send(result).is_err() {
                break;
            }
        }
    })?;
    Ok(Worker { jobs, results, thread: Some(thread) })
}

fn gone() -> io::Error {
    io::Error::other("an unpacking thread ended unexpectedly")
}
