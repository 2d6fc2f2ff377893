//! The kernel command line as a contract: one table of keys for the renderer (netboot), the parsers (init,
//! bootkit) and the manual. Parsing is literal; what a value means is decided by whoever asks for it.

mod keys;
mod kind;
pub mod manual;
mod parse;
mod render;
pub mod site;

pub use keys::*;
pub use kind::{Kind, unseal};
pub use parse::{Cmdline, Origin, Problem};
pub use render::{RenderError, Renderer};

/// Stock x86 kernels cut the line here, the terminating NUL included.
pub const LIMIT: usize = 2048;
/// The shortest line that may have been cut: iPXE keeps one byte less than the kernel's header allows.
pub const CUT: usize = LIMIT - 2;
/// Booted through the EFI stub, a stock kernel keeps this many bytes.
pub const LIMIT_EFI: usize = 2043;

/// Who says a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Era {
    /// Tinkerbell, today and before.
    Both,
    /// Tinkerbell up to 0.7.
    Older,
    /// Ironhook.
    Ours,
    /// Tinkerbell; it does nothing here.
    Ignored,
}

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    /// As it stands on the command line; case matters.
    pub name: &'static str,
    /// What a value has to look like.
    pub kind: Kind,
    /// Never shown, logged or passed on in an argument.
    pub secret: bool,
    /// What holds when the key is absent.
    pub default: &'static str,
    /// One sentence for the manual.
    pub doc: &'static str,
    /// Who says it.
    pub era: Era,
}

/// The row of a name.
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().copied().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        let mut seen = std::collections::HashSet::new();
        for key in KEYS {
            assert!(seen.insert(key.name), "{} twice", key.name);
            assert!(key.doc.ends_with('.'), "{}", key.name);
            assert!(key.name.starts_with("ironhook.") == (key.era == Era::Ours), "{}", key.name);
        }
    }
}
