//! The server's side of netboot: what it remembers of machines that boot, which services run, and the tickets in their
//! scripts. netboot itself stores nothing; this is the memory it is given.

pub mod control;
mod kept;
pub mod rack;
pub mod seen;
pub mod settings;
pub mod tickets;

pub use control::{Change, Control, Owner, Status};
pub use kept::Kept;
pub use rack::Rack;
pub use seen::{Moment, Seen};
pub use tickets::Tickets;
