//! The lab: one network namespace with a bridge, virtual machines on it, and the real server, registry and file
//! servers beside them. Nothing here ships; nothing here stands in for a part that does.

pub mod accel;
pub mod activity;
pub mod command;
pub mod console;
pub mod demo;
pub mod direct;
pub mod fault;
pub mod guest;
pub mod httpd;
pub mod lab;
pub mod manifests;
pub mod neighbour;
pub mod network;
pub mod process;
pub mod scan;
pub mod target;
pub mod vm;
pub mod wait;
pub mod witness;
