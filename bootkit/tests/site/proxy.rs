//! Between the engine and the registry, in the network of the other end: passes requests on, makes a mistake when it is
//! asked to, and can be the only way out. One request a connection.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::libc::linger;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;

/// What happens instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A status for manifests, with a code of the registry's protocol.
    Status(u16, &'static str),
    /// The connection of a layer is reset in the middle.
    Reset,
    /// A layer ends before its announced length, as if that were all.
    Truncated,
    /// A byte of a layer is another.
    Flipped,
    /// A layer is announced as a terabyte and never ends.
    Endless,
}

#[derive(Default)]
struct State {
    fault: Option<(Fault, u32)>,
    made: u32,
    authorized: u32,
    requests: Vec<String>,
}

/// The proxy; its threads end with the test.
#[derive(Clone)]
pub struct Proxy(Arc<Mutex<State>>);

impl Proxy {
    /// Listens at `address` in the network of a process and passes everything on to `upstream` there.
    pub fn start(pid: u32, address: &str, upstream: &str) -> Self {
        let proxy = Self(Arc::default());
        let (shared, address, upstream) = (proxy.clone(), address.to_owned(), upstream.to_owned());
        let (ready, started) = std::sync::mpsc::channel();
        thread::spawn(move || {
            enter(pid);
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            for client in listener.incoming().flatten() {
                let (shared, upstream) = (shared.clone(), upstream.clone());
                // A thread's children are in its network.
                thread::spawn(move || shared.pass_on(client, &upstream));
            }
        });
        started.recv().unwrap();
        proxy
    }

    /// The next `times` requests that it concerns meet this fault.
    pub fn fail(&self, fault: Fault, times: u32) {
        let mut state = self.0.lock().unwrap();
        (state.fault, state.made) = (Some((fault, times)), 0);
    }

    /// How often the fault was made.
    pub fn made(&self) -> u32 {
        self.0.lock().unwrap().made
    }

    /// First lines of all requests.
    pub fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap().requests.clone()
    }

    /// How many requests said who asks.
    pub fn authorized(&self) -> u32 {
        self.0.lock().unwrap().authorized
    }

    fn due(&self, line: &str) -> Option<Fault> {
        let mut state = self.0.lock().unwrap();
        state.requests.push(line.to_owned());
        let (fault, left) = state.fault?;
        let concerned = match fault {
            Fault::Status(..) => line.contains("/manifests/"),
            _ => line.starts_with("GET") && line.contains("/blobs/"),
        };
        if !concerned || left == 0 {
            return None;
        }
        state.fault = Some((fault, left - 1));
        state.made += 1;
        Some(fault)
    }

    fn pass_on(&self, mut client: TcpStream, upstream: &str) {
        let Some(head) = head(&mut BufReader::new(&client)) else { return };
        let fault = self.due(&head[0]);
        if head.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization:")) {
            self.0.lock().unwrap().authorized += 1;
        }
        if let Some(Fault::Status(status, code)) = fault {
            let body = format!(r#"{{"errors":[{{"code":"{code}","message":"as the test wants it"}}]}}"#);
            let _ = write!(
                client,
                "HTTP/1.1 {status} Fault\r\nWWW-Authenticate: Basic realm=\"test\"\r\nRetry-After: 1\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            return;
        }
        let mut server = TcpStream::connect(upstream).unwrap();
        for line in &head {
            // As a proxy it is asked for whole URLs.
            let line = match (line.find(" http://"), line.ends_with("HTTP/1.1")) {
                (Some(at), true) => {
                    let path = line[at + 8..].find('/').map_or("/", |slash| &line[at + 8 + slash..]);
                    format!("{} {path}", &line[..at])
                }
                _ => line.clone(),
            };
            if !line.to_ascii_lowercase().starts_with("connection:") {
                write!(server, "{line}\r\n").unwrap();
            }
        }
        write!(server, "Connection: close\r\n\r\n").unwrap();
        let mut answer = BufReader::new(server);
        let Some(head) = self::head(&mut answer) else { return };
        let large = head
            .iter()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<u64>().ok());
        let large = large.is_some_and(|length| length > 1_000_000);
        let endless = large && fault == Some(Fault::Endless);
        let text = |line: &String| match line.to_ascii_lowercase().starts_with("content-length:") && endless {
            true => format!("Content-Length: {}\r\n", 1_u64 << 40),
            false => format!("{line}\r\n"),
        };
        let text: String = head.iter().map(text).collect();
        if write!(client, "{text}\r\n").is_err() {
            return;
        }
        match fault.filter(|_| large) {
            Some(Fault::Truncated | Fault::Reset) => {
                let _ = std::io::copy(&mut answer.take(500_000), &mut client);
                if fault == Some(Fault::Reset) {
                    // Closing then sends a reset instead of an end.
                    setsockopt(&client, Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
                } else {
                    let _ = client.shutdown(Shutdown::Both);
                }
            }
            Some(Fault::Endless) => {
                let _ = std::io::copy(&mut answer, &mut client);
                // Until the other side goes.
                let _ = client.read(&mut [0]);
            }
            Some(Fault::Flipped) => {
                let mut body = Vec::new();
                answer.read_to_end(&mut body).unwrap();
                let middle = body.len() / 2;
                body[middle] ^= 1;
                let _ = client.write_all(&body);
            }
            _ => {
                let _ = std::io::copy(&mut answer, &mut client);
            }
        }
    }
}

/// This thread, and those that it starts, are in the network of a process from now on.
pub fn enter(pid: u32) {
    setns(File::open(format!("/proc/{pid}/ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

/// The lines of a head; none when the other end has gone.
fn head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some(lines),
            text => lines.push(text.to_owned()),
        }
    }
}
