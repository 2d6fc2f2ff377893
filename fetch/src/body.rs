//! The body of a response as one stream of bytes over as many connections, and servers, as it takes. Takes the rest of a
//! broken transfer only where the server proves that it is the rest of the same file (RFC 9110 §13.1.5, §14), or sends
//! again what was there already.

use spec::error::chain;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::blocking;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use tracing::warn;
use twox_hash::XxHash3_128;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::{Error, Why};
use crate::streams::{FIRST, Streams};
use crate::{Framing, Response};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// How often in a row a server may end an answer where it ended the one before.
const STOPS: u32 = 6;

/// The bytes of a file, in order, each once.
#[derive(Debug)]
pub struct Body {
    /// Where the same file is; all but the current one are tried when that fails.
    sources: Vec<Source>,
    current: usize,
    /// Gone while there is no connection.
    response: Option<blocking::Response>,
    framing: Framing,
    validator: Option<String>,
    got: u64,
    ranges: Ranges,
    /// Of everything got so far, to be compared when a server begins again; nothing when reading began elsewhere.
    seen: Option<Seen>,
    backoff: Backoff,
    /// An answer has begun of which no byte has come.
    is_fresh: bool,
    /// Answers in a row that ended without a byte more.
    stops: u32,
}

/// Whether several ranges of the file are fetched at once.
#[derive(Debug)]
enum Ranges {
    /// As soon as the first answer has begun.
    Wanted,
    /// From [`FIRST`] on.
    Running(Streams),
    /// One connection does it all.
    No,
}

/// The hash of some bytes.
struct Seen(XxHash3_128);

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen")
    }
}

#[derive(Debug)]
struct Source {
    client: Client,
    /// It answers ranges with something else.
    rangeless: bool,
    /// It has another file, or none.
    dead: bool,
}

/// How a connection ended before the body did.
struct Interruption {
    silent: bool,
    /// The server sent what we have already, and then the end.
    stopped: bool,
    cause: Option<Cause>,
}

/// What an attempt to go on came to.
enum Attempt {
    Resumed(blocking::Response),
    /// Worth another attempt.
    Failed(Interruption),
    /// Not with this server.
    Useless(Error),
}

pub(crate) fn open(clients: Vec<Client>) -> Result<Response, Error> {
    let Some(mut backoff) = clients.first().map(|client| Backoff::of(&client.options)) else {
        return Err(Error::Url { url: String::new() });
    };
    let mut current = 0;
    let (count, mut useless) = (clients.len(), 0);
    let response = loop {
        let client = &clients[current];
        // One attempt each, as long as there is another one to be tried.
        let mut once = Backoff::new(Duration::ZERO);
        let error = match answer(client, if count == 1 { &mut backoff } else { &mut once }) {
            Ok(response) if response.status() == StatusCode::OK => break response,
            Ok(response) => {
                useless += 1;
                Error::Status { url: client.shown(), status: response.status().as_u16() }
            }
            Err(error) => error,
        };
        let wait = if count == 1 || useless >= count { None } else { backoff.next(Instant::now()) };
        let Some(wait) = wait else { return Err(error) };
        current = (current + 1) % count;
        if current == 0 {
            useless = 0;
            thread::sleep(wait);
        }
    };
    Ok(begin(clients, current, response))
}

/// The body of an answer that is at hand.
pub(crate) fn start(client: Client, response: blocking::Response) -> Response {
    begin(vec![client], 0, response)
}

fn begin(clients: Vec<Client>, current: usize, response: blocking::Response) -> Response {
    let backoff = Backoff::of(&clients[current].options);
    let framing = framing(response.headers());
    let validator = validator(response.headers());
    let sources = clients.into_iter().map(|client| Source { client, rangeless: false, dead: false }).collect();
    let seen = Some(Seen(XxHash3_128::new()));
    let response = Some(response);
    let (is_fresh, stops) = (true, 0);
    let ranges = Ranges::Wanted;
    let reader =
        Body { sources, current, response, framing, validator, got: 0, ranges, seen, backoff, is_fresh, stops };
    Response { framing, reader }
}

