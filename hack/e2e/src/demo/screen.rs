//! The terminal: a line a step with the elapsed time, and one line at the bottom that moves.
//! Where there is no terminal, progress is plain lines, few of them.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use spec::event::Progress;

use super::story::{Said, mib};

const WIDTH: u64 = 24;
/// Between two lines of progress where there is no terminal.
const RARE: Duration = Duration::from_secs(5);

/// Standard output.
pub(super) struct Screen {
    terminal: bool,
    /// The action on the moving line, when it began, and when it was last shown.
    moving: Option<(String, Duration, Duration)>,
    /// Whether that line is on the screen.
    shown: bool,
}

impl Screen {
    /// Finds out whether there is a terminal.
    pub fn new() -> Self {
        Self { terminal: stdout().is_terminal(), moving: None, shown: false }
    }

    /// Something before the power is on.
    pub fn note(&mut self, text: &str) {
        self.line(&format!("          {text}"));
    }

    /// Something that happened.
    pub fn show(&mut self, now: Duration, said: &Said) {
        match said {
            Said::Step(text) => self.line(&format!("{:8.1}s {text}", now.as_secs_f64())),
            Said::Progress { action, progress } => self.progress(now, action, progress),
        }
    }

    /// Leaves the cursor at the start of a line.
    pub fn end(&mut self) {
        self.clear();
    }

    fn line(&mut self, text: &str) {
        self.clear();
        // A closed pipe is seen by the next program; here there is nobody to tell.
        let _ = writeln!(stdout(), "{text}");
    }

    fn progress(&mut self, now: Duration, action: &str, progress: &Progress) {
        let (began, shown) = match &self.moving {
            Some((name, began, shown)) if name == action => (*began, Some(*shown)),
            _ => (now, None),
        };
        if !self.terminal && shown.is_some_and(|shown| now < shown + RARE) {
            return;
        }
        let text = format!("{:8.1}s {action} {}", now.as_secs_f64(), bar(progress, now.saturating_sub(began)));
        let mut out = stdout();
        let _ = if self.terminal { write!(out, "\r\x1b[2K{text}") } else { writeln!(out, "{text}") };
        let _ = out.flush();
        self.moving = Some((action.to_owned(), began, now));
        self.shown = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) && self.terminal {
            let _ = write!(stdout(), "\r\x1b[2K");
        }
    }
}

/// A bar, how much, how fast, how long it will still take.
fn bar(progress: &Progress, took: Duration) -> String {
    let Progress { done, total, unit, message } = progress;
    let bytes = unit == "bytes";
    let amount = |n: u64| if bytes { format!("{:.0}", mib(n)) } else { n.to_string() };
    let unit = if bytes { "MiB" } else { unit };
    let seconds = took.as_secs_f64();
    let rate = if seconds > 0.0 { *done as f64 / seconds } else { 0.0 };
    let rate_text =
        if bytes && rate > 0.0 { format!(" {:.1} MiB/s", rate / f64::from(1 << 20)) } else { String::new() };
    if *total == 0 {
        return format!("{} {unit}{rate_text} {message}", amount(*done));
    }
    let filled = (done.min(total) * WIDTH / total) as usize;
    let empty = WIDTH as usize - filled;
    let eta =
        if rate > 0.0 && done < total { format!(" ETA {:.0} s", (total - done) as f64 / rate) } else { String::new() };
    let of = format!("{}/{} {unit}", amount(*done), amount(*total));
    format!("[{}{}] {of}{rate_text}{eta} {message}", "#".repeat(filled), ".".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_much_how_fast_and_how_long() {
        let progress = Progress { done: 100 << 20, total: 400 << 20, unit: "bytes".into(), message: "writing".into() };
        let text = bar(&progress, Duration::from_secs(10));
        assert_eq!(text, "[######..................] 100/400 MiB 10.0 MiB/s ETA 30 s writing");
    }

    #[test]
    fn nothing_known_yet_divides_by_nothing() {
        assert_eq!(bar(&Progress::default(), Duration::ZERO), "0  ");
        let beyond = Progress { done: 9, total: 3, ..Progress::default() };
        assert!(bar(&beyond, Duration::ZERO).starts_with("[########################] 9/3"));
    }
}
