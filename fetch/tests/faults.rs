//! Transfers from a server that misbehaves on purpose: each connection plays one scene of a script.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Shared test code; the lint knows only test functions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fetch::{Error, Framing, Options, Ranged, Why, open, open_any};

/// What the server writes, then the connection ends, at once or by staying silent until the client goes.
#[derive(Clone)]
struct Scene {
    answer: Vec<u8>,
    silent: bool,
}

fn scene(head: &str, body: &[u8]) -> Scene {
    let mut answer = format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    answer.extend_from_slice(body);
    Scene { answer, silent: false }
}

struct Stage {
    url: String,
    requests: mpsc::Receiver<String>,
    server: JoinHandle<()>,
}

impl Stage {
    fn play(scenes: Vec<Scene>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://user:hunter2@{}/disk.raw?token=hunter2", listener.local_addr().unwrap());
        let (log, requests) = mpsc::channel();
        let server = thread::spawn(move || {
            for scene in scenes {
                let (mut peer, _) = listener.accept().unwrap();
                log.send(request(&peer)).unwrap();
                peer.write_all(&scene.answer).unwrap();
                if scene.silent {
                    let _ = peer.read(&mut [0]);
                }
            }
        });
        Self { url, requests, server }
    }

    /// Every request the server saw; fails when a scene was not played.
    fn end(self) -> Vec<String> {
        self.server.join().unwrap();
        self.requests.iter().collect()
    }
}

fn request(peer: &TcpStream) -> String {
    let mut text = String::new();
    for line in BufReader::new(peer).lines() {
        let line = line.unwrap();
        if line.is_empty() {
            break;
        }
        text += &line.to_lowercase();
        text.push('\n');
    }
    text
}

fn options() -> Options {
    Options { stall: Duration::from_millis(300), patience: Duration::from_secs(20), ..Options::default() }
}

fn impatient() -> Options {
    Options { patience: Duration::ZERO, ..options() }
}

fn read(url: &str, options: &Options) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = Vec::new();
    open(url, options)?.reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn failure(url: &str, options: &Options) -> String {
    let error = read(url, options).unwrap_err();
    let text = format!("{error:?} {error}");
    assert!(!text.contains("hunter2"), "a secret in {text}");
    assert!(Error::within(&error).is_some(), "{text}");
    text
}

const WHOLE: &str = "200 OK\r\nContent-Length: 10\r\nETag: \"a\"";

#[test]
fn a_whole_file_is_read_and_asked_for_by_name() {
    let stage = Stage::play(vec![scene(WHOLE, b"0123456789")]);
    assert_eq!(read(&stage.url, &options()).unwrap(), b"0123456789");
    let requests = stage.end();
    assert!(requests[0].contains("user-agent: ironhook/"), "{requests:?}");
    assert!(requests[0].contains("authorization: basic"), "{requests:?}");
    assert!(requests[0].contains("accept-encoding: identity"), "{requests:?}");
}

#[test]
fn a_cut_body_is_truncated_with_both_counts() {
    let stage = Stage::play(vec![scene(WHOLE, b"0123")]);
    let error = read(&stage.url, &impatient()).unwrap_err();
    let found = Error::within(&error).unwrap();
    assert!(matches!(found, Error::Truncated { expected: 10, got: 4, why: Why::Patience, .. }), "{found:?}");
    stage.end();
}

#[test]
fn a_cut_body_is_taken_up_where_it_ended() {
    let stage = Stage::play(vec![
        scene(WHOLE, b"0123"),
        scene("503 Busy\r\nContent-Length: 0", b""),
        scene("206 Partial\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10", b"45"),
        scene("206 Partial\r\nContent-Length: 4\r\nContent-Range: bytes 6-9/10", b"6789"),
    ]);
    assert_eq!(read(&stage.url, &options()).unwrap(), b"0123456789");
    let requests = stage.end();
    for (request, from) in requests.iter().skip(1).zip(["bytes=4-", "bytes=4-", "bytes=6-"]) {
        assert!(request.contains(&format!("range: {from}\n")), "{request}");
        assert!(request.contains("if-range: \"a\"\n"), "{request}");
    }
}

