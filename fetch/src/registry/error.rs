//! What can go wrong between a name and its bytes.

use super::Reference;

/// Why an image or artifact could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name of an image.
    #[error("`{text}` names no image: {problem}")]
    Reference {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The network, or a status that says nothing more.
    #[error(transparent)]
    Fetch(#[from] crate::Error),
    /// The registry wants to know who asks.
    #[error("registry {host} does not give `{repository}` away: {why}")]
    Unauthorized {
        /// The registry.
        host: String,
        /// What was asked for.
        repository: String,
        /// No credentials, or refused ones.
        why: &'static str,
    },
    /// There is no such image.
    #[error("registry {} has no `{reference}`", reference.host())]
    NotFound {
        /// What was asked for.
        reference: Box<Reference>,
    },
    /// Another refusal.
    #[error("registry {host} answered `{what}` with status {status}{}", said(message))]
    Status {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, cut short.
        message: String,
    },
    /// The registry asks for a way of authentication that we do not have.
    #[error("registry {host} asks for authentication in a way we do not know: `{challenge}`")]
    Challenge {
        /// The registry.
        host: String,
        /// Its header.
        challenge: String,
    },
    /// A document that is not what it should be.
    #[error("{what} of `{reference}` is malformed")]
    Malformed {
        /// Manifest, index, configuration, token.
        what: &'static str,
        /// What was asked for.
        reference: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A document that is larger than any honest one.
    #[error("{what} of `{reference}` has more than {limit} bytes")]
    TooLarge {
        /// Manifest, index, configuration, token.
        what: &'static str,
        /// What was asked for.
        reference: String,
        /// The bound.
        limit: u64,
    },
    /// A manifest of a kind we do not know.
    #[error("`{reference}` is a `{media_type}`, which is no image manifest or index")]
    MediaType {
        /// What was asked for.
        reference: String,
        /// As the registry says it.
        media_type: String,
    },
    /// A digest of another kind than sha256.
    #[error("`{reference}` refers to `{digest}`, which is no sha256 digest")]
    DigestKind {
        /// What was asked for.
        reference: String,
        /// As referred to.
        digest: String,
    },
    /// Bytes that are not those that were named.
    #[error("`{reference}`: {digest} came as {actual}, {got} of {size} bytes")]
    Digest {
        /// What was asked for.
        reference: String,
        /// As referred to.
        digest: String,
        /// Of the bytes that came; what came beyond the size is not counted in.
        actual: String,
        /// How many came.
        got: u64,
        /// How many were named.
        size: u64,
    },
    /// The image is for other machines.
    #[error("`{reference}` is for {found}, not for {wanted}")]
    Architecture {
        /// What was asked for.
        reference: String,
        /// What there is.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A file with credentials cannot be used.
    #[error("cannot read registry credentials from {}", path.display())]
    AuthFile {
        /// The file.
        path: std::path::PathBuf,
        /// Why; never with its content.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// The error inside an I/O error of a [`super::Blob`], however deep a decoder has wrapped it.
    pub fn within(error: &std::io::Error) -> Option<&Self> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|e| e as _);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                Some(inner) => Some(inner as _),
                None => error.source(),
            };
        }
        None
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
