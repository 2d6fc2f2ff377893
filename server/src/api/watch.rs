//! Events of objects as they happen, from a revision on: read from the store's history, so that none is missed
//! however slow the reader is.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::reply::Refusal;
use crate::apply::decode;
use crate::store::{Happened, Store, StoreError};

/// Events read at once.
const PAGE: usize = 100;
/// Lines that wait for a slow reader.
const AHEAD: usize = 16;

/// A stream of `{"type","object"}` lines; without a revision it begins with everything there is.
pub fn watch(api: &Api, prefix: String, from: Option<u64>) -> Result<Response, Refusal> {
    let store = api.engine.store.clone();
    let mut past = Vec::new();
    let from = match from {
        Some(from) => from,
        None => {
            let listing = store.list(&prefix)?;
            for entry in listing.entries {
                past.push(line("ADDED", &decode(entry)?.value));
            }
            listing.revision
        }
    };
    // A revision that is too old is an answer of its own, not the end of a stream.
    store.events(from, 0)?;
    let shutdown = api.shutdown.clone();
    let (sender, receiver) = mpsc::channel(AHEAD);
    // Ends when the reader is gone or the server is; the reader's connection is its owner.
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&*store, &prefix, from, &sender) => {}
            () = sender.closed() => {}
            () = shutdown.wait() => {}
        }
    });
    let stream = tokio_stream::iter(past).chain(ReceiverStream::new(receiver)).map(Ok::<_, Infallible>);
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response())
}

async fn follow(store: &dyn Store, prefix: &str, from: u64, sender: &mpsc::Sender<Bytes>) {
    let mut revision = store.revision();
    let mut seen = from;
    loop {
        revision.mark_unchanged();
        match page(store, prefix, seen) {
            Ok((_, after)) if after == seen => {
                if revision.changed().await.is_err() {
                    return;
                }
            }
            Ok((lines, after)) => {
                seen = after;
                for line in lines {
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                drop(sender.send(line("ERROR", &Refusal::from(error).status())).await);
                return;
            }
        }
    }
}

/// The next lines, and the revision they end with.
fn page(store: &dyn Store, prefix: &str, seen: u64) -> Result<(Vec<Bytes>, u64), StoreError> {
    let events = store.events(seen, PAGE)?;
    let after = events.last().map_or(seen, |event| event.entry.revision);
    let mut lines = Vec::new();
    for event in events.into_iter().filter(|event| event.entry.key.path().starts_with(prefix)) {
        let kind = match event.happened {
            Happened::Added => "ADDED",
            Happened::Modified => "MODIFIED",
            Happened::Deleted => "DELETED",
        };
        lines.push(line(kind, &decode(event.entry)?.value));
    }
    Ok((lines, after))
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({ "type": kind, "object": object }).to_string();
    text.push('\n');
    text.into()
}
