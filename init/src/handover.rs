//! How the end of the machine is asked for: over the socket of [`spec::handover`], or by a file that an action
//! leaves. Here it is heard and answered; carried out it is in `shutdown`.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use spec::handover::{Mode, Request, Response};

use crate::console::Console;

/// `/worker/reboot`, as it is called here.
const REBOOT_FILE: &str = "/run/worker/reboot";
const WORKER: &str = "/run/worker";
const REBOOT: &str = "reboot";
const POLL: Duration = Duration::from_secs(1);
/// Who leaves the file has not been heard yet: its worker gets this long to report, and to ask over the socket.
const REBOOT_DELAY: Duration = Duration::from_secs(10);
/// A request is one short line.
const MAX_REQUEST: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Nobody could ask for the end.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The socket.
    #[error("listen on {}", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread.
    #[error("start a thread that waits for the end")]
    Thread(#[source] io::Error),
}

/// Listens; each accepted request goes to `tell`, the first counts.
pub fn listen(path: &Path, tell: Sender<Request>, console: Console) -> Result<(), HandoverError> {
    let failed = |source| HandoverError::Listen { path: path.to_owned(), source };
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    let serve = move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            if let Err(error) = stream.and_then(|stream| answer(&stream, sys::power::kexec_loaded(), &tell)) {
                console.say(&format!("warning: a request on {} was not answered: {error}", spec::paths::INIT_SOCKET));
            }
        }
    };
    thread::Builder::new().name("handover".to_owned()).spawn(serve).map_err(HandoverError::Thread)?;
    Ok(())
}

/// Looks for the file that asks for a reboot.
pub fn watch_reboot_file(tell: Sender<Request>, console: Console) -> Result<(), HandoverError> {
    let watch = move || {
        // Where the kernel has no watch left to give, it is looked for.
        if sys::watch::wait_for(Path::new(WORKER), REBOOT).is_err() {
            while !Path::new(REBOOT_FILE).exists() {
                thread::sleep(POLL);
            }
        }
        console.say(&format!("reboot in {} s, asked for by the file {REBOOT_FILE}", REBOOT_DELAY.as_secs()));
        thread::sleep(REBOOT_DELAY);
        // Without a receiver the machine is going down already.
        let _ = tell.send(Request { mode: Mode::Reboot, reason: format!("the file {REBOOT_FILE}") });
    };
    thread::Builder::new().name("reboot file".to_owned()).spawn(watch).map_err(HandoverError::Thread)?;
    Ok(())
}

/// One request, one answer; the answer leaves before the machine begins to go down.
fn answer(mut stream: &UnixStream, kexec_loaded: bool, tell: &Sender<Request>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_REQUEST)).read_line(&mut line)?;
    let decided = decide(&line, kexec_loaded);
    let response = match &decided {
        Ok(_) => Response { accepted: true, reason: String::new() },
        Err(reason) => Response { accepted: false, reason: reason.clone() },
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    // An asker that does not listen has asked all the same.
    let written = stream.write_all(text.as_bytes());
    if let Ok(request) = decided {
        // Without a receiver the machine is going down already.
        let _ = tell.send(request);
    }
    written
}

fn decide(line: &str, kexec_loaded: bool) -> Result<Request, String> {
    let request: Request = serde_json::from_str(line).map_err(|error| format!("not a request: {error}"))?;
    if request.mode == Mode::Kexec && !kexec_loaded {
        return Err("no kernel is loaded to go on into: load one first, or ask for reboot".to_owned());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn ask(line: &str, kexec_loaded: bool) -> (Response, Option<Request>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, told) = mpsc::channel();
        (&theirs).write_all(line.as_bytes()).unwrap();
        answer(&ours, kexec_loaded, &tell).unwrap();
        let mut text = String::new();
        BufReader::new(&theirs).read_line(&mut text).unwrap();
        (serde_json::from_str(&text).unwrap(), told.try_recv().ok())
    }

    #[test]
    fn a_request_is_accepted_and_passed_on() {
        let (response, request) = ask("{\"mode\":\"reboot\",\"reason\":\"workflow done\"}\n", false);
        assert!(response.accepted);
        assert_eq!(request.unwrap(), Request { mode: Mode::Reboot, reason: "workflow done".into() });
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_reason() {
        for (line, kexec_loaded, word) in [
            ("{\"mode\":\"kexec\",\"reason\":\"\"}\n", false, "no kernel is loaded"),
            ("{\"mode\":\"dance\",\"reason\":\"\"}\n", true, "not a request"),
            ("reboot\n", true, "not a request"),
        ] {
            let (response, request) = ask(line, kexec_loaded);
            assert!(!response.accepted && response.reason.contains(word), "{response:?}");
            assert_eq!(request, None);
        }
        assert!(ask("{\"mode\":\"kexec\",\"reason\":\"\"}\n", true).0.accepted);
    }
}
