//! One request over the engine's socket, by hand: no HTTP client belongs into a program of a few services. HTTP/1.0, so
//! an answer ends with its connection and a body has its length. What is read is bounded by whoever reads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Of the head of an answer.
const HEAD: u64 = 64 << 10;

/// A request.
pub struct Request<'a> {
    /// `GET`, ...
    pub method: &'a str,
    /// With its query, encoded.
    pub path: &'a str,
    /// Name and value. Values may be secret: they are sent and nothing else.
    pub headers: &'a [(&'a str, &'a str)],
    /// How long the engine may say nothing.
    pub silence: Option<Duration>,
}

/// An answer: its status, and the rest as it comes.
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// The body.
    pub body: BufReader<UnixStream>,
}

/// Sends a request whose body of `length` bytes is written by `body`.
pub fn send(
    socket: &Path,
    request: &Request<'_>,
    length: u64,
    body: impl FnOnce(&mut UnixStream) -> io::Result<()>,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(request.silence)?;
    stream.set_write_timeout(request.silence)?;
    let mut head =
        format!("{} {} HTTP/1.0\r\nHost: docker\r\nContent-Length: {length}\r\n", request.method, request.path);
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    let sent = body(&mut stream);
    let mut reader = BufReader::new(stream);
    match (answer_status(&mut reader), sent) {
        // It may refuse without reading to the end, and its reason is better than ours.
        (Ok(status), _) => Ok(Answer { status, body: reader }),
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
    }
}

fn answer_status(reader: &mut BufReader<UnixStream>) -> io::Result<u16> {
    let mut head = reader.take(HEAD);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status =
        status(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the engine does not speak HTTP"))?;
    while !line.trim_end().is_empty() {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(status)
}

fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.")?;
    rest.get(1..5)?.strip_prefix(' ')?.parse().ok()
}

/// Text for a query or a path.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status("HTTP/1.0 200 OK\r\n"), Some(200));
        assert_eq!(status("HTTP/1.1 500\r\n"), Some(500));
        for line in ["", "HTTP/1.", "HTTP/1.1 20", "SSH-2.0 200\r\n", "HTTP/1.1 2000"] {
            assert!(status(line).is_none_or(|status| status == 200), "{line}");
        }
    }

    #[test]
    fn names_of_images_are_encoded() {
        assert_eq!(encode("10.0.0.1:5000/a/b:1@x"), "10.0.0.1%3A5000%2Fa%2Fb%3A1%40x");
    }
}
