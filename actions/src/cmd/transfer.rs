//! The inputs about fetching a file that several actions have in common, and their values. Must not fetch.

use std::time::Duration;

use fetch::Options;

use crate::image::published::Place;
use crate::input::{self, Input, Reader, optional, or};

/// More URLs.
pub const MIRRORS: Input =
    optional("MIRRORS", "More URLs of the same file, separated by spaces: each takes over where another one fails.");
/// Authorities.
pub const CA_BUNDLE: Input =
    optional("CA_BUNDLE", "PEM file of certificate authorities to trust besides the well-known ones.");
/// Headers.
pub const HTTP_HEADERS: Input =
    optional("HTTP_HEADERS", "Headers for every request to a web server, also a mirror: lines of <name>: <value>.");
/// Ranges at once.
pub const FETCH_STREAMS: Input = or(
    "FETCH_STREAMS",
    "1",
    "Fetch so many ranges of the file at once, 1 to 8, where the server has ranges and a strong ETag; each takes 1.5 MiB of memory. For paths where one connection is slow.",
);
/// Silence.
pub const STALL_TIMEOUT_SECONDS: Input = or("STALL_TIMEOUT_SECONDS", "30", "How long the server may send nothing.");
/// Attempts by time.
pub const RETRY_BUDGET_SECONDS: Input = optional("RETRY_BUDGET_SECONDS", "The same in seconds, when set.");
/// Attempts by number.
pub const RETRIES: Input = optional("RETRIES", "How often at most to try again without any progress; 0 is never.");

/// All but the mirrors; `patience` is what the action's own input says about trying again.
pub fn options(r: &mut Reader<'_>, patience: Duration) -> Options {
    let stall = r.value(STALL_TIMEOUT_SECONDS.name, input::seconds);
    if stall.is_zero() {
        r.problem("STALL_TIMEOUT_SECONDS must be at least 1");
    }
    let streams = |text: &str| match input::number(text)? as usize {
        streams @ 1..=fetch::MOST_STREAMS => Ok(streams),
        _ => Err(format!("{text:?} is not from 1 to {}", fetch::MOST_STREAMS)),
    };
    Options {
        ca_file: r.optional(CA_BUNDLE.name, input::path),
        stall,
        patience: r.optional(RETRY_BUDGET_SECONDS.name, input::seconds).unwrap_or(patience),
        retries: r.optional(RETRIES.name, input::number),
        headers: r.optional(HTTP_HEADERS.name, input::headers).unwrap_or_default(),
        streams: r.value(FETCH_STREAMS.name, streams),
        ..Options::default()
    }
}

/// A file by its path, or on a web server and its mirrors.
pub fn place(r: &mut Reader<'_>, url: String) -> Place {
    let mirrors = r.optional(MIRRORS.name, input::text).unwrap_or_default();
    let place = match url.strip_prefix("file://").unwrap_or(&url) {
        path if path.starts_with('/') => Place::File(path.into()),
        _ => Place::Web(std::iter::once(&*url).chain(mirrors.split_whitespace()).map(str::to_owned).collect()),
    };
    if !mirrors.is_empty() && !matches!(place, Place::Web(_)) {
        no_mirrors(r);
    }
    place
}

/// For what is not on a web server.
pub fn no_mirrors(r: &mut Reader<'_>) {
    if r.optional(MIRRORS.name, input::text).is_some() {
        r.problem("MIRRORS are for a file of a web server");
    }
}
