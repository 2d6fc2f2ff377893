//! A file on its way to a server: one request, streamed, with a limit on silence and an answer that counts. Must not
//! repeat itself: a body that was read is gone, so trying again is its owner's.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::{Body, Response};
use reqwest::header::CONTENT_TYPE;

use crate::client::Client;
use crate::{Error, Options};

/// How a file is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The URL is the file's from now on.
    Put,
    /// The URL takes files.
    Post,
}

/// What is sent.
pub struct Upload {
    /// How.
    pub how: How,
    /// What it is.
    pub content_type: String,
    /// Bytes, when known before; else it is sent in chunks.
    pub length: Option<u64>,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

/// How often the caller is told.
const TICK: Duration = Duration::from_millis(200);

/// Sends it, calling `tick` now and then. Success is a status from 200 to 299, which comes when the server has all of it.
pub fn push(url: &str, options: &Options, upload: Upload, tick: &mut dyn FnMut()) -> Result<(), Error> {
    let client = Client::for_upload(url, options)?;
    let shown = client.shown();
    let sent = Arc::new(AtomicU64::new(0));
    let body = Counted { inner: upload.body, sent: sent.clone() };
    let body = match upload.length {
        Some(length) => Body::sized(body, length),
        None => Body::new(body),
    };
    let method = if upload.how == How::Put { Method::PUT } else { Method::POST };
    let request = client.request(method).header(CONTENT_TYPE, upload.content_type).body(body);
    let (done, answer) = channel();
    // Its result is what counts; after a stall nobody waits for it any more.
    thread::spawn(move || drop(done.send(request.send())));
    let (mut before, mut since) = (0, Instant::now());
    loop {
        match answer.recv_timeout(TICK.min(options.stall)) {
            Ok(Ok(response)) => return judge(shown, &response),
            Ok(Err(e)) => return Err(Error::Send { url: shown, sent: sent.load(Ordering::Relaxed), source: cause(e) }),
            Err(RecvTimeoutError::Timeout) => {
                tick();
                let now = sent.load(Ordering::Relaxed);
                if now != before {
                    (before, since) = (now, Instant::now());
                } else if since.elapsed() >= options.stall {
                    return Err(Error::Unanswered { url: shown, silence: options.stall, sent: now });
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let source = "the sending thread ended".into();
                return Err(Error::Send { url: shown, sent: sent.load(Ordering::Relaxed), source });
            }
        }
    }
}

fn judge(url: String, response: &Response) -> Result<(), Error> {
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(Error::Status { url, status: status.as_u16() }) }
}

/// What the body's own reader said is more telling than that sending broke.
fn cause(error: reqwest::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.without_url().into()
}

struct Counted {
    inner: Box<dyn Read + Send>,
    sent: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.sent.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    /// Takes one request; the URL, and what came.
    fn server(answer: Option<&'static str>) -> (String, thread::JoinHandle<(String, Vec<u8>)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://me:secret@{}/x", listener.local_addr().unwrap());
        let taken = thread::spawn(move || {
            let (peer, _) = listener.accept().unwrap();
            let mut peer = BufReader::new(peer);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(peer.read_line(&mut head).unwrap() > 0);
            }
            let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            peer.read_exact(&mut body).unwrap();
            match answer {
                Some(answer) => write!(peer.get_mut(), "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap(),
                // Silence until the client is gone.
                None => drop(peer.read(&mut [0])),
            }
            (head, body)
        });
        (url, taken)
    }

    fn upload() -> Upload {
        let body = Box::new(io::Cursor::new(b"hello".to_vec()));
        Upload { how: How::Put, content_type: "text/plain".into(), length: Some(5), body }
    }

    #[test]
    fn only_a_good_answer_is_a_success() {
        let (url, taken) = server(Some("201 Created"));
        push(&url, &Options::default(), upload(), &mut || ()).unwrap();
        let (head, body) = taken.join().unwrap();
        assert!(head.starts_with("PUT /x ") && head.to_lowercase().contains("content-type: text/plain"), "{head}");
        assert_eq!(body, b"hello");
        for status in ["500 Broken", "404 None", "302 Elsewhere"] {
            let (url, taken) = server(Some(status));
            let error = push(&url, &Options::default(), upload(), &mut || ()).unwrap_err();
            assert!(matches!(error, Error::Status { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
            taken.join().unwrap();
        }
    }

    #[test]
    fn silence_has_a_limit() {
        let (url, _taken) = server(None);
        let options = Options { stall: Duration::from_millis(300), ..Options::default() };
        let error = push(&url, &options, upload(), &mut || ()).unwrap_err();
        assert!(matches!(error, Error::Unanswered { sent: 5, .. }), "{error}");
    }

    #[test]
    fn a_body_that_breaks_is_a_failure() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad sector"))
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        thread::spawn(move || drop(listener.accept().map(|(mut peer, _)| peer.read(&mut [0; 4096]))));
        let upload = Upload { length: None, body: Box::new(Broken), ..upload() };
        let error = push(&url, &Options::default(), upload, &mut || ()).unwrap_err();
        assert!(matches!(error, Error::Send { .. }), "{error}");
    }
}
