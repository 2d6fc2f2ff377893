//! The disk actions: environment in, exit status out, a human log on stdout, events as JSON lines beside it.
//! `table` names every action; `input` reads the environment; `cmd` has one file per action; `disk` and `image` are
//! what they share. Nothing here knows who started it: Ironhook's agent, a stock worker, or a person.

pub mod archive;
pub mod cmd;
pub mod contents;
pub mod disk;
pub mod encode;
pub mod failed;
pub mod help;
pub mod image;
pub mod input;
pub mod pack;
pub mod report;
pub mod select;
pub mod table;
