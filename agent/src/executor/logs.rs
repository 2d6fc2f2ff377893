//! What a container writes: each line to the server and to the agent's own output, the last 64 KiB kept for a failure's
//! report. Neither is waited for: the server may be away, and the output may be a serial console, slower than anything
//! that is written.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::backlog::{Lines, backlog};
use crate::progress::Reporter;

/// What is kept.
const TAIL: usize = 64 << 10;
/// A line longer than this is cut into several, so that output without line ends cannot fill the memory.
const LINE: usize = 8 << 10;
/// Bytes of lines that may wait for the output.
const WAITING: usize = 2 << 20;
/// How long the output may take for what waits at the end.
const LAST: Duration = Duration::from_secs(5);

/// The log of one container.
#[derive(Debug, Default)]
pub struct Log {
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
    /// Takes bytes as they come and gives the lines that they complete.
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
        self.size += line.len() + 1;
        self.tail.push_back(line.clone());
        while self.size > TAIL {
            self.size -= self.tail.pop_front().map_or(self.size, |line| line.len() + 1);
        }
        Some(line)
    }
}

/// Where lines are shown, in order, by a thread of its own. What is too much for it is left out, and that is said in its
/// place; what waits when the printer goes still has a moment.
#[derive(Debug)]
pub struct Printer {
    /// None once it goes.
    lines: Option<Lines>,
    /// Closed when all is shown.
    shown: Mutex<mpsc::Receiver<()>>,
}

impl Printer {
    /// Shows lines on `out`.
    pub fn new(mut out: impl Write + Send + 'static) -> Self {
        let (lines, mut waiting) = backlog(WAITING);
        let (all, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let _all: mpsc::Sender<()> = all;
            while let Some(line) = waiting.blocking_recv() {
                // A closed output is no reason to stop an action.
                let _ = writeln!(out, "{line}");
                let dropped = waiting.dropped();
                if dropped > 0 {
                    let _ = writeln!(out, "[{dropped} later lines are not shown here: they came too fast]");
                }
            }
        });
        Self { lines: Some(lines), shown: Mutex::new(shown) }
    }

    /// Hands lines over.
    pub fn print(&self, lines: impl IntoIterator<Item = String>) {
        let Some(to) = &self.lines else { return };
        lines.into_iter().for_each(|line| to.push(line));
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Ok(shown) = self.shown.get_mut() {
            let _ = shown.recv_timeout(LAST);
        }
    }
}

/// Where the lines of an action go while it runs.
#[derive(Clone, Debug)]
pub struct Live<'a> {
    /// The action's name, before each line there.
    pub action: &'a str,
    /// The agent's own output.
    pub printer: &'a Printer,
    /// The server.
    pub progress: &'a Reporter,
}

impl Live<'_> {
    /// Sends lines on their way.
    pub fn show(&self, lines: &[String]) {
        self.progress.log(lines);
        self.printer.print(lines.iter().map(|line| format!("{}: {line}", self.action)));
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn lines_are_put_together_per_stream() {
        let mut log = Log::default();
        let mut shown = log.push(Stream::Out, b"one\ntw");
        shown.extend(log.push(Stream::Error, b"bad\r\n"));
        shown.extend(log.push(Stream::Out, b"o\n\n\x1b[31mthree"));
        shown.extend(log.end());
        assert_eq!(log.tail(), "one\nbad\ntwo\n[31mthree");
        assert_eq!(shown, ["one", "bad", "two", "[31mthree"]);
    }

    #[test]
    fn the_tail_is_bounded_and_ends_with_the_end() {
        let mut log = Log::default();
        for i in 0..20_000 {
            log.push(Stream::Out, format!("line {i}\n").as_bytes());
        }
        log.push(Stream::Out, &vec![b'x'; 3 * LINE]);
        let tail = log.tail();
        assert!(tail.len() <= TAIL && tail.len() > TAIL / 2, "{}", tail.len());
        assert!(tail.ends_with(&"x".repeat(LINE)) && tail.contains("line 19999\n"));
    }

    /// An output that takes nothing before it is told to, and tells what it has taken.
    struct Stuck(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

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

    /// An output that takes its time.
    struct Slow(mpsc::Sender<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(1));
            let _ = self.0.send(());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_waits_is_shown_before_the_printer_is_gone() {
        let (took, taken) = mpsc::channel();
        let printer = Printer::new(io::LineWriter::new(Slow(took)));
        printer.print((0..100).map(|i| i.to_string()));
        drop(printer);
        assert_eq!(taken.try_iter().count(), 100);
    }

    #[test]
    fn a_stuck_output_blocks_nobody_and_what_it_cannot_take_is_said() {
        let (go, gate) = mpsc::channel();
        let (taken, lines) = mpsc::channel();
        let printer = Printer::new(Stuck(gate, taken));
        printer.print((0..100_000).map(|i| i.to_string()));
        drop((go, printer));
        let shown: Vec<u8> = lines.iter().flatten().collect();
        let shown = String::from_utf8(shown).unwrap();
        let numbers: Vec<usize> = shown.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(numbers.is_sorted() && numbers.iter().copied().take(1000).eq(0..1000), "{}", numbers.len());
        assert!(shown.contains(" later lines are not shown here"), "{}", &shown[..200]);
    }
}
