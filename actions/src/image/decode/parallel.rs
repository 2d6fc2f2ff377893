//! Pieces of a file that unpack independently (members, frames), cut ahead of time, unpacked on several threads and given
//! out in order. A piece too large to be held is unpacked as a stream instead. Bounded by [`BUDGET`].

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::pool::Pool;
use super::window::Window;
use super::{cores, damaged};
use crate::disk::aligned::{ALIGNMENT, Aligned, Piece};
use crate::disk::stream::Bytes;

/// Bytes that all pieces on their way may take, packed (twice: kept and copied) and unpacked, until they are written.
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

/// Unpacks a whole piece, and says to how many bytes; each thread has its own.
pub type Unpack = Box<dyn FnMut(&[u8], &mut [u8]) -> io::Result<usize>>;

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
    jobs: SyncSender<Job>,
    results: Receiver<(Aligned, io::Result<usize>)>,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    packed: Vec<u8>,
    buffer: Aligned,
    room: usize,
}

/// A piece on its way.
struct Flying {
    worker: usize,
    len: usize,
}

/// The content of such a file.
pub struct Parallel<F: Format> {
    format: F,
    state: State<F::One>,
    workers: Vec<Worker>,
    /// The next one to get a piece.
    turn: usize,
    /// The next piece, its length and room, when there is no buffer for it yet.
    waiting: Option<(usize, usize)>,
    flying: VecDeque<Flying>,
    pool: Pool,
    out: Option<Piece>,
}

/// What comes next.
enum Next {
    /// What is in `out`.
    Out,
    /// A piece that is streamed.
    One,
    End,
}

impl<F: Format> Parallel<F> {
    pub fn new(format: F, window: Window) -> io::Result<Self> {
        let state = State::Cutting(window);
        let (workers, flying) = (Vec::new(), VecDeque::new());
        Ok(Self { format, state, workers, turn: 0, waiting: None, flying, pool: Pool::new(), out: None })
    }

    /// Gives pieces to the threads as long as there are some and there is room; false when the next one has to be
    /// streamed.
    fn dispatch(&mut self) -> io::Result<bool> {
        let State::Cutting(window) = &mut self.state else { return Ok(true) };
        if self.workers.is_empty() {
            self.workers = (0..cores()).map(|_| worker::<F>()).collect::<io::Result<_>>()?;
        }
        let mut dispatched: usize = self.flying.iter().map(|f| f.len).sum();
        while self.flying.len() < 2 * self.workers.len() {
            if window.ahead().len() == dispatched && !window.more()? {
                break;
            }
            let ahead = &window.ahead()[dispatched..];
            let (len, room) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => match self.format.cut(ahead, window.has_ended())? {
                    Cut::At { len, room } => (len, room),
                    Cut::More => {
                        window.more()?;
                        continue;
                    }
                    Cut::Alone => return Ok(false),
                },
            };
            let Some(buffer) = self.pool.get(room, BUDGET.saturating_sub(2 * (dispatched + len))) else {
                self.waiting = Some((len, room));
                // With nothing on its way, all buffers are with who writes.
                if self.flying.is_empty() && self.pool.wait() {
                    continue;
                }
                break;
            };
            let job = Job { packed: ahead[..len].to_vec(), buffer, room };
            self.workers[self.turn].jobs.send(job).map_err(|_| gone())?;
            self.flying.push_back(Flying { worker: self.turn, len });
            dispatched += len;
            self.turn = (self.turn + 1) % self.workers.len();
        }
        Ok(true)
    }

    /// The oldest piece on its way, or a switch to a stream where the cut was wrong.
    fn take(&mut self, flying: &Flying) -> io::Result<()> {
        let (buffer, result) = self.workers[flying.worker].results.recv().map_err(|_| gone())?;
        match result {
            Ok(len) => {
                if let State::Cutting(window) = &mut self.state {
                    window.consume(flying.len);
                }
                self.out = Some(self.pool.lend(buffer, len));
                Ok(())
            }
            Err(e) if !F::GUESSES => Err(e),
            Err(_) => {
                self.pool.put(buffer);
                for later in std::mem::take(&mut self.flying) {
                    let (buffer, _) = self.workers[later.worker].results.recv().map_err(|_| gone())?;
                    self.pool.put(buffer);
                }
                self.waiting = None;
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

    fn next(&mut self) -> io::Result<Next> {
        loop {
            if self.out.as_ref().is_some_and(|out| !out.is_empty()) {
                return Ok(Next::Out);
            }
            self.out = None;
            match self.state {
                State::Broken => return Err(damaged("it cannot be read any further")),
                State::One(_) => return Ok(Next::One),
                State::Cutting(_) => {}
            }
            let is_cut = self.dispatch()?;
            match self.flying.pop_front() {
                Some(flying) => self.take(&flying)?,
                None if !is_cut => self.stream()?,
                None => return Ok(Next::End),
            }
        }
    }

    /// Of a piece that is streamed; nothing at its end.
    fn read_one(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let State::One(one) = &mut self.state else { return Ok(0) };
        let n = one.read(buf)?;
        if n == 0
            && let State::One(one) = std::mem::replace(&mut self.state, State::Broken)
        {
            self.state = State::Cutting(F::back(one));
        }
        Ok(n)
    }
}

impl<F: Format> Read for Parallel<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self.next()? {
                Next::Out => {
                    let part = self.out.as_mut().map(|out| out.split(buf.len()));
                    let part = part.as_deref().unwrap_or_default();
                    buf[..part.len()].copy_from_slice(part);
                    return Ok(part.len());
                }
                Next::One => match self.read_one(buf)? {
                    0 => {}
                    n => return Ok(n),
                },
                Next::End => return Ok(0),
            }
        }
    }
}

impl<F: Format> Bytes for Parallel<F> {
    fn piece(&mut self, most: usize) -> io::Result<Option<Piece>> {
        let Next::Out = self.next()? else { return Ok(None) };
        let Some(out) = self.out.as_mut().filter(|out| out.is_aligned()) else { return Ok(None) };
        let len = out.len().min(most) / ALIGNMENT * ALIGNMENT;
        Ok((len > 0).then(|| out.split(len)))
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
    let (jobs, to_do) = sync_channel::<Job>(2);
    let (done, results) = sync_channel(2);
    let thread = thread::Builder::new().name("unpack".into()).spawn(move || {
        let mut unpack = F::unpacker();
        for Job { packed, mut buffer, room } in to_do {
            let result = match &mut unpack {
                Ok(unpack) => unpack(&packed, &mut buffer[..room]),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            if done.send((buffer, result)).is_err() {
                break;
            }
        }
    })?;
    Ok(Worker { jobs, results, thread: Some(thread) })
}

fn gone() -> io::Error {
    io::Error::other("an unpacking thread ended unexpectedly")
}
