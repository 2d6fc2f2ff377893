//! Waiting for a condition, never for a time: the deadline is only for what never happens.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Between two looks at a condition that cannot wake us.
pub const PAUSE: Duration = Duration::from_millis(100);

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {}s in vain for {what}", .after.as_secs())]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub after: Duration,
}

/// Looks until `look` finds something, fails, or the time is over.
pub fn until<T, E>(what: &str, after: Duration, mut look: impl FnMut() -> Result<Option<T>, E>) -> Result<T, E>
where
    E: From<TimedOut>,
{
    let end = Instant::now() + after;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(TimedOut { what: what.to_owned(), after }.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether something listens there.
pub fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
