//! What can go wrong with a transfer. URLs in here are redacted before they come in.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

type Cause = Box<dyn StdError + Send + Sync>;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL that can be fetched.
    #[error("{url} is not an http or https URL")]
    Url {
        /// As far as it may be shown.
        url: String,
    },
    /// The extra certificate authorities cannot be read.
    #[error("cannot read certificate authorities from {}", path.display())]
    Authorities {
        /// The PEM file.
        path: PathBuf,
        /// What is wrong with it.
        source: Cause,
    },
    /// A header that cannot be sent.
    #[error("{name:?} with its value is no HTTP header")]
    Header {
        /// Its name; the value may be a secret.
        name: String,
    },
    /// The client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Client {
        /// What is wrong.
        source: Cause,
    },
    /// No answer at all.
    #[error("cannot reach {url}")]
    Connect {
        /// What was asked for.
        url: String,
        /// The last attempt's failure.
        source: Cause,
    },
    /// An answer that is no file.
    #[error("{url} was answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The body ended before its announced length.
    #[error("download of {url} ended after {got} of {expected} bytes, not resumed: {why}")]
    Truncated {
        /// What was asked for.
        url: String,
        /// The announced length.
        expected: u64,
        /// What came.
        got: u64,
        /// Why it was not taken up again.
        why: Why,
        /// How it ended, when it was not a plain end.
        source: Option<Cause>,
    },
    /// A body of unannounced length broke.
    #[error("download of {url} broke after {got} bytes, not resumed: {why}")]
    Broken {
        /// What was asked for.
        url: String,
        /// What came.
        got: u64,
        /// Why it was not taken up again.
        why: Why,
        /// How it broke.
        source: Option<Cause>,
    },
    /// The server went silent.
    #[error("{url} sent nothing for {} s after {got} bytes, not resumed: {why}", silence.as_secs())]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long.
        silence: Duration,
        /// What came before.
        got: u64,
        /// Why it was not taken up again.
        why: Why,
    },
    /// A file could not be handed over.
    #[error("cannot send to {url}, {sent} bytes were on their way")]
    Send {
        /// Where to.
        url: String,
        /// What had been read of the file.
        sent: u64,
        /// How it broke.
        source: Cause,
    },
    /// The server neither takes more nor answers.
    #[error("{url} took nothing and said nothing for {} s after {sent} bytes", silence.as_secs())]
    Unanswered {
        /// Where to.
        url: String,
        /// How long.
        silence: Duration,
        /// What had been read of the file.
        sent: u64,
    },
    /// The server's answer to a request for the rest does not fit.
    #[error("{url} answered a request for bytes from {from} with content range {sent:?}")]
    Range {
        /// What was asked for.
        url: String,
        /// The first byte that was wanted.
        from: u64,
        /// What was sent instead.
        sent: String,
    },
}

/// Why a broken transfer was not taken up again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// No strong ETag and no Last-Modified, so nothing proves that the rest belongs to the beginning.
    NoValidator,
    /// The server sent the whole file: it changed, or ranges are not supported.
    SentWhole,
    /// The file is another one now, or gone.
    Changed,
    /// Every attempt failed for as long as was allowed.
    Patience,
    /// One answer after another ended at the same byte.
    SameByte,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoValidator => "the server sends neither a strong ETag nor Last-Modified",
            Self::SentWhole => "the file changed or the server does not support ranges",
            Self::Changed => "the file changed on the server",
            Self::Patience => "no progress within the time allowed for retries",
            Self::SameByte => "the server ends every answer at the same byte, as when its own copy is cut off",
        })
    }
}

impl Error {
    /// The error of a transfer inside an I/O error, however deep a decoder has wrapped it.
    pub fn within(error: &io::Error) -> Option<&Self> {
        let mut next: Option<&(dyn StdError + 'static)> = error.get_ref().map(|e| e as _);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner as _),
                None => error.source(),
            };
        }
        None
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