/// Asks until there is an answer that another attempt would not change, whatever its status.
pub(crate) fn answer(client: &Client, backoff: &mut Backoff) -> Result<blocking::Response, Error> {
    loop {
        let error = match client.get().send() {
            Ok(response) if !may_pass(response.status()) => return Ok(response),
            Ok(response) => Error::Status { url: client.shown(), status: response.status().as_u16() },
            Err(e) => {
                let lasting = e.is_builder() || e.is_redirect() || is_untrusted(&e);
                let error = Error::Connect { url: client.shown(), source: e.without_url().into() };
                if lasting {
                    return Err(error);
                }
                error
            }
        };
        let Some(wait) = backoff.next(Instant::now()) else { return Err(error) };
        warn!("{}; trying again in {:.1} s", chain(&error), wait.as_secs_f32());
        thread::sleep(wait);
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if buf.is_empty() || self.framing == Framing::Length(self.got) {
                return Ok(0);
            }
            if let Some(n) = self.ranged(buf)? {
                return Ok(n);
            }
            let most = self.room(buf.len());
            let read = self.response.as_mut().map_or(Ok(0), |response| response.read(&mut buf[..most]));
            let interruption = match read {
                Ok(0) if matches!(self.framing, Framing::Length(_)) => Interruption::none(),
                Ok(n) => {
                    self.took(&buf[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Interruption::of(e),
            };
            let stopped = self.is_fresh && self.response.is_some() && !interruption.silent;
            self.resume(Interruption { stopped, ..interruption })?;
        }
    }
}

impl Body {
    fn took(&mut self, bytes: &[u8]) {
        self.got += bytes.len() as u64;
        if !bytes.is_empty() {
            (self.is_fresh, self.stops) = (false, 0);
            self.backoff.progress();
            if let Some(Seen(seen)) = &mut self.seen {
                seen.write(bytes);
            }
        }
    }

    /// Never by several ranges.
    pub(crate) fn stay_single(&mut self) {
        self.ranges = Ranges::No;
    }

    /// How much may be read from the one answer: where the ranges begin it is left.
    fn room(&self, most: usize) -> usize {
        match self.ranges {
            Ranges::Running(_) => most.min(FIRST.saturating_sub(self.got) as usize),
            _ => most,
        }
    }

    /// The next bytes from the ranges that are fetched at once. Where one of them is not what was asked for, one
    /// connection goes on from there: that costs no attempt.
    fn ranged(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Error> {
        if matches!(self.ranges, Ranges::Wanted) && self.got > 0 {
            let tag = self.validator.as_deref().zip(self.total()).filter(|_| self.got < FIRST);
            let streams = tag.and_then(|(tag, total)| Streams::start(self.client(), tag, total));
            self.ranges = streams.map_or(Ranges::No, Ranges::Running);
        }
        let Ranges::Running(streams) = &mut self.ranges else { return Ok(None) };
        if self.got < FIRST {
            return Ok(None);
        }
        self.response = None;
        if let Some(n) = streams.read(buf) {
            self.took(&buf[..n]);
            return Ok(Some(n));
        }
        self.stay_single();
        let (url, got) = (self.client().shown(), self.got);
        warn!("{url} cannot be fetched by ranges; going on with one connection after {got} bytes");
        // The second attempt is for a server that answers ranges with something else.
        for _ in 0..2 {
            match self.attempt() {
                Attempt::Resumed(response) => {
                    self.response = Some(response);
                    self.is_fresh = true;
                    break;
                }
                Attempt::Failed(_) => {}
                Attempt::Useless(error) if self.sources.len() == 1 => return Err(error),
                Attempt::Useless(_) => self.sources[self.current].dead = true,
            }
        }
        Ok(None)
    }

    /// Goes on at `offset`, which the server has to allow.
    pub(crate) fn seek(&mut self, offset: u64) -> Result<(), Error> {
        self.seen = None;
        self.got = offset;
        self.backoff.progress();
        // A server may have time for one connection only.
        self.response = None;
        match self.attempt() {
            Attempt::Resumed(response) => {
                self.response = Some(response);
                self.is_fresh = true;
                Ok(())
            }
            Attempt::Failed(interruption) => self.resume(interruption),
            Attempt::Useless(error) => Err(error),
        }
    }

    /// Whether the rest of this file can be told from the rest of another one.
    pub(crate) fn is_recognisable(&self) -> bool {
        self.validator.is_some()
    }

    /// Why it is of no use to the caller.
    pub(crate) fn refused(&self, why: Why) -> Error {
        self.ended(Interruption::none(), why)
    }

    /// Where the next byte is read.
    pub(crate) fn position(&self) -> u64 {
        self.got
    }

    fn resume(&mut self, mut interruption: Interruption) -> Result<(), Error> {
        self.response = None;
        // Another server may have other tags.
        self.stay_single();
        loop {
            self.stops += u32::from(interruption.stopped);
            if self.stops >= STOPS.saturating_mul(self.sources.len() as u32) {
                return Err(self.ended(interruption, Why::SameByte));
            }
            let Some(wait) = self.backoff.next(Instant::now()) else {
                return Err(self.ended(interruption, Why::Patience));
            };
            self.turn();
            let (url, seconds) = (self.client().shown(), wait.as_secs_f32());
            warn!("download of {url} broke after {} bytes; resuming in {seconds:.1} s", self.got);
            thread::sleep(wait);
            match self.attempt() {
                Attempt::Resumed(response) => {
                    self.response = Some(response);
                    self.is_fresh = true;
                    return Ok(());
                }
                Attempt::Failed(why) => interruption = why,
                Attempt::Useless(error) => {
                    self.sources[self.current].dead = true;
                    if self.sources.iter().all(|source| source.dead) {
                        return Err(error);
                    }
                    interruption = Interruption { cause: Some(error.into()), ..Interruption::none() };
                }
            }
        }
    }

    fn client(&self) -> &Client {
        &self.sources[self.current].client
    }

    /// To the next server that is not out of the question.
    fn turn(&mut self) {
        let count = self.sources.len();
        let next = (1..=count).map(|n| (self.current + n) % count).find(|n| !self.sources[*n].dead);
        self.current = next.unwrap_or(self.current);
    }

    /// One request for the rest, or for everything where ranges are of no use.
    fn attempt(&mut self) -> Attempt {
        let source = &self.sources[self.current];
        let range = self.validator.clone().filter(|_| self.got > 0 && !source.rangeless);
        let is_ranged = range.is_some();
        let request = match range {
            Some(validator) => {
                source.client.get().header(RANGE, format!("bytes={}-", self.got)).header(IF_RANGE, validator)
            }
            None => source.client.get(),
        };
        let response = match request.send() {
            Ok(response) => response,
            Err(e) => {
                let (silent, cause) = (e.is_timeout(), Some(e.without_url().into()));
                return Attempt::Failed(Interruption { silent, cause, stopped: false });
            }
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT if is_ranged => self.rest(response),
            StatusCode::OK => self.again(response),
            StatusCode::RANGE_NOT_SATISFIABLE => Attempt::Useless(self.ended(Interruption::none(), Why::Changed)),
            status if may_pass(status) => Attempt::Failed(Interruption::none()),
            status => Attempt::Useless(Error::Status { url: self.client().shown(), status: status.as_u16() }),
        }
    }

    /// `bytes <first>-<last>/<total>`: it must begin where we stopped and be of a file as long as ours.
    fn rest(&mut self, response: blocking::Response) -> Attempt {
        let sent = text(response.headers(), CONTENT_RANGE).unwrap_or_default();
        let theirs = validator(response.headers());
        if theirs.is_some() && theirs != self.validator {
            return Attempt::Useless(self.ended(Interruption::none(), Why::Changed));
        }
        if range_fits(&sent, self.got, self.total()) {
            return Attempt::Resumed(response);
        }
        let error = Error::Range { url: self.client().shown(), from: self.got, sent };
        match self.seen {
            Some(_) => {
                self.sources[self.current].rangeless = true;
                Attempt::Failed(Interruption { cause: Some(error.into()), ..Interruption::none() })
            }
            None => Attempt::Useless(error),
        }
    }

    /// The whole file once more: what we have of it already has to be the same.
    fn again(&mut self, mut response: blocking::Response) -> Attempt {
        let changed = framing(response.headers()) != self.framing;
        match &self.seen {
            _ if changed => return Attempt::Useless(self.ended(Interruption::none(), Why::Changed)),
            // Read in any order, it has to be the same version throughout.
            None if self.got == 0 && validator(response.headers()) != self.validator => {
                return Attempt::Useless(self.ended(Interruption::none(), Why::Changed));
            }
            _ if self.got == 0 => {}
            None => return Attempt::Useless(self.ended(Interruption::none(), Why::SentWhole)),
            Some(Seen(seen)) => match beginning(&mut response, self.got) {
                Ok(Some(hash)) if hash == seen.finish_128() => {}
                Ok(Some(_)) => return Attempt::Useless(self.ended(Interruption::none(), Why::Changed)),
                Ok(None) => return Attempt::Failed(Interruption { stopped: true, ..Interruption::none() }),
                Err(e) => return Attempt::Failed(Interruption::of(e)),
            },
        }
        self.validator = validator(response.headers());
        Attempt::Resumed(response)
    }

    fn total(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(total) => Some(total),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    fn ended(&self, interruption: Interruption, why: Why) -> Error {
        let (url, got, source) = (self.client().shown(), self.got, interruption.cause);
        match self.framing {
            _ if interruption.silent => Error::Stalled { url, silence: self.client().options.stall, got, why },
            Framing::Length(expected) => Error::Truncated { url, expected, got, why, source },
            Framing::Chunked | Framing::UntilClose => Error::Broken { url, got, why, source },
        }
    }
}

impl Interruption {
    fn none() -> Self {
        Self { silent: false, stopped: false, cause: None }
    }

    fn of(error: io::Error) -> Self {
        Self { silent: is_timeout(&error), stopped: false, cause: Some(error.into()) }
    }
}

/// The hash of the first `len` bytes; nothing when there are fewer.
fn beginning(from: &mut blocking::Response, len: u64) -> io::Result<Option<u128>> {
    let mut hash = XxHash3_128::new();
    let mut buffer = vec![0; 64 << 10];
    let mut left = len;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match from.read(&mut buffer[..most])? {
            0 => return Ok(None),
            n => {
                hash.write(&buffer[..n]);
                left -= n as u64;
            }
        }
    }
    Ok(Some(hash.finish_128()))
}

fn range_fits(sent: &str, from: u64, total: Option<u64>) -> bool {
    let Some((range, of)) = sent.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')) else { return false };
    let Some((first, last)) = range.split_once('-') else { return false };
    let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else { return false };
    let of = of.parse::<u64>().ok();
    first == from && last >= first && of.is_none_or(|of| last < of) && (total.is_none() || of == total)
}

fn framing(headers: &HeaderMap) -> Framing {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Framing::Chunked;
    }
    text(headers, CONTENT_LENGTH).and_then(|l| l.parse().ok()).map_or(Framing::UntilClose, Framing::Length)
}

/// What `If-Range` may carry: an ETag that is not weak, else the date of the last change.
fn validator(headers: &HeaderMap) -> Option<String> {
    text(headers, ETAG).filter(|tag| tag.starts_with('"')).or_else(|| text(headers, LAST_MODIFIED))
}

pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether the same request may be answered otherwise a moment later.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
        || error.get_ref().and_then(|e| e.downcast_ref::<reqwest::Error>()).is_some_and(reqwest::Error::is_timeout)
}

/// A certificate that is not trusted now will not be in a minute.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as _),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_begin_where_we_stopped_and_be_of_the_same_file() {
        for (sent, fits) in [
            ("bytes 5-9/10", true),
            ("bytes 5-7/10", true),
            ("bytes 4-9/10", false),
            ("bytes 5-9/11", false),
            ("bytes 5-9/*", false),
            ("bytes 5-10/10", false),
            ("bytes 5-4/10", false),
            ("bytes */10", false),
            ("items 5-9/10", false),
            ("", false),
        ] {
            assert_eq!(range_fits(sent, 5, Some(10)), fits, "{sent}");
        }
        assert!(range_fits("bytes 5-9/*", 5, None));
    }

    #[test]
    fn a_weak_tag_is_no_validator() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, "W/\"1\"".parse().unwrap());
        assert_eq!(validator(&headers), None);
        headers.insert(LAST_MODIFIED, "Fri, 20 Nov 2026 12:00:00 GMT".parse().unwrap());
        assert_eq!(validator(&headers).as_deref(), Some("Fri, 20 Nov 2026 12:00:00 GMT"));
        headers.insert(ETAG, "\"1\"".parse().unwrap());
        assert_eq!(validator(&headers).as_deref(), Some("\"1\""));
    }
}
