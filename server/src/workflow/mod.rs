//! Workflows: how one is made of a rendered template, and how reports change it. Pure: no store, no clock, no network.

mod bounds;
pub mod build;
pub mod lease;
mod report;
pub mod state;
#[cfg(test)]
mod tests;

use spec::Mac;

/// One spelling of a worker's id: MAC addresses in lower case with colons, anything else as it is.
pub fn canonical_worker(id: &str) -> String {
    id.parse::<Mac>().map_or_else(|_| id.to_owned(), |mac| mac.to_string())
}
