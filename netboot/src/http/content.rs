//! A response with bytes of known length, whole or in part, and the report of how far it came.
//! Never chunked: some loaders read only up to a Content-Length.

use std::fs::File;
use std::io;
use std::iter;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use axum::http::{Method, StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use spec::Mac;
use spec::activity::What;

use super::connection::Files;
use super::gate::Pass;
use super::range::{Part, part};
use crate::Sink;
use crate::counters::Counters;
use crate::iso::Image;

const CHUNK: u64 = 256 << 10;

/// Where bytes come from.
#[derive(Clone)]
pub(super) enum Reader {
    Memory(Bytes),
    File(Arc<File>),
    Image(Arc<Image>),
}

impl Reader {
    /// Exactly this part, or an error.
    async fn read(&self, from: u64, length: u64) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(from as usize..(from + length) as usize)),
            Self::File(file) => {
                let file = Arc::clone(file);
                blocking(move || {
                    let mut chunk = vec![0; length as usize];
                    file.read_exact_at(&mut chunk, from)?;
                    Ok(chunk)
                })
                .await
            }
            Self::Image(image) => {
                let image = Arc::clone(image);
                blocking(move || image.read(from, length)).await
            }
        }
    }
}

async fn blocking(read: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static) -> io::Result<Bytes> {
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?.map(Bytes::from)
}

/// What is served.
pub(super) struct Content {
    pub reader: Reader,
    pub total: u64,
    /// In quotes. Names this very content.
    pub etag: Option<String>,
    pub modified: Option<SystemTime>,
    pub kind: &'static str,
}

/// Who is sent what, for the report.
pub(super) struct Origin {
    pub sink: Sink,
    pub counters: Arc<Counters>,
    pub mac: Option<Mac>,
    pub machine: Option<String>,
    pub path: String,
    /// Held while bytes flow.
    pub _pass: Option<Pass>,
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
        let Origin { sink, counters, mac, machine, path, _pass: _ } = &mut self.origin;
        counters.http_bytes.many(bytes);
        if bytes < total {
            counters.http_broken.one();
            tracing::warn!(mac = mac.map(tracing::field::display), machine, path, bytes, total, ms, "HTTP: broke off");
        } else {
            counters.http_files.one();
            tracing::info!(mac = mac.map(tracing::field::display), machine, path, bytes, ms, "HTTP: sent");
        }
        let what = What::File { service: "http".into(), path: std::mem::take(path), bytes, total, ms };
        sink.emit(*mac, machine.take(), what);
    }
}

/// The response. What its body carries is reported when the body ends, however it ends.
pub(super) fn respond(request: &Parts, content: Content, origin: Origin) -> Response {
    let total = content.total;
    let modified = content.modified.and_then(http_date);
    let validators: Vec<&str> = [&content.etag, &modified].into_iter().flatten().map(String::as_str).collect();
    let part = part(&request.headers, total, &validators);
    let (status, start, length) = match part {
        Part::Whole => (StatusCode::OK, 0, total),
        Part::Some { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
        Part::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut response = Response::builder()
        .status(status)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, length)
        .header(CONTENT_TYPE, content.kind);
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
    let body = if request.method == Method::HEAD || part == Part::Unsatisfiable {
        Body::empty()
    } else {
        let report = Report { origin, sent: 0, length, started: Instant::now() };
        match (content.reader, request.extensions.get::<Files>()) {
            (Reader::File(file), Some(files)) => handed_over(file, files.clone(), start, report),
            (reader, _) => body(reader, start, report),
        }
    };
    response.body(body).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot make a response");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

fn body(reader: Reader, start: u64, report: Report) -> Body {
    Body::from_stream(stream::try_unfold((reader, report), move |(reader, mut report)| async move {
        let left = report.length - report.sent;
        if left == 0 {
            return Ok::<_, io::Error>(None);
        }
        let chunk = reader.read(start + report.sent, left.min(CHUNK)).await?;
        report.sent += chunk.len() as u64;
        Ok(Some((chunk, (reader, report))))
    }))
}

/// The connection sends the file itself.
fn handed_over(file: Arc<File>, files: Files, start: u64, mut report: Report) -> Body {
    Body::from_stream(stream::iter(iter::from_fn(move || {
        // All of it moves in here, to tell at the end of the body.
        let report = &mut report;
        let left = report.length - report.sent;
        let piece = (left > 0).then(|| files.stand_in(&file, start + report.sent, left))?;
        report.sent += piece.len() as u64;
        Some(Ok::<_, io::Error>(piece))
    })))
}

/// As HTTP writes dates: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(time: SystemTime) -> Option<String> {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::try_from(time).ok()?).ok()
}

/// By the end of a name, as UEFI's HTTP boot wants to hear it.
pub(super) fn kind_of(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("efi") => "application/efi",
        Some("iso") => "application/vnd.efi-iso",
        Some("img") => "application/vnd.efi-img",
        Some("ipxe" | "cfg" | "conf" | "txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
