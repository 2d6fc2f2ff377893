//! A web server with one file, honest by default, that can be told to cut, change or refuse.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// How to misbehave.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Each answer ends after this many bytes of body.
    pub cut: Option<usize>,
    /// After that, silence instead of an end.
    pub hang: bool,
    /// No ETag, so that nothing can be resumed.
    pub no_tag: bool,
    /// Answers to everything.
    pub status: Option<&'static str>,
    /// Neither a length nor a transfer encoding.
    pub no_length: bool,
}

/// Serves until the test ends; the URL of the file.
pub fn serve(file: Vec<u8>, faults: Faults) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk.img", listener.local_addr().unwrap());
    let file = std::sync::Arc::new(file);
    thread::spawn(move || {
        for peer in listener.incoming() {
            // A client that goes away is part of some tests.
            let (file, faults, peer) = (file.clone(), faults.clone(), peer.unwrap());
            thread::spawn(move || answer(peer, &file, &faults));
        }
    });
    url
}

fn answer(mut peer: TcpStream, file: &[u8], faults: &Faults) -> std::io::Result<()> {
    let range = range(&peer)?;
    let from = range.map(|(from, _)| from);
    if let Some(status) = faults.status {
        return write!(peer, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let end = range.and_then(|(_, last)| last).map_or(file.len(), |last| file.len().min(last + 1));
    let body = &file[from.unwrap_or(0)..end];
    match from {
        Some(from) => {
            let last = end - 1;
            write!(peer, "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{last}/{}\r\n", file.len())?;
        }
        None => write!(peer, "HTTP/1.1 200 OK\r\n")?,
    }
    if !faults.no_length {
        write!(peer, "Content-Length: {}\r\n", body.len())?;
    }
    if !faults.no_tag {
        write!(peer, "ETag: \"one\"\r\n")?;
    }
    write!(peer, "Connection: close\r\n\r\n")?;
    peer.write_all(&body[..faults.cut.unwrap_or(usize::MAX).min(body.len())])?;
    if faults.hang {
        // Ends when the client does.
        let _ = peer.read(&mut [0])?;
    }
    Ok(())
}

/// The first byte asked for, and the last one.
fn range(peer: &TcpStream) -> std::io::Result<Option<(usize, Option<usize>)>> {
    let mut asked = None;
    for line in BufReader::new(peer).lines() {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            asked = range.split_once('-').and_then(|(from, last)| Some((from.parse().ok()?, last.parse().ok())));
        }
    }
    Ok(asked)
}
