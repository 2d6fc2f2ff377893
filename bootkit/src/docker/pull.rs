//! Pulling an image once: the progress stream is read to its end, because that is where the engine puts most errors.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::time::Duration;

use serde_json::{Value, json};
use spec::Secret;

use super::http::{Request, encode};
use super::{Docker, DockerError};

/// Unpacking a large layer is silent.
const SILENCE: Duration = Duration::from_secs(600);
/// Of a line of the stream.
const LINE: u64 = 1 << 20;

/// Who we are to a registry.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// His password.
    pub password: Secret,
}

/// A pull did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The engine, or the registry by its status.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// An error in the stream: the engine's words.
    #[error("{0}")]
    Stream(String),
    /// The engine broke off.
    #[error("the engine broke the pull off")]
    Cut,
}

/// How a pull goes.
pub enum Progress {
    /// Bytes that are here, and bytes known of.
    Bytes(u64, u64),
    /// A layer broke off, and the engine asks for it again.
    Again,
}

impl Docker {
    /// Pulls, and tells how it goes.
    pub fn pull(&self, name: &str, login: Option<&Login>, progress: &mut dyn FnMut(Progress)) -> Result<(), PullError> {
        let path = format!("/images/create?fromImage={}", encode(name));
        let token = login.map(token);
        let headers: Vec<(&str, &str)> = token.iter().map(|token| ("X-Registry-Auth", token.expose())).collect();
        let request = Request { method: "POST", path: &path, headers: &headers, silence: Some(SILENCE) };
        let answer = self.send(&request, 0, |_| Ok(())).map_err(|source| self.lost(source))?;
        let mut body = self.agreed(answer, format!("pull {name}"))?.body;
        let mut layers = Layers::default();
        loop {
            let mut line = Vec::new();
            let read = (&mut body).take(LINE).read_until(b'\n', &mut line).map_err(|source| self.lost(source))?;
            if read == 0 {
                // HTTP/1.0 has no other end; whether the image is there now is the real answer.
                return self.image(name)?.map(drop).ok_or(PullError::Cut);
            }
            let Ok(item) = serde_json::from_slice::<Value>(&line) else { continue };
            if let Some(error) = item["errorDetail"]["message"].as_str().or(item["error"].as_str()) {
                return Err(PullError::Stream(error.to_owned()));
            }
            if item["status"].as_str().is_some_and(|status| status.starts_with("Retrying in ")) {
                progress(Progress::Again);
            } else if let Some((done, total)) = layers.add(&item) {
                progress(Progress::Bytes(done, total));
            }
        }
    }
}

/// As the engine wants it: JSON in base64's URL alphabet.
fn token(login: &Login) -> Secret {
    let text = json!({ "username": login.user, "password": login.password.expose() }).to_string();
    Secret::new(base64url(text.as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Bytes of the layers that are being downloaded.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn add(&mut self, item: &Value) -> Option<(u64, u64)> {
        let id = item["id"].as_str()?;
        let detail = &item["progressDetail"];
        match (item["status"].as_str()?, detail["current"].as_u64(), detail["total"].as_u64()) {
            ("Downloading", Some(done), total) => {
                self.0.insert(id.to_owned(), (done, total.unwrap_or(0)));
            }
            ("Download complete" | "Pull complete", _, _) => {
                let (done, total) = self.0.get_mut(id)?;
                *done = *total;
            }
            _ => return None,
        }
        Some(self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_alphabet_with_its_padding() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[0xfb, 0xff], "-_8=")]
        {
            assert_eq!(base64url(bytes), text);
        }
    }

    #[test]
    fn bytes_of_all_layers_are_counted() {
        let mut layers = Layers::default();
        let mut add = |text: &str| layers.add(&serde_json::from_str(text).unwrap());
        assert_eq!(add(r#"{"status":"Pulling from a","id":"1"}"#), None);
        assert_eq!(
            add(r#"{"status":"Downloading","id":"a","progressDetail":{"current":5,"total":10}}"#),
            Some((5, 10))
        );
        assert_eq!(add(r#"{"status":"Downloading","id":"b","progressDetail":{"current":1,"total":2}}"#), Some((6, 12)));
        assert_eq!(add(r#"{"status":"Download complete","id":"a","progressDetail":{}}"#), Some((11, 12)));
    }
}
