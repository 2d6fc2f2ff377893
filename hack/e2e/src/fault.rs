//! A proxy that breaks what passes through it: it announces a whole body and cuts it off.
//! It answers no ranges, as a server that cannot resume, so that the cut cannot be healed.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::httpd::{self, Request, header};

/// Starts a proxy before `upstream` that cuts every body after so many bytes.
pub fn cutting(address: Ipv4Addr, upstream: SocketAddr, after: u64) -> io::Result<SocketAddr> {
    httpd::serve(address, move |request, client| forward(&request, client, upstream, after))
}

fn forward(request: &Request, client: &mut TcpStream, upstream: SocketAddr, after: u64) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    write!(server, "{} {} HTTP/1.0\r\nHost: {upstream}\r\n\r\n", request.method, request.path)?;
    let head = read_head(&mut server)?;
    for line in &head {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !["accept-ranges", "connection", "etag", "last-modified"].contains(&name.as_str()) {
            client.write_all(line.as_bytes())?;
            client.write_all(b"\r\n")?;
        }
    }
    client.write_all(b"Connection: close\r\n\r\n")?;
    let length: u64 = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let limit = if request.method == "HEAD" { 0 } else { after.min(length) };
    io::copy(&mut server.take(limit), client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// The lines of the head, read byte by byte so that nothing of the body is taken.
fn read_head(server: &mut TcpStream) -> io::Result<Vec<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        server.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).trim_end().lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_length_is_announced_and_less_is_sent() {
        let home = Ipv4Addr::LOCALHOST;
        let body = "0123456789";
        let upstream = httpd::serve(home, move |_, client| {
            write!(client, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nAccept-Ranges: bytes\r\n\r\n{body}")
        });
        let proxy = cutting(home, upstream.unwrap(), 4).unwrap();
        let mut client = TcpStream::connect(proxy).unwrap();
        client.write_all(b"GET /image HTTP/1.1\r\nRange: bytes=2-\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "), "{answer}");
        assert!(answer.contains("Content-Length: 10\r\n") && answer.ends_with("\r\n\r\n0123"), "{answer}");
        assert!(!answer.contains("Accept-Ranges"), "{answer}");
    }
}
