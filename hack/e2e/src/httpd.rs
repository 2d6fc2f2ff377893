//! The few lines of HTTP/1.1 that the lab's own endpoints need: one request a connection, a thread each.
//! The real servers are not built on it.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// No request of the lab's is longer.
const MAX_BODY: usize = 64 << 10;

/// A request that was read to its end.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: String,
    /// With its query.
    pub path: String,
    /// The header's lines, as they came.
    pub headers: Vec<String>,
    /// What followed it.
    pub body: Vec<u8>,
}

/// Listens on a free port and hands every request, with the connection to answer on, to `answer`.
/// The threads end with the process; what they hold is behind `answer`.
pub fn serve<F>(address: Ipv4Addr, answer: F) -> io::Result<SocketAddr>
where
    F: Fn(Request, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    let listener = TcpListener::bind((address, 0))?;
    let local = listener.local_addr()?;
    let answer = Arc::new(answer);
    std::thread::Builder::new().name("httpd".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || {
                let mut stream = stream;
                // A client that goes away, or speaks something else, concerns only itself.
                let _ = read(&stream).and_then(|request| answer(request, &mut stream));
            });
        }
    })?;
    Ok(local)
}

fn read(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::Error::other("not a request"));
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            header => headers.push(header.to_owned()),
        }
    }
    let length = header(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if length > MAX_BODY {
        return Err(io::Error::other("body too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, headers, body })
}

/// The value of a header.
pub fn header<'a>(headers: &'a [String], name: &str) -> Option<&'a str> {
    let pairs = headers.iter().filter_map(|line| line.split_once(':'));
    pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}
