//! What a container writes: each line to the agent's own output at once, the last 64 KiB kept for a failure's report.

use std::collections::VecDeque;
use std::io::Write;

/// What is kept.
const TAIL: usize = 64 << 10;
/// A line longer than this is cut into several, so that output without line ends cannot fill the memory.
const LINE: usize = 8 << 10;

/// The log of one container.
#[derive(Debug)]
pub struct Log<W> {
    out: W,
    prefix: String,
    partial: [Vec<u8>; 2],
    tail: VecDeque<String>,
    size: usize,
}

/// Which of the two streams bytes came from; they are not ordered with each other.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

impl<W: Write> Log<W> {
    /// The log of an action of this name, shown on `out`.
    pub fn new(action: &str, out: W) -> Self {
        Self { out, prefix: action.to_owned(), partial: [Vec::new(), Vec::new()], tail: VecDeque::new(), size: 0 }
    }

    /// Takes bytes as they come and prints the lines that they complete.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        for byte in bytes {
            let partial = &mut self.partial[stream as usize];
            // Programs that draw a progress bar end their lines with a carriage return.
            let ends = matches!(byte, b'\n' | b'\r');
            if !ends {
                partial.push(*byte);
            }
            if ends || partial.len() >= LINE {
                self.end_line(stream);
            }
        }
    }

    /// Prints what is left without a line end, and gives the end of the log.
    pub fn finish(mut self) -> String {
        self.end_line(Stream::Out);
        self.end_line(Stream::Error);
        self.tail.make_contiguous().join("\n")
    }

    fn end_line(&mut self, stream: Stream) {
        let bytes = std::mem::take(&mut self.partial[stream as usize]);
        // Escape sequences of an action must not reach the console.
        let line: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control() || *c == '\t').collect();
        if line.trim().is_empty() {
            return;
        }
        // A closed output is no reason to stop an action.
        let _ = writeln!(self.out, "{}: {line}", self.prefix);
        self.size += line.len() + 1;
        self.tail.push_back(line);
        while self.size > TAIL {
            self.size -= self.tail.pop_front().map_or(self.size, |line| line.len() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_per_stream() {
        let mut shown = Vec::new();
        let mut log = Log::new("t", &mut shown);
        log.push(Stream::Out, b"one\ntw");
        log.push(Stream::Error, b"bad\r\n");
        log.push(Stream::Out, b"o\n\n\x1b[31mthree");
        assert_eq!(log.finish(), "one\nbad\ntwo\n[31mthree");
        assert_eq!(String::from_utf8(shown).unwrap(), "t: one\nt: bad\nt: two\nt: [31mthree\n");
    }

    #[test]
    fn the_tail_is_bounded_and_ends_with_the_end() {
        let mut log = Log::new("t", std::io::sink());
        for i in 0..20_000 {
            log.push(Stream::Out, format!("line {i}\n").as_bytes());
        }
        log.push(Stream::Out, &vec![b'x'; 3 * LINE]);
        let tail = log.finish();
        assert!(tail.len() <= TAIL && tail.len() > TAIL / 2, "{}", tail.len());
        assert!(tail.ends_with(&"x".repeat(LINE)) && tail.contains("line 19999\n"));
    }
}
