//! A response with bytes of known length, whole or in part, and the report of how far it came.
//! Never chunked: some loaders read only up to a Content-Length.

use std::io::{self, SeekFrom};
use std::time::{Instant, SystemTime};

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use spec::Mac;
use spec::activity::What;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

use super::range::{Part, part};
use crate::Sink;

const CHUNK: u64 = 256 << 10;

/// What is served.
pub(super) struct Content<R> {
    pub reader: R,
    pub total: u64,
    /// In quotes. Names this very content.
    pub etag: Option<String>,
    pub modified: Option<SystemTime>,
}

/// Who is sent what, for the report.
pub(super) struct Origin {
    pub sink: Sink,
    pub mac: Option<Mac>,
    pub machine: Option<String>,
    pub path: String,
}

/// Tells, when it is dropped, how much was sent. Bytes count when they are handed to the connection.
struct Report {
    origin: Origin,
    sent: u64,
    length: u64,
    started: Instant,
}

impl Drop for Report {
    fn drop(&mut self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (bytes, total) = (self.sent, self.length);
        let Origin { sink, mac, machine, path } = &mut self.origin;
        if bytes < total {
            tracing::warn!(mac = mac.map(tracing::field::display), machine, path, bytes, total, ms, "HTTP: broke off");
        } else {
            tracing::info!(mac = mac.map(tracing::field::display), machine, path, bytes, ms, "HTTP: sent");
        }
        let what = What::File { service: "http".into(), path: std::mem::take(path), bytes, total, ms };
        sink.emit(*mac, machine.take(), what);
    }
}

/// The response. What its body carries is reported when the body ends, however it ends.
pub(super) async fn respond<R>(
    method: &Method,
    headers: &HeaderMap,
    mut content: Content<R>,
    origin: Origin,
) -> io::Result<Response>
where
    R: AsyncRead + AsyncSeek + Unpin + Send + 'static,
{
    let total = content.total;
    let modified = content.modified.and_then(http_date);
    let validators: Vec<&str> = [&content.etag, &modified].into_iter().flatten().map(String::as_str).collect();
    let part = part(headers, total, &validators);
    let (status, start, length) = match part {
        Part::Whole => (StatusCode::OK, 0, total),
        Part::Some { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
        Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut response = Response::builder()
        .status(status)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, length)
        .header(CONTENT_TYPE, "application/octet-stream");
    match part {
        Part::Some { .. } => {
            response = response.header(CONTENT_RANGE, format!("bytes {start}-{}/{total}", start + length - 1));
        }
        Part::Unsatisfiable => response = response.header(CONTENT_RANGE, format!("bytes */{total}")),
        Part::Whole => {}
    }
    for (name, value) in [(ETAG, &content.etag), (LAST_MODIFIED, &modified)] {
        if let Some(value) = value {
            response = response.header(name, value);
        }
    }
    let body = if method == Method::HEAD || part == Part::Unsatisfiable {
        Body::empty()
    } else {
        if start > 0 {
            content.reader.seek(SeekFrom::Start(start)).await?;
        }
        body(content.reader, Report { origin, sent: 0, length, started: Instant::now() })
    };
    Ok(response.body(body).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot make a response");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }))
}

fn body<R: AsyncRead + Unpin + Send + 'static>(reader: R, report: Report) -> Body {
    Body::from_stream(stream::try_unfold((reader, report), |(mut reader, mut report)| async move {
        let left = report.length - report.sent;
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = Vec::with_capacity(left.min(CHUNK) as usize);
        if (&mut reader).take(left.min(CHUNK)).read_to_end(&mut chunk).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent"));
        }
        report.sent += chunk.len() as u64;
        Ok(Some((Bytes::from(chunk), (reader, report))))
    }))
}

/// As HTTP writes dates: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(time: SystemTime) -> Option<String> {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::try_from(time).ok()?).ok()
}
