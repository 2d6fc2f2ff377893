//! What a container of crun writes: two files that grow, each in its own order, shown while it runs and read to their end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::executor::logs::{Log, Printer, Stream};
use crate::progress::Reporter;

/// Between two looks; the end is told, not looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Read at once.
const PIECE: u64 = 256 << 10;

/// Shows both streams until `ended`, and to their end then; gives the last 64 KiB.
pub async fn log(
    paths: [PathBuf; 2],
    action: &str,
    printer: &Printer,
    progress: &Reporter,
    mut ended: watch::Receiver<bool>,
) -> String {
    let mut log = Log::new(action);
    let mut offsets = [0; 2];
    loop {
        let over = *ended.borrow_and_update();
        let mut grown = false;
        for (i, stream) in [Stream::Out, Stream::Error].into_iter().enumerate() {
            let bytes = read(&paths[i], offsets[i]).unwrap_or_default();
            offsets[i] += bytes.len() as u64;
            grown |= !bytes.is_empty();
            show(log.push(stream, &bytes), printer, progress).await;
        }
        match (over, grown) {
            (_, true) => {}
            (true, false) => break,
            (false, false) => {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    changed = ended.changed() => if changed.is_err() { break },
                }
            }
        }
    }
    show(log.end(), printer, progress).await;
    log.tail()
}

async fn show(lines: Vec<String>, printer: &Printer, progress: &Reporter) {
    progress.log(&lines);
    printer.print(lines).await;
}

fn read(path: &PathBuf, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(PIECE).read_to_end(&mut bytes)?;
    Ok(bytes)
}
