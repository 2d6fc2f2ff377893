//! `GET /apis/ironhook.dev/v1alpha1/activity`: one `spec::activity::Activity` a line, live; `?since=all` begins with
//! what is still remembered, and `&follow=false` also ends with it.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use spec::activity::Activity;
use tokio::sync::broadcast::Receiver;
use tokio_stream::wrappers::BroadcastStream;

use super::Api;
use super::reply::Refusal;

#[derive(Debug, Deserialize)]
pub struct Options {
    #[serde(default)]
    since: Option<String>,
    /// `false` ends the stream with what is remembered.
    #[serde(default)]
    follow: Option<bool>,
}

/// The stream. It ends for a reader that lags too far: who comes again reads from the objects what it has missed.
pub async fn activity(State(api): State<Api>, Query(options): Query<Options>) -> Result<Response, Refusal> {
    let (past, live) = api.engine.activity.listen();
    let past = match options.since.as_deref() {
        None | Some("now") => Vec::new(),
        Some("all") => past,
        Some(other) => return Err(Refusal::bad_request(format!("since is {other:?}; it can be \"all\" or \"now\""))),
    };
    let live = unbroken(live);
    let shutdown = api.shutdown.clone();
    let live =
        if options.follow.unwrap_or(true) { live.left_stream() } else { futures_util::stream::empty().right_stream() };
    let lines = futures_util::stream::iter(past).chain(live).map(|activity| Ok::<_, Infallible>(line(&activity)));
    let stream = lines.take_until(async move { shutdown.wait().await });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

/// Up to the first gap.
fn unbroken(live: Receiver<Activity>) -> impl Stream<Item = Activity> + Send + 'static {
    let until_gap = BroadcastStream::new(live).take_while(|next| std::future::ready(next.is_ok()));
    until_gap.filter_map(|next| std::future::ready(next.ok()))
}

fn line(activity: &Activity) -> Bytes {
    // Serialising plain strings and numbers cannot fail.
    let mut text = serde_json::to_string(activity).unwrap_or_default();
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use spec::activity::What;

    use super::*;
    use crate::activity::ActivityLog;

    #[tokio::test]
    async fn a_reader_that_has_missed_something_is_sent_away() {
        let log = ActivityLog::new();
        let ((_, keeps_up), (_, lags)) = (log.listen(), log.listen());
        let tell = |n: usize| log.tell(None, None, What::Script { boots: n.to_string() });
        tell(0);
        let mut keeps_up = std::pin::pin!(unbroken(keeps_up));
        assert!(keeps_up.next().await.is_some());
        (0..10_000).for_each(tell);
        assert_eq!(unbroken(lags).count().await, 0);
    }
}
