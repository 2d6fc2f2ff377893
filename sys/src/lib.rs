//! The only crate that may say unsafe. One system call, one safe function, one SAFETY note naming its manual page.
//! Every public function is safe and blocking; none of them decides anything.

pub mod block;
pub mod child;
pub mod clock;
pub mod confined;
pub mod console;
pub mod entropy;
pub mod grow;
pub mod holder;
pub mod identity;
pub mod kmsg;
pub mod link;
pub mod loopdev;
pub mod module;
pub mod mount;
pub mod mounts;
pub mod node;
pub mod power;
pub mod reap;
pub mod sched;
pub mod supervise;
pub mod sysfs;
pub mod tree;
pub mod uevent;
pub mod watch;
