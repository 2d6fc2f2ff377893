//! The certificate authorities that a server of 0.6 hands out over HTTP (wire reference §4.4): fetched at each start, for
//! as long as it takes, and kept beside the state for `roots` to read. Must not be used where a server is to be proven.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spec::error::one_line;

use crate::backoff::Backoff;
use crate::config::Config;

/// A bundle has a few certificates.
const LARGEST: u64 = 1 << 20;

/// There is no use in what was handed out.
#[derive(Debug, thiserror::Error)]
enum AuthoritiesError {
    /// It did not arrive.
    #[error(transparent)]
    Fetch(Box<fetch::Error>),
    /// It broke off.
    #[error("cannot read {url}")]
    Read {
        /// From where.
        url: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is something else.
    #[error("what {url} answers is no certificate as PEM of at most {LARGEST} bytes")]
    Odd {
        /// From where.
        url: String,
    },
    /// There is no place for it.
    #[error("cannot write {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Where they are kept.
pub fn place(config: &Config) -> PathBuf {
    config.run_dir.join("agent/authorities.pem")
}

/// Fetches them if the configuration names a place; the server's are new with each of its installations.
pub async fn fetch(config: &Config) {
    let Some(url) = &config.cert_url else { return };
    let mut backoff = Backoff::new(config.retry_interval);
    let mut said = String::new();
    loop {
        let (from, to) = (url.clone(), place(config));
        let done = tokio::task::spawn_blocking(move || fetch_once(&from, &to)).await;
        let why = match done {
            Ok(Ok(())) => return tracing::info!("the server's certificate authorities are those of {url}, unverified"),
            Ok(Err(error)) => one_line(&error),
            Err(error) => error.to_string(),
        };
        if why != said {
            tracing::warn!("no certificate authorities yet, trying again: {why}");
            said = why;
        }
        backoff.wait().await;
    }
}

fn fetch_once(url: &str, path: &Path) -> Result<(), AuthoritiesError> {
    let quick = fetch::Options { patience: Duration::ZERO, ..fetch::Options::default() };
    let response = fetch::open(url, &quick).map_err(|error| AuthoritiesError::Fetch(Box::new(error)))?;
    let mut pem = String::new();
    let read = response.reader.take(LARGEST + 1).read_to_string(&mut pem);
    let size = read.map_err(|source| AuthoritiesError::Read { url: url.to_owned(), source })?;
    if size as u64 > LARGEST || !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(AuthoritiesError::Odd { url: url.to_owned() });
    }
    let fresh = path.with_extension("new");
    let written = std::fs::write(&fresh, pem).and_then(|()| std::fs::rename(&fresh, path));
    written.map_err(|source| AuthoritiesError::Write { path: path.to_owned(), source })
}
