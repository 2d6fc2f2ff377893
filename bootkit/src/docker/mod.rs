//! The container engine, as far as bootkit needs it: is it there, which images has it, one container. Says what the
//! engine answered; what to do about it is decided elsewhere.

pub mod cause;
mod http;
pub mod load;
pub mod pull;

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use self::http::{Answer, Request, encode};

/// An engine may be busy; it says something all the same.
const SILENCE: Duration = Duration::from_secs(120);
/// Of an answer that is read whole.
const LARGEST: u64 = 4 << 20;

/// The engine could not be asked, or says no.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The connection.
    #[error("cannot talk to the engine at {socket}")]
    Talk {
        /// Where.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A refusal.
    #[error("the engine answered {status} to {what}: {message}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// HTTP's.
        status: u16,
        /// Its own words.
        message: String,
    },
    /// Not what it is documented to say.
    #[error("the engine's answer to {what} is not understood")]
    Answer {
        /// What it was asked for.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Where it listens.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// Asks nothing yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// No socket, no answer in time and an error of the engine are all "not yet".
    pub fn ping(&self) -> bool {
        let request = Request { method: "GET", path: "/_ping", headers: &[], silence: Some(Duration::from_secs(5)) };
        self.send(&request, 0, |_| Ok(())).is_ok_and(|answer| answer.status == 200)
    }

    /// The id of an image that it has.
    pub fn image(&self, name: &str) -> Result<Option<String>, DockerError> {
        let found = self.find(&format!("/images/{name}/json"))?;
        Ok(found.and_then(|image| image["Id"].as_str().map(str::to_owned)))
    }

    /// A container as the engine describes it.
    pub fn container(&self, name: &str) -> Result<Option<Value>, DockerError> {
        self.find(&format!("/containers/{name}/json"))
    }

    /// A new container; its id.
    pub fn create(&self, name: &str, spec: &Value) -> Result<String, DockerError> {
        let path = format!("/containers/create?name={}", encode(name));
        let answer = self.json("POST", &path, Some(spec), Some(SILENCE))?;
        Ok(answer["Id"].as_str().unwrap_or(name).to_owned())
    }

    /// Starts one.
    pub fn start(&self, name: &str) -> Result<(), DockerError> {
        self.json("POST", &format!("/containers/{name}/start"), None, Some(SILENCE)).map(drop)
    }

    /// Waits for its end, however long that takes; its exit status.
    pub fn wait(&self, name: &str) -> Result<i64, DockerError> {
        let answer = self.json("POST", &format!("/containers/{name}/wait"), None, None)?;
        Ok(answer["StatusCode"].as_i64().unwrap_or(-1))
    }

    /// Whatever it does. One that is not there is fine.
    pub fn remove(&self, name: &str) -> Result<(), DockerError> {
        match self.json("DELETE", &format!("/containers/{name}?force=1"), None, Some(SILENCE)) {
            Err(DockerError::Refused { status: 404, .. }) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Its last lines, both streams.
    pub fn tail(&self, name: &str, lines: u32) -> Result<String, DockerError> {
        let path = format!("/containers/{name}/logs?stdout=1&stderr=1&tail={lines}");
        let answer = self.ask("GET", &path, None, Some(SILENCE))?;
        let mut bytes = Vec::new();
        answer.body.take(LARGEST).read_to_end(&mut bytes).map_err(|source| self.lost(source))?;
        Ok(demultiplexed(&bytes))
    }

    fn find(&self, path: &str) -> Result<Option<Value>, DockerError> {
        match self.json("GET", path, None, Some(SILENCE)) {
            Ok(found) => Ok(Some(found)),
            Err(DockerError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn json(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        silence: Option<Duration>,
    ) -> Result<Value, DockerError> {
        let answer = self.ask(method, path, body, silence)?;
        let mut text = Vec::new();
        answer.body.take(LARGEST).read_to_end(&mut text).map_err(|source| self.lost(source))?;
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&text).map_err(|source| DockerError::Answer { what: what(method, path), source })
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        silence: Option<Duration>,
    ) -> Result<Answer, DockerError> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        let headers = [("Content-Type", "application/json")];
        let request = Request { method, path, headers: &headers, silence };
        let answer = self
            .send(&request, text.len() as u64, |stream| io::Write::write_all(stream, text.as_bytes()))
            .map_err(|source| self.lost(source))?;
        self.agreed(answer, what(method, path))
    }

    fn send(
        &self,
        request: &Request<'_>,
        length: u64,
        body: impl FnOnce(&mut std::os::unix::net::UnixStream) -> io::Result<()>,
    ) -> io::Result<Answer> {
        http::send(&self.socket, request, length, body)
    }

    /// A refusal with the engine's own words.
    fn agreed(&self, answer: Answer, what: String) -> Result<Answer, DockerError> {
        if (200..400).contains(&answer.status) {
            return Ok(answer);
        }
        let mut text = String::new();
        // What cannot be read of a refusal is left out.
        let _ = answer.body.take(LARGEST).read_to_string(&mut text);
        let said = serde_json::from_str::<Value>(&text).ok().and_then(|v| v["message"].as_str().map(str::to_owned));
        Err(DockerError::Refused { what, status: answer.status, message: said.unwrap_or(text).trim().to_owned() })
    }

    fn lost(&self, source: io::Error) -> DockerError {
        DockerError::Talk { socket: self.socket.clone(), source }
    }
}

fn what(method: &str, path: &str) -> String {
    format!("{method} {}", path.split('?').next().unwrap_or_default())
}

/// Both streams of a container without a terminal come in frames: stream, three zeros, length, text.
fn demultiplexed(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some(([0..=2, 0, 0, 0, length @ ..], rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (frame, after) = rest.split_at(length.min(rest.len()));
        text.extend_from_slice(frame);
        bytes = after;
    }
    text.extend_from_slice(bytes);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_and_a_terminal_has_none() {
        let framed = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x04 two";
        assert_eq!(demultiplexed(framed), "one two");
        assert_eq!(demultiplexed(b"plain"), "plain");
        assert_eq!(demultiplexed(b"\x01\0\0\0\0\0\x09\x03cut"), "cut");
    }

    #[test]
    fn no_socket_is_no_answer() {
        assert!(!Docker::new("/nonexistent/docker.sock").ping());
    }
}
