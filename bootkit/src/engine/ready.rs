//! Whether dockerd answers: one request by hand over its socket, because no HTTP client belongs into this program.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// dockerd may be busy; its socket is there before it answers.
const PATIENCE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n";
/// What is read of an answer.
const LARGEST: u64 = 4096;

/// Asks once. No socket, no answer in time and an error of the engine are all "not yet".
pub fn ping(socket: &Path) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(REQUEST)?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer)?;
        Ok(is_ok(&answer))
    };
    ask().unwrap_or(false)
}

fn is_ok(answer: &[u8]) -> bool {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.starts_with(b"HTTP/1.") && line.get(8..12) == Some(b" 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_an_answer() {
        assert!(is_ok(b"HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\n\r\nOK"));
        assert!(is_ok(b"HTTP/1.1 200\r\n\r\n"));
        for answer in [&b""[..], b"HTTP/1.0 500 Internal Server Error\r\n\r\n200", b"HTTP/1.", b"SSH-2.0 200\r\n"] {
            assert!(!is_ok(answer), "{answer:?}");
        }
    }

    #[test]
    fn no_socket_is_no_answer() {
        assert!(!ping(Path::new("/nonexistent/docker.sock")));
    }
}
