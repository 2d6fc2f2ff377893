//! What people see: whole lines, on every console that there is. A console that takes nothing never holds the boot
//! for long, and one that comes late is told what was said before. What is worth saying is decided elsewhere.

mod choice;
mod spcr;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sys::console::Terminal;

use choice::Tty;

const ACTIVE: &str = "/sys/class/tty/console/active";
const TTYS: &str = "/sys/class/tty";
const SPCR: &str = "/sys/firmware/acpi/tables/SPCR";
/// Of a serial port that neither the kernel nor the firmware has an opinion on.
const BAUD: u32 = 115_200;
/// Lines that a console which comes late is told.
const REMEMBERED: usize = 300;

/// All consoles as one. Copies print to the same ones.
#[derive(Clone, Default)]
pub struct Console {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    terminals: Vec<(PathBuf, Terminal)>,
    said: VecDeque<String>,
}

impl Console {
    /// Opens those that are there and not open yet; called again when devices have come.
    pub fn open(&self) {
        let active = std::fs::read_to_string(ACTIVE).unwrap_or_default();
        let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let ttys = ttys(Path::new(TTYS));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // The first time nothing was said but on the kernel's own console.
        let late = !state.terminals.is_empty();
        for name in choice::choose(&line, &active, &ttys) {
            let path = Path::new("/dev").join(&name);
            if state.terminals.iter().any(|(open, _)| *open == path) {
                continue;
            }
            // One that cannot be opened is none: /dev has hvc0 to hvc7 whatever there is behind them.
            let Ok(mut terminal) = Terminal::open(&path) else { continue };
            if let Some(tty) = ttys.iter().find(|tty| tty.name == name && tty.is_uart())
                && !choice::is_active(&active, &name)
            {
                // Without its speed it is at least as good as not tried.
                let _ = terminal.set_line(baud(tty));
            }
            if late {
                let _ = terminal.print(&state.said.iter().map(|line| format!("{line}\n")).collect::<String>());
            }
            state.terminals.push((path, terminal));
        }
    }

    /// Prints `ironhook: ` and the text as a line.
    pub fn say(&self, text: &str) {
        self.line(&format!("ironhook: {text}"));
    }

    /// Prints a line as it is.
    pub fn line(&self, line: &str) {
        let text = format!("{line}\n");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.terminals.is_empty() {
            // Before /dev is there, the kernel has opened its console for us.
            eprint!("{text}");
        }
        for (_, terminal) in &mut state.terminals {
            // There is no one to tell that there is no one to tell.
            let _ = terminal.print(&text);
        }
        if state.said.len() == REMEMBERED {
            state.said.pop_front();
        }
        state.said.push_back(line.to_owned());
    }
}

/// What the kernel knows about its terminals.
fn ttys(directory: &Path) -> Vec<Tty> {
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let number = |path: PathBuf| {
        let text = std::fs::read_to_string(path).ok()?;
        let text = text.trim();
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let mut ttys: Vec<Tty> = entries
        .flatten()
        .map(|entry| Tty {
            name: entry.file_name().to_string_lossy().into_owned(),
            kind: number(entry.path().join("type")),
            port: number(entry.path().join("port")),
            memory: number(entry.path().join("iomem_base")),
        })
        .collect();
    ttys.sort_by(|a, b| a.name.cmp(&b.name));
    ttys
}

/// As the firmware has set the port up, if it is the one that the firmware talks on.
fn baud(tty: &Tty) -> u32 {
    let table = std::fs::read(SPCR).unwrap_or_default();
    let spcr = spcr::parse(&table).filter(|spcr| [tty.port, tty.memory].contains(&Some(spcr.address)));
    spcr.and_then(|spcr| spcr.baud).unwrap_or(BAUD)
}
