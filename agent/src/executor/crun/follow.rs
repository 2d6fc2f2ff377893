//! What a container of crun writes: two streams, each in its own order, sent on while it runs and read to their end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::output::Reader;
use crate::executor::logs::{Live, Log, Stream};

/// Between two looks; the end is told, not looked for.
const LOOK: Duration = Duration::from_millis(100);
/// For what is left after the end: a process that outlives its container may write for ever.
const LAST: Duration = Duration::from_secs(5);

/// Sends both streams on until `ended`, and to their end then; gives the last 64 KiB.
pub async fn log(paths: [PathBuf; 2], live: &Live<'_>, mut ended: watch::Receiver<bool>) -> String {
    let mut log = Log::default();
    let mut readers = paths.map(Reader::new);
    let mut over_since = None;
    loop {
        let over = *ended.borrow_and_update();
        let mut grown = false;
        for (reader, stream) in readers.iter_mut().zip([Stream::Out, Stream::Error]) {
            let bytes = reader.read().unwrap_or_default();
            grown |= !bytes.is_empty();
            live.show(&log.push(stream, &bytes));
        }
        if over && (!grown || over_since.get_or_insert_with(Instant::now).elapsed() > LAST) {
            break;
        }
        if grown {
            // What is sent on needs its turn.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            changed = ended.changed() => if changed.is_err() { break },
        }
    }
    live.show(&log.end());
    log.tail()
}
