//! What people see: whole lines, on every console that the kernel uses. A console that takes nothing never
//! holds the boot for long. What is worth saying is decided elsewhere.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sys::console::Terminal;

const DEVICE: &str = "/dev/console";
const ACTIVE: &str = "/sys/class/tty/console/active";

/// All consoles as one. Copies print to the same ones.
#[derive(Clone, Default)]
pub struct Console {
    terminals: Arc<Mutex<Vec<Terminal>>>,
}

impl Console {
    /// Opens what there is now; called again when `/sys` has come.
    pub fn open(&self) {
        let active = std::fs::read_to_string(ACTIVE).unwrap_or_default();
        let terminals = devices(&active).iter().filter_map(|path| Terminal::open(path).ok()).collect();
        *self.terminals.lock().unwrap_or_else(PoisonError::into_inner) = terminals;
    }

    /// Prints `ironhook: ` and the text as a line.
    pub fn say(&self, text: &str) {
        self.line(&format!("ironhook: {text}"));
    }

    /// Prints a line as it is.
    pub fn line(&self, line: &str) {
        let text = format!("{line}\n");
        let terminals = self.terminals.lock().unwrap_or_else(PoisonError::into_inner);
        if terminals.is_empty() {
            // Before /dev is there, the kernel has opened its console for us.
            eprint!("{text}");
        }
        for terminal in terminals.iter() {
            // There is no one to tell that there is no one to tell.
            let _ = terminal.print(&text);
        }
    }
}

/// The kernel lists all; `/dev/console` alone would be only one of them.
fn devices(active: &str) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = active.split_whitespace().map(|name| Path::new("/dev").join(name)).collect();
    if paths.is_empty() { vec![DEVICE.into()] } else { paths }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_active_console_is_used_and_else_the_kernels() {
        assert_eq!(devices("tty0 ttyS0\n"), [PathBuf::from("/dev/tty0"), PathBuf::from("/dev/ttyS0")]);
        assert_eq!(devices(""), [PathBuf::from("/dev/console")]);
    }
}
