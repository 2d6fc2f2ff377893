//! The body of a response as one stream of bytes over as many connections as it takes. Takes the rest of a broken
//! transfer only where the server proves that it is the rest of the same file (RFC 9110 §13.1.5, §14).

use std::io::{self, Read};
use std::thread;
use std::time::Instant;

use reqwest::StatusCode;
use reqwest::blocking;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use tracing::warn;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::{Error, Why};
use crate::{Framing, Response};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of a file, in order, each once.
#[derive(Debug)]
pub struct Body {
    client: Client,
    response: blocking::Response,
    framing: Framing,
    validator: Option<String>,
    got: u64,
    backoff: Backoff,
}

/// How a connection ended before the body did.
struct Interruption {
    silent: bool,
    cause: Option<Cause>,
}

pub(crate) fn open(client: Client) -> Result<Response, Error> {
    let response = answer(&client, &mut Backoff::new(client.options.patience))?;
    match response.status() {
        StatusCode::OK => Ok(start(client, response)),
        status => Err(Error::Status { url: client.shown(), status: status.as_u16() }),
    }
}

/// The body of an answer that is at hand.
pub(crate) fn start(client: Client, response: blocking::Response) -> Response {
    let backoff = Backoff::new(client.options.patience);
    let framing = framing(response.headers());
    let validator = validator(response.headers());
    let reader = Body { client, response, framing, validator, got: 0, backoff };
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
            let interruption = match self.response.read(buf) {
                Ok(0) if matches!(self.framing, Framing::Length(_)) => Interruption { silent: false, cause: None },
                Ok(n) => {
                    self.got += n as u64;
                    if n > 0 {
                        self.backoff.progress();
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Interruption { silent: is_timeout(&e), cause: Some(e.into()) },
            };
            self.resume(interruption)?;
        }
    }
}

impl Body {
    fn resume(&mut self, mut interruption: Interruption) -> Result<(), Error> {
        if self.validator.is_none() && self.got > 0 {
            return Err(self.ended(interruption, Why::NoValidator));
        }
        loop {
            let Some(wait) = self.backoff.next(Instant::now()) else {
                return Err(self.ended(interruption, Why::Patience));
            };
            warn!(
                "download of {} broke after {} bytes; resuming in {:.1} s",
                self.client.shown(),
                self.got,
                wait.as_secs_f32()
            );
            thread::sleep(wait);
            let response = match self.rest().send() {
                Ok(response) => response,
                Err(e) => {
                    interruption = Interruption { silent: e.is_timeout(), cause: Some(e.without_url().into()) };
                    continue;
                }
            };
            match response.status() {
                StatusCode::PARTIAL_CONTENT if self.got > 0 => self.check_range(response.headers())?,
                StatusCode::OK if self.got > 0 => return Err(self.ended(interruption, Why::SentWhole)),
                StatusCode::OK if framing(response.headers()) == self.framing => {
                    self.validator = validator(response.headers());
                }
                StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(self.ended(interruption, Why::Changed));
                }
                status if may_pass(status) => continue,
                status => return Err(Error::Status { url: self.client.shown(), status: status.as_u16() }),
            }
            self.response = response;
            return Ok(());
        }
    }

    fn rest(&self) -> blocking::RequestBuilder {
        match &self.validator {
            Some(validator) if self.got > 0 => {
                self.client.get().header(RANGE, format!("bytes={}-", self.got)).header(IF_RANGE, validator)
            }
            _ => self.client.get(),
        }
    }

    /// `bytes <first>-<last>/<total>`: it must begin where we stopped and be of a file as long as ours.
    fn check_range(&self, headers: &HeaderMap) -> Result<(), Error> {
        let sent = text(headers, CONTENT_RANGE).unwrap_or_default();
        let total = match self.framing {
            Framing::Length(total) => Some(total),
            Framing::Chunked | Framing::UntilClose => None,
        };
        if range_fits(&sent, self.got, total) {
            Ok(())
        } else {
            Err(Error::Range { url: self.client.shown(), from: self.got, sent })
        }
    }

    fn ended(&self, interruption: Interruption, why: Why) -> Error {
        let (url, got, source) = (self.client.shown(), self.got, interruption.cause);
        match self.framing {
            _ if interruption.silent => Error::Stalled { url, silence: self.client.options.stall, got, why },
            Framing::Length(expected) => Error::Truncated { url, expected, got, why, source },
            Framing::Chunked | Framing::UntilClose => Error::Broken { url, got, why, source },
        }
    }
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

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
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

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
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
