//! Several ranges of a file at once, against a server that counts them.

#![allow(clippy::unwrap_used)] // Helpers of tests; the lint knows only test functions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use fetch::Options;

/// What the server has besides the file.
#[derive(Clone)]
struct Manner {
    tag: &'static str,
    /// Ranges are answered when so many have been asked for.
    together: usize,
    /// Ranges are answered with the whole file.
    is_rangeless: bool,
}

const HONEST: Manner = Manner { tag: "\"one\"", together: 1, is_rangeless: false };

fn serve(file: Vec<u8>, manner: Manner) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (file, all, barrier) = (Arc::new(file), asked.clone(), Arc::new(Barrier::new(manner.together)));
    thread::spawn(move || {
        for peer in listener.incoming() {
            let (file, all, barrier, manner) = (file.clone(), all.clone(), barrier.clone(), manner.clone());
            // A client that goes away is part of the game.
            thread::spawn(move || answer(peer.unwrap(), &file, &manner, (&all, &barrier)));
        }
    });
    (url, asked)
}

fn answer(
    peer: TcpStream,
    file: &[u8],
    manner: &Manner,
    (all, barrier): (&Mutex<Vec<String>>, &Barrier),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(peer.try_clone()?);
    let mut peer = peer;
    loop {
        let mut range = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
        }
        let mut body = file;
        let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
        if let Some(range) = &range {
            all.lock().unwrap().push(range.clone());
            barrier.wait();
            if !manner.is_rangeless {
                let (first, last) = range.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                body = &file[first..=last];
                head = format!("HTTP/1.1 206 Part\r\nContent-Range: bytes {first}-{last}/{}\r\n", file.len());
            }
        }
        write!(peer, "{head}ETag: {}\r\nContent-Length: {}\r\n\r\n", manner.tag, body.len())?;
        peer.write_all(body)?;
    }
}

fn get(file: &[u8], manner: Manner, streams: usize) -> Vec<String> {
    let (url, asked) = serve(file.to_vec(), manner);
    let mut got = Vec::new();
    let options = Options { streams, patience: std::time::Duration::ZERO, ..Options::default() };
    fetch::open(&url, &options).unwrap().reader.read_to_end(&mut got).unwrap();
    assert!(got == file, "other bytes: {} of {}", got.len(), file.len());
    let asked = asked.lock().unwrap();
    asked.clone()
}

fn file(len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 31) >> 7) as u8).collect()
}

#[test]
fn as_many_ranges_as_asked_for_are_fetched_at_once_and_each_once() {
    // 256 KiB from the first answer, then eight ranges of 1.5 MiB: two rounds of four. The server waits for four.
    let file = file((256 << 10) + (12 << 20));
    let mut asked = get(&file, Manner { together: 4, ..HONEST }, 4);
    assert_eq!(asked.len(), 8, "{asked:?}");
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 8, "a range was fetched twice: {asked:?}");
}

#[test]
fn one_connection_does_where_ranges_are_not_wanted_or_not_safe() {
    let file = file(9 << 20);
    assert_eq!(get(&file, HONEST, 1), Vec::<String>::new());
    assert_eq!(get(&file, Manner { tag: "W/\"weak\"", ..HONEST }, 4), Vec::<String>::new());
    assert_eq!(get(&file[..1 << 20], HONEST, 4), Vec::<String>::new());
}

#[test]
fn a_server_without_ranges_still_gives_the_file_and_that_is_no_retry() {
    let asked = get(&file(9 << 20), Manner { is_rangeless: true, ..HONEST }, 4);
    assert!(!asked.is_empty());
}
