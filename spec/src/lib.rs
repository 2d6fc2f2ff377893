//! The contracts between Ironhook's processes: how each names things and what it may say to the next.
//! Pure words: no I/O, no clock, no environment, no async. Every program depends on this crate, and it on none.

pub mod action;
pub mod activity;
pub mod bmap;
pub mod boot;
pub mod cmdline;
pub mod devices;
pub mod dhcp;
pub mod error;
pub mod event;
pub mod failure;
pub mod handover;
pub mod id;
pub mod mac;
pub mod paths;
pub mod phase;
pub mod privileges;
pub mod secret;
pub mod seekable;
pub mod stage;

pub use action::Action;
pub use event::Event;
pub use failure::{Code, Failure, Outcome};
pub use id::{WorkerId, WorkflowId};
pub use mac::Mac;
pub use secret::Secret;
