//! The end of the machine's time with us: init is asked over its socket; where there is none (a stock image), the
//! field's reboot file asks instead. Called only after the server has acknowledged the action's success.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use spec::handover::{Mode, Request, Response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Init answers before it begins, so this is generous.
const ANSWER: Duration = Duration::from_secs(15);

/// The machine is not going down.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Init is there but cannot be talked to.
    #[error("cannot ask init over {path}")]
    Ask {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Init takes too long.
    #[error("init does not answer over {path} within {ANSWER:?}")]
    Silence {
        /// Its socket.
        path: PathBuf,
    },
    /// Init answers something else.
    #[error("init answers over {path} with something else than a response")]
    Answer {
        /// Its socket.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Init says no.
    #[error("init refuses: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// There is no init of ours, and the reboot file cannot be made either.
    #[error("there is no {socket}, and {path} cannot be made")]
    RebootFile {
        /// Where init would listen.
        socket: PathBuf,
        /// The field's reboot file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl HandoverError {
    /// Whether asking again can help.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::Silence { .. } | Self::RebootFile { .. })
    }
}

/// Who was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Init, which has accepted.
    Init,
    /// Whoever watches the reboot file.
    RebootFile,
}

/// Asks once.
pub async fn ask(socket: &Path, reboot_file: &Path, request: &Request) -> Result<Asked, HandoverError> {
    match UnixStream::connect(socket).await {
        Ok(stream) => tokio::time::timeout(ANSWER, talk(socket, stream, request))
            .await
            .unwrap_or_else(|_| Err(HandoverError::Silence { path: socket.into() })),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            touch(socket, reboot_file, request)
        }
        Err(source) => Err(HandoverError::Ask { path: socket.into(), source }),
    }
}

async fn talk(socket: &Path, stream: UnixStream, request: &Request) -> Result<Asked, HandoverError> {
    let failed = |source| HandoverError::Ask { path: socket.into(), source };
    let mut stream = BufReader::new(stream);
    let mut line = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(failed)?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await.map_err(failed)?;
    let response: Response =
        serde_json::from_str(&answer).map_err(|source| HandoverError::Answer { path: socket.into(), source })?;
    if response.accepted { Ok(Asked::Init) } else { Err(HandoverError::Refused { reason: response.reason }) }
}

fn touch(socket: &Path, reboot_file: &Path, request: &Request) -> Result<Asked, HandoverError> {
    if request.mode != Mode::Reboot {
        tracing::warn!(mode = %request.mode, "without init's socket only a reboot can be asked for, so the machine reboots");
    }
    let failed = |source| HandoverError::RebootFile { socket: socket.into(), path: reboot_file.into(), source };
    if let Some(directory) = reboot_file.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    std::fs::File::create(reboot_file).map_err(failed)?;
    Ok(Asked::RebootFile)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    fn request() -> Request {
        Request { mode: Mode::Reboot, reason: "default/install/os/boot".into() }
    }

    async fn with_init(answer: &'static str) -> (Result<Asked, HandoverError>, String) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("init.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let init = tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            line
        });
        let result = ask(&socket, &dir.path().join("reboot"), &request()).await;
        assert!(!dir.path().join("reboot").exists());
        (result, init.await.unwrap())
    }

    #[tokio::test]
    async fn init_is_asked_in_one_line_and_its_answer_counts() {
        let (result, line) = with_init("{\"accepted\":true}\n").await;
        assert_eq!(result.unwrap(), Asked::Init);
        assert_eq!(line, "{\"mode\":\"reboot\",\"reason\":\"default/install/os/boot\"}\n");
        let (result, _) = with_init("{\"accepted\":false,\"reason\":\"no kernel is loaded\"}\n").await;
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "init refuses: no kernel is loaded");
        assert!(!error.passes());
    }

    #[tokio::test]
    async fn without_init_the_reboot_file_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("worker/reboot");
        assert_eq!(ask(&dir.path().join("none"), &file, &request()).await.unwrap(), Asked::RebootFile);
        assert!(file.is_file());
    }
}
