//! The one network policy for files: which certificate authorities are trusted, which proxy is used, how long a silent
//! server is waited for, how often and how a broken transfer is taken up again. Blocking; not for asynchronous code.
//! Must not interpret the bytes: digests and decompression are the caller's, while reading.

mod backoff;
mod body;
mod client;
mod error;
mod layout;
pub mod push;
mod ranged;
mod redact;
pub mod registry;
mod streams;

use std::path::PathBuf;
use std::time::Duration;

use spec::Secret;

pub use body::Body;
pub use error::{Error, Why};
pub use layout::layouts;
pub use ranged::Ranged;
pub use redact::redacted;
pub use streams::MOST as MOST_STREAMS;

/// How to fetch. Proxies come from the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`).
#[derive(Clone, Debug)]
pub struct Options {
    /// Trusted besides the well-known authorities: a PEM file of the site.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to come up.
    pub connect: Duration,
    /// How long the server may send nothing.
    pub stall: Duration,
    /// How long to try again without a single byte of progress; zero means never.
    pub patience: Duration,
    /// How often at most, within that.
    pub retries: Option<u32>,
    /// How many ranges of a file are fetched at once, at most [`MOST_STREAMS`]: 1 is one answer from its start to its end.
    /// More only where a server has ranges and a strong tag for the file.
    pub streams: usize,
    /// Sent with every request for a file, to mirrors and where redirects lead too; not to registries.
    pub headers: Vec<(String, Secret)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ca_file: None,
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            patience: Duration::from_secs(600),
            retries: None,
            streams: 1,
            headers: Vec::new(),
        }
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// The transfer encoding says so.
    Chunked,
    /// The server closes the connection: an early end cannot be told from the end.
    UntilClose,
}

/// A file that has begun to arrive.
#[derive(Debug)]
pub struct Response {
    /// How its end is known.
    pub framing: Framing,
    /// Its bytes as the server holds them. Takes up a broken transfer where it ended; an end before the announced
    /// length is [`Error::Truncated`], inside the [`std::io::Error`] ([`Error::within`] finds it).
    pub reader: Body,
}

impl Response {
    /// Bytes of the whole file, when the server announced them.
    pub fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

/// Asks for the file, trying again as `options` say, and returns when its first byte can be read.
pub fn open(url: &str, options: &Options) -> Result<Response, Error> {
    body::open(vec![client::Client::new(url, options)?])
}

/// The same file from whichever of its mirrors answers, and goes on answering.
pub fn open_any(urls: &[String], options: &Options) -> Result<Response, Error> {
    body::open(urls.iter().map(|url| client::Client::new(url, options)).collect::<Result<_, _>>()?)
}
