//! Drivers: which module serves which device, what it needs, and getting it into the kernel.
//! The index is read once; `loader` owns what is loaded; `plug` feeds it with devices, `modprobe` with names.

mod index;
mod loader;
pub mod modprobe;
mod options;
mod pattern;
mod plug;

pub use index::{Index, IndexError};
pub use loader::Loader;
pub use options::Options;
pub use plug::{cold_plug, hot_plug};

/// Containers need their root file system before any device asks for it, and images come on loop devices.
pub const ALWAYS: &[&str] = &["overlay", "loop"];

/// Modules are known by one spelling: depmod and drivers use `-` and `_` as if they were the same.
fn normalised(name: &str) -> String {
    name.replace('-', "_")
}
