//! The report of a boot that does not get on: made when a step leaves its failure, kept in `/run` until the server has it.
//! It is sent beside the network service, which is there as long as the machine is; nothing waits for it.

mod collect;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fetch::push::{How, Upload, push};
use fetch::{Error, Options};
use spec::boot::BootFailure;
use spec::cmdline::{Cmdline, GRPC_AUTHORITY, IRONHOOK_SERVER};
use spec::paths::{FAILURES, LEASE, REPORT};

use crate::backoff::Backoff;
use crate::chain;
use crate::console::{Waiting, say};
use crate::lease;

const STEP: &str = "report";
/// Between two looks for failures.
const LOOK: Duration = Duration::from_secs(2);
/// Where our server has its files, when nobody says it.
const PORT: u16 = 7080;

/// Sends reports for as long as the machine runs.
pub fn courier(line: &Cmdline) {
    let mut sent = BTreeSet::new();
    loop {
        let failures = failures();
        let found: BTreeSet<_> = failures.iter().map(|f| (f.step.clone(), f.code.clone())).collect();
        // What is over needs no second report; what comes again does.
        sent.retain(|old| found.contains(old));
        if !found.is_subset(&sent) {
            sent.clone_from(&found);
            deliver(line, &failures);
        }
        thread::sleep(LOOK);
    }
}

/// What the steps have left.
fn failures() -> Vec<BootFailure> {
    let Ok(entries) = fs::read_dir(FAILURES) else { return Vec::new() };
    let notes =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut failures: Vec<BootFailure> =
        notes.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect();
    failures.sort_by_key(|failure| failure.since_ms);
    failures
}

/// Makes the report and gets rid of it, if it can be.
fn deliver(line: &Cmdline, failures: &[BootFailure]) {
    if let Err(error) = spool(line, failures) {
        return say(format_args!("{STEP}: cannot write {REPORT}: {error}"));
    }
    let Some(base) = server(line) else {
        return say(format_args!("{STEP}: is in {REPORT}; there is no server to send it to (ironhook.server)"));
    };
    let mut waiting = Waiting::new(STEP, format!("{base} to take it"));
    let mut backoff = Backoff::default();
    // Made before the network was there, it says nothing of it.
    let mut early = !Path::new(LEASE).exists();
    loop {
        if early && Path::new(LEASE).exists() {
            early = false;
            if let Err(error) = spool(line, failures) {
                say(format_args!("{STEP}: {REPORT} lacks the lease: {error}"));
            }
        }
        match send(&base) {
            Ok(Some(url)) => {
                // The server has it.
                let _ = fs::remove_file(REPORT);
                return say(format_args!("{STEP}: sent to {url}; `ironhook report` shows it"));
            }
            Ok(None) => waiting.still("there is no network"),
            Err(SendError::Push(Error::Status { url, status })) if status < 500 => {
                return say(format_args!("{STEP}: {url} answered {status}, so it stays in {REPORT}"));
            }
            Err(error) => waiting.still(&chain(&error)),
        }
        thread::sleep(backoff.next());
    }
}

/// It is not at the server.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Lease(#[from] lease::LeaseError),
    #[error("cannot read {REPORT}")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Push(Error),
}

/// Where it went; none without a network.
fn send(base: &str) -> Result<Option<String>, SendError> {
    let Some(lease) = lease::read()? else { return Ok(None) };
    let url = format!("{base}/report/{}", lease.mac);
    let bytes = fs::read(REPORT).map_err(SendError::Read)?;
    let ca = Path::new(spec::paths::SITE_CA);
    let options =
        Options { ca_file: ca.exists().then(|| ca.to_owned()), patience: Duration::ZERO, ..Options::default() };
    let upload = Upload {
        how: How::Put,
        content_type: "application/gzip".into(),
        length: Some(bytes.len() as u64),
        body: Box::new(io::Cursor::new(bytes)),
    };
    push(&url, &options, upload, &mut || {}).map_err(SendError::Push)?;
    Ok(Some(url))
}

/// The base of the server's files.
fn server(line: &Cmdline) -> Option<String> {
    if let Some(base) = line.get(&IRONHOOK_SERVER) {
        return Some(base.trim_end_matches('/').to_owned());
    }
    let (host, _) = line.get(&GRPC_AUTHORITY)?.rsplit_once(':')?;
    Some(format!("http://{host}:{PORT}"))
}

fn spool(line: &Cmdline, failures: &[BootFailure]) -> io::Result<()> {
    let new = format!("{REPORT}.new");
    fs::write(&new, collect::bundle(line, failures)?)?;
    fs::rename(new, REPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_go_where_the_files_are() {
        let at = |text: &str| server(&Cmdline::parse(text));
        assert_eq!(at("grpc_authority=10.0.0.1:42113").as_deref(), Some("http://10.0.0.1:7080"));
        assert_eq!(at("ironhook.server=http://a:1/ grpc_authority=b:2").as_deref(), Some("http://a:1"));
        assert_eq!(at("quiet"), None);
    }
}
