//! Requests to a server's API, and its refusals as errors of one line.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client as Http, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::Server;
use super::serve::ServeError;
use crate::apply::Mistake;
use crate::objects::{API_VERSION, Key};

/// The server is next door.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// `serve` could not start or go on.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `image add` could not do it.
    #[error(transparent)]
    Image(#[from] super::image::ImageError),
    /// A file of `apply`.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A directory of `apply` with nothing in it.
    #[error("there is no .yaml or .yml file in {0}")]
    Empty(PathBuf),
    /// The connection.
    #[error("cannot talk to the server at {server} (is `ironhook serve` running? see --server)")]
    Connect {
        /// Where it should be.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// What came back is not what this program understands.
    #[error("the server at {server} answers something else than expected")]
    Answer {
        /// Which.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server says no.
    #[error("{0}")]
    Refused(String),
    /// `apply` found mistakes.
    #[error("nothing is stored")]
    Mistakes(Vec<Mistake>),
    /// Standard output.
    #[error("cannot write the output")]
    Write(#[source] io::Error),
    /// An object cannot be shown.
    #[error("cannot show the object as {0}")]
    Show(&'static str),
}

/// Talks to one server.
pub struct Client {
    http: Http,
    server: String,
}

impl Client {
    /// Connects when it is used.
    pub fn new(server: &Server) -> Result<Self, CliError> {
        let server = server.server.trim_end_matches('/').to_owned();
        // The API is on loopback; a proxy of the environment is not meant for it.
        let http = Http::builder().no_proxy().connect_timeout(CONNECT).build();
        let http = http.map_err(|source| CliError::Connect { server: server.clone(), source })?;
        Ok(Self { http, server })
    }

    /// The path of an object.
    pub fn path(key: &Key) -> String {
        format!("/apis/{API_VERSION}/namespaces/{}/{}/{}", key.namespace, key.kind.plural(), key.name)
    }

    /// An object or a list.
    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.json(self.send(self.request(Method::GET, path)).await?).await
    }

    /// Gone afterwards.
    pub async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.json(self.send(self.request(Method::DELETE, path)).await?).await
    }

    /// Answers with status and body, whatever they are.
    pub async fn post(&self, path: &str, body: &impl serde::Serialize) -> Result<(StatusCode, Value), CliError> {
        let response = self.request(Method::POST, path).json(body).send().await.map_err(|e| self.lost(e))?;
        let status = response.status();
        Ok((status, self.json(response).await?))
    }

    /// A text.
    pub async fn text(&self, path: &str, query: &[(&str, &str)]) -> Result<String, CliError> {
        let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
        let response = self.send(self.request(Method::GET, &format!("{path}?{}", query.join("&")))).await?;
        response.text().await.map_err(|e| self.lost(e))
    }

    /// A file, whole.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>, CliError> {
        let response = self.send(self.request(Method::GET, path)).await?;
        Ok(response.bytes().await.map_err(|e| self.lost(e))?.to_vec())
    }

    /// A body without an end.
    pub async fn stream(&self, path: &str) -> Result<Response, CliError> {
        self.send(self.request(Method::GET, path)).await
    }

    /// An error of the connection.
    pub fn lost(&self, source: reqwest::Error) -> CliError {
        CliError::Connect { server: self.server.clone(), source }
    }

    /// An error of the content.
    pub fn odd(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CliError {
        CliError::Answer { server: self.server.clone(), source: source.into() }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|e| self.lost(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.json(response).await?;
        let message = body["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(CliError::Refused(message))
    }

    async fn json(&self, response: Response) -> Result<Value, CliError> {
        let text = response.text().await.map_err(|e| self.lost(e))?;
        serde_json::from_str(&text).map_err(|e| self.odd(e))
    }
}

/// As a query may carry it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