#[test]
fn after_a_wrong_content_range_the_whole_file_is_asked_for() {
    let stage = Stage::play(vec![
        scene(WHOLE, b"0123"),
        scene("206 Partial\r\nContent-Length: 6\r\nContent-Range: bytes 3-9/10", b"3456789"),
        scene(WHOLE, b"0123456789"),
    ]);
    assert_eq!(read(&stage.url, &options()).unwrap(), b"0123456789");
    assert!(!stage.end()[2].contains("range: bytes"), "a range was asked for again");
}

#[test]
fn a_file_that_changed_is_not_glued_together() {
    for answer in [
        scene(WHOLE, b"abcdefghij"),
        scene("200 OK\r\nContent-Length: 11\r\nETag: \"a\"", b"01234567890"),
        scene("206 Partial\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10\r\nETag: \"b\"", b"456789"),
        scene("416 No\r\nContent-Length: 0", b""),
    ] {
        let stage = Stage::play(vec![scene(WHOLE, b"0123"), answer]);
        let error = read(&stage.url, &options()).unwrap_err();
        let found = Error::within(&error).unwrap();
        assert!(matches!(found, Error::Truncated { got: 4, why: Why::Changed, .. }), "{found:?}");
        stage.end();
    }
}

#[test]
fn a_server_that_begins_again_is_followed_when_it_sends_the_same() {
    let whole = "200 OK\r\nContent-Length: 10\r\nETag: W/\"a\"";
    let stage = Stage::play(vec![scene(whole, b"0123"), scene(whole, b"01"), scene(whole, b"0123456789")]);
    assert_eq!(read(&stage.url, &options()).unwrap(), b"0123456789");
    stage.end();
}

#[test]
fn a_mirror_takes_over_in_the_middle_and_one_that_is_gone_is_passed_over() {
    let gone = Stage::play(vec![scene("404 Not Found\r\nContent-Length: 0", b""); 2]);
    let first = Stage::play(vec![scene(WHOLE, b"0123")]);
    let second = Stage::play(vec![scene("206 Partial\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10", b"456789")]);
    let urls = [gone.url.clone(), first.url.clone(), second.url.clone()];
    let mut bytes = Vec::new();
    open_any(&urls, &options()).unwrap().reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"0123456789");
    assert!(second.end()[0].contains("range: bytes=4-\n"));
    first.end();
    drop(gone);
}

#[test]
fn a_mirror_with_another_file_is_passed_over() {
    let first = Stage::play(vec![scene(WHOLE, b"0123"), scene(WHOLE, b"0123456789")]);
    let other = Stage::play(vec![scene("200 OK\r\nContent-Length: 10\r\nETag: \"z\"", b"abcdefghij")]);
    let urls = [first.url.clone(), other.url.clone()];
    let mut bytes = Vec::new();
    open_any(&urls, &options()).unwrap().reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"0123456789");
    other.end();
    first.end();
}

#[test]
fn a_file_is_read_in_any_order_and_only_one_version_of_it() {
    let range = |text: &str| format!("206 Partial\r\nContent-Length: 3\r\nContent-Range: bytes {text}/10");
    let stage = Stage::play(vec![
        scene(WHOLE, b"0123"),
        scene(&range("1-3"), b"123"),
        scene("200 OK\r\nContent-Length: 10\r\nETag: \"b\"", b"abcdefghij"),
    ]);
    let mut file = Ranged::open(std::slice::from_ref(&stage.url), &options()).unwrap();
    let mut bytes = [0; 2];
    file.read_at(&mut bytes, 2).unwrap();
    assert_eq!((&bytes, file.length()), (b"23", 10));
    file.read_at(&mut bytes, 1).unwrap();
    assert_eq!(&bytes, b"12");
    let error = file.read_at(&mut bytes, 0).unwrap_err();
    assert!(Error::within(&error).is_some(), "{error}");
    assert!(file.read_at(&mut bytes, 10).is_err());
    stage.end();
}

