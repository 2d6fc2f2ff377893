//! A log that is neither the server's nor the agent's: every action that really ran says so here, once.
//! It can hold an action back, so that something can happen while it runs.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::httpd::{self, Request};

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    open: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The witness. `POST /line` is a line of its log; `GET /gate` answers 204 when actions may end, else 503.
#[derive(Debug)]
pub struct Witness {
    address: SocketAddr,
    state: Shared,
}

impl Witness {
    /// Starts to listen; its gate is closed.
    pub fn start(address: Ipv4Addr) -> io::Result<Self> {
        let state = Shared::default();
        let for_server = Arc::clone(&state);
        let address = httpd::serve(address, move |request, client| answer(&request, client, &for_server))?;
        Ok(Self { address, state })
    }

    /// For `WITNESS_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// Waits until there are so many lines; whether they came in time.
    pub fn wait_for(&self, count: usize, after: Duration) -> bool {
        let state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.state.1.wait_timeout_while(state, after, |state| state.lines.len() < count);
        !wait.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// From now on actions may end.
    pub fn open(&self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).open = true;
    }
}

fn answer(request: &Request, client: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    let status = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/line") => {
            state.lines.push(String::from_utf8_lossy(&request.body).trim_end().to_owned());
            shared.1.notify_all();
            "204 No Content"
        }
        ("GET", "/gate") if state.open => "204 No Content",
        ("GET", "/gate") => "503 Service Unavailable",
        _ => "404 Not Found",
    };
    drop(state);
    write!(client, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
