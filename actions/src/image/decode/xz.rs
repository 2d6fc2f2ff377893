//! xz streams, one after the other, with the padding that may stand between them. The library unpacks blocks on several
//! threads where the file was written in blocks, as long as that fits the memory allowed.

use std::io::{self, BufRead, Read};

use liblzma::stream::{Action, MtStreamBuilder, Status, Stream};

use super::{Input, cores, damaged, short};

/// More than this is not taken for more threads.
const THREADING: u64 = 160 << 20;
/// A file that needs more than this is refused: `xz -9` needs 65 MiB.
const MOST: u64 = 200 << 20;

/// The content of such a file.
pub struct Xz {
    input: Input,
    stream: Stream,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inside,
    /// After so many zero bytes of padding.
    Between(u64),
}

impl Xz {
    pub fn new(input: Input) -> io::Result<Self> {
        Ok(Self { input, stream: stream()?, place: Place::Inside })
    }

    /// To the next stream, or the end.
    fn skip_padding(&mut self, mut padding: u64) -> io::Result<bool> {
        loop {
            let bytes = self.input.fill_buf()?;
            let len = bytes.len();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            self.input.consume(zeros);
            padding += zeros as u64;
            if len == 0 || zeros < len {
                if !padding.is_multiple_of(4) {
                    return Err(damaged("padding between streams that is no multiple of four"));
                }
                return Ok(len > 0);
            }
        }
    }
}

impl Read for Xz {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Place::Between(padding) = self.place {
                if !self.skip_padding(padding)? {
                    return Ok(0);
                }
                self.stream = stream()?;
                self.place = Place::Inside;
            }
            let (before_in, before_out) = (self.stream.total_in(), self.stream.total_out());
            let input = self.input.fill_buf()?;
            let ended = input.is_empty();
            let action = if ended { Action::Finish } else { Action::Run };
            let status = self.stream.process(input, buf, action);
            let consumed = (self.stream.total_in() - before_in) as usize;
            self.input.consume(consumed);
            let read = (self.stream.total_out() - before_out) as usize;
            match status {
                Ok(Status::StreamEnd) => self.place = Place::Between(0),
                Err(liblzma::stream::Error::MemLimit) => {
                    return Err(damaged(format!("unpacking it takes more memory than the {} MiB allowed", MOST >> 20)));
                }
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
                Ok(_) if read == 0 && ended => return Err(short("a stream")),
                Ok(_) => {}
            }
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
        }
    }
}

fn stream() -> io::Result<Stream> {
    let mut builder = MtStreamBuilder::new();
    builder.threads(cores() as u32).memlimit_threading(THREADING).memlimit_stop(MOST);
    builder.decoder().map_err(io::Error::other)
}
