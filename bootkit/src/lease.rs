//! Waiting for the network: the lease file of `bootkit network`, and what is in it.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use spec::dhcp::lease::Lease;
use spec::paths::LEASE;

use crate::console::Waiting;

/// Between two looks for the lease.
const LOOK: Duration = Duration::from_millis(100);

/// The lease cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The file.
    #[error("cannot read {LEASE}")]
    Read(#[source] io::Error),
    /// Its content.
    #[error("{LEASE} is no lease")]
    Parse(#[source] serde_json::Error),
}

/// The lease, if there is one now.
pub fn read() -> Result<Option<Lease>, LeaseError> {
    match fs::read_to_string(LEASE) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(LeaseError::Parse),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LeaseError::Read(error)),
    }
}

/// For ever, saying so.
pub fn wait(who: &'static str) -> Result<Lease, LeaseError> {
    let mut waiting = None;
    loop {
        if let Some(lease) = read()? {
            return Ok(lease);
        }
        waiting.get_or_insert_with(|| Waiting::new(who, format!("the network ({LEASE})"))).still("");
        thread::sleep(LOOK);
    }
}
