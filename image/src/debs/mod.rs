//! Debian packages as a source of files: locked by version and digest, fetched once, read without installing.
//! No dependency resolution: a component names every package it takes.

pub mod apt;
pub mod lock;
pub mod store;