#[test]
fn before_the_first_byte_a_restart_is_harmless() {
    let head = "200 OK\r\nContent-Length: 10";
    let stage = Stage::play(vec![scene(head, b""), scene(head, b"0123456789")]);
    assert_eq!(read(&stage.url, &options()).unwrap(), b"0123456789");
    stage.end();
}

#[test]
fn a_server_that_ends_every_answer_at_the_same_byte_is_given_up() {
    let whole = "200 OK\r\nContent-Length: 10";
    let stage = Stage::play((0..7).map(|_| scene(whole, b"0123")).collect());
    let error = read(&stage.url, &options()).unwrap_err();
    let found = Error::within(&error).unwrap();
    assert!(matches!(found, Error::Truncated { expected: 10, got: 4, why: Why::SameByte, .. }), "{found:?}");
    assert_eq!(stage.end().len(), 7);
}

#[test]
fn headers_of_the_caller_go_with_every_request_and_are_not_shown() {
    let headers = vec![("X-Token".to_owned(), spec::Secret::new("hunter2"))];
    let options = Options { headers, ..options() };
    let rest = "206 Partial\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10";
    let stage = Stage::play(vec![scene(WHOLE, b"0123"), scene(rest, b"456789")]);
    assert_eq!(read(&stage.url, &options).unwrap(), b"0123456789");
    assert!(stage.end().iter().all(|request| request.contains("x-token: hunter2")));
    assert!(!format!("{options:?}").contains("hunter2"));
    let wrong = Options { headers: vec![("a b".to_owned(), spec::Secret::new("hunter2"))], ..options };
    let error = open("http://127.0.0.1:1/", &wrong).unwrap_err().to_string();
    assert_eq!(error, "\"a b\" with its value is no HTTP header");
}

#[test]
fn a_silent_server_is_a_stall() {
    let stage = Stage::play(vec![Scene { silent: true, ..scene(WHOLE, b"0123") }]);
    let text = failure(&stage.url, &impatient());
    assert!(text.contains("sent nothing for") && text.contains("after 4 bytes"), "{text}");
    stage.end();
}

#[test]
fn a_cut_chunked_body_is_broken() {
    let stage = Stage::play(vec![scene("200 OK\r\nTransfer-Encoding: chunked", b"4\r\n0123\r\n")]);
    let text = failure(&stage.url, &impatient());
    assert!(text.contains("broke after 4 bytes"), "{text}");
    stage.end();
}

#[test]
fn how_the_end_is_known_is_told() {
    let stage =
        Stage::play(vec![scene("200 OK", b"0123"), scene("200 OK\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")]);
    assert_eq!(open(&stage.url, &options()).unwrap().framing, Framing::UntilClose);
    assert_eq!(open(&stage.url, &options()).unwrap().framing, Framing::Chunked);
    stage.end();
}

#[test]
fn a_missing_file_is_not_asked_for_twice() {
    let stage = Stage::play(vec![scene("404 Not Found\r\nContent-Length: 0", b"")]);
    let text = failure(&stage.url, &options());
    assert!(text.contains("status 404"), "{text}");
    assert_eq!(stage.end().len(), 1);
}

#[test]
fn a_busy_server_is_asked_again() {
    let stage = Stage::play(vec![scene("503 Busy\r\nContent-Length: 0", b""), scene(WHOLE, b"0123456789")]);
    assert_eq!(read(&stage.url, &options()).unwrap().len(), 10);
    assert_eq!(stage.end().len(), 2);
}

#[test]
fn what_is_no_web_address_is_refused_without_its_secrets() {
    for url in ["ftp://user:hunter2@host/x", "host/hunter2?x", "http://"] {
        let error = open(url, &options()).unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{error:?}");
    }
    assert!(!open("ftp://user:hunter2@host/x", &options()).unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn a_file_without_certificates_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = Options { ca_file: Some(file.path().to_owned()), ..options() };
    let error = open("https://localhost/x", &options).unwrap_err();
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}
