//! What a container writes: each line to the agent's own output, the last 64 KiB kept for a failure's report.
//! The output may be a serial console, slower than anything that is written, so a thread of its own waits for it.

use std::collections::VecDeque;
use std::io::Write;

use tokio::sync::mpsc;

/// What is kept.
const TAIL: usize = 64 << 10;
/// A line longer than this is cut into several, so that output without line ends cannot fill the memory.
const LINE: usize = 8 << 10;
/// Lines that may wait for the output.
const WAITING: usize = 256;

/// The log of one container.
#[derive(Debug)]
pub struct Log {
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

impl Log {
    /// The log of an action of this name.
    pub fn new(action: &str) -> Self {
        Self { prefix: action.to_owned(), partial: [Vec::new(), Vec::new()], tail: VecDeque::new(), size: 0 }
    }

    /// Takes bytes as they come and gives the lines that they complete, as they are to be shown.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            let partial = &mut self.partial[stream as usize];
            // Programs that draw a progress bar end their lines with a carriage return.
            let ends = matches!(byte, b'\n' | b'\r');
            if !ends {
                partial.push(*byte);
            }
            if ends || partial.len() >= LINE {
                lines.extend(self.end_line(stream));
            }
        }
        lines
    }

    /// Gives what is left without a line end.
    pub fn end(&mut self) -> Vec<String> {
        [Stream::Out, Stream::Error].into_iter().filter_map(|stream| self.end_line(stream)).collect()
    }

    /// The end of the log.
    pub fn tail(&mut self) -> String {
        self.end();
        self.tail.make_contiguous().join("\n")
    }

    fn end_line(&mut self, stream: Stream) -> Option<String> {
        let bytes = std::mem::take(&mut self.partial[stream as usize]);
        // Escape sequences of an action must not reach the console.
        let line: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control() || *c == '\t').collect();
        if line.trim().is_empty() {
            return None;
        }
        let shown = format!("{}: {line}", self.prefix);
        self.size += line.len() + 1;
        self.tail.push_back(line);
        while self.size > TAIL {
            self.size -= self.tail.pop_front().map_or(self.size, |line| line.len() + 1);
        }
        Some(shown)
    }
}

/// Where lines are shown, in order, by a thread that ends with the last printer.
#[derive(Clone, Debug)]
pub struct Printer(mpsc::Sender<String>);

impl Printer {
    /// Shows lines on `out`.
    pub fn new(mut out: impl Write + Send + 'static) -> Self {
        let (sender, mut lines) = mpsc::channel::<String>(WAITING);
        std::thread::spawn(move || {
            while let Some(line) = lines.blocking_recv() {
                // A closed output is no reason to stop an action.
                let _ = writeln!(out, "{line}");
            }
        });
        Self(sender)
    }

    /// Hands lines over, waiting for the output when it is behind; may be dropped at any moment.
    pub async fn print(&self, lines: Vec<String>) {
        for line in lines {
            // Only a thread that has panicked takes no more.
            let _ = self.0.send(line).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc as sync;
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_are_put_together_per_stream() {
        let mut log = Log::new("t");
        let mut shown = log.push(Stream::Out, b"one\ntw");
        shown.extend(log.push(Stream::Error, b"bad\r\n"));
        shown.extend(log.push(Stream::Out, b"o\n\n\x1b[31mthree"));
        shown.extend(log.end());
        assert_eq!(log.tail(), "one\nbad\ntwo\n[31mthree");
        assert_eq!(shown, ["t: one", "t: bad", "t: two", "t: [31mthree"]);
    }

    #[test]
    fn the_tail_is_bounded_and_ends_with_the_end() {
        let mut log = Log::new("t");
        for i in 0..20_000 {
            log.push(Stream::Out, format!("line {i}\n").as_bytes());
        }
        log.push(Stream::Out, &vec![b'x'; 3 * LINE]);
        let tail = log.tail();
        assert!(tail.len() <= TAIL && tail.len() > TAIL / 2, "{}", tail.len());
        assert!(tail.ends_with(&"x".repeat(LINE)) && tail.contains("line 19999\n"));
    }

    /// An output that takes nothing before it is told to, and tells what it has taken.
    struct Stuck(sync::Receiver<()>, sync::Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stuck_output_blocks_no_task_and_loses_no_line() {
        let (go, gate) = sync::channel();
        let (taken, lines) = sync::channel();
        let printer = Printer::new(Stuck(gate, taken));
        let all: Vec<String> = (0..WAITING + 10).map(|i| i.to_string()).collect();
        // This runtime has one thread: a print that blocked it would also stop its timers.
        let blocked = tokio::time::timeout(Duration::from_millis(50), printer.print(all)).await;
        assert!(blocked.is_err());
        drop((go, printer));
        let shown: Vec<u8> = lines.iter().flatten().collect();
        assert!(String::from_utf8(shown).unwrap().starts_with("0\n1\n2\n"));
    }
}
