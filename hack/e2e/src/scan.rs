//! Which TCP ports of a machine somebody listens on, seen from outside: every one is asked.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const ASKERS: usize = 32;
/// For an answer of any kind; asked again, because a busy machine may lose a packet.
const PATIENCE: Duration = Duration::from_secs(5);
const TRIES: usize = 3;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Somebody listens.
    pub open: Vec<u16>,
    /// No answer, neither yes nor no.
    pub silent: Vec<u16>,
}

/// Asks every port in the range.
pub fn tcp(address: IpAddr, ports: std::ops::RangeInclusive<u16>) -> Found {
    let next = AtomicU32::new(u32::from(*ports.start()));
    let found = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..ASKERS {
            scope.spawn(|| {
                while let Ok(port) = u16::try_from(next.fetch_add(1, Ordering::Relaxed))
                    && port <= *ports.end()
                {
                    let answer = ask(SocketAddr::new(address, port));
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Some(true) => found.open.push(port),
                        Some(false) => {}
                        None => found.silent.push(port),
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.open.sort_unstable();
    found.silent.sort_unstable();
    found
}

/// Whether somebody listens there; none without an answer.
fn ask(address: SocketAddr) -> Option<bool> {
    (0..TRIES).find_map(|_| match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(false),
        Err(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_that_is_open_is_found_among_its_neighbours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = port.saturating_sub(20)..=port.saturating_add(20);
        let found = tcp(IpAddr::from([127, 0, 0, 1]), ports);
        assert!(found.open.contains(&port) && found.silent.is_empty(), "{found:?}");
    }
}
