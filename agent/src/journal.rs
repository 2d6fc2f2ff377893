//! The agent's state on disk, so that a restarted agent goes on: one JSON file, replaced by rename.
//! It may hold secrets of actions (their environment), so nobody else may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::decide::State;
use crate::text::chain;
use crate::timeline;

/// The state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// No place for it.
    #[error("cannot make the state directory {path}")]
    MakeDirectory {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Reading failed.
    #[error("cannot read the state {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not ours, or of another version.
    #[error("the state {path} is damaged; remove it to start anew, after looking for a running action")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Writing failed.
    #[error("cannot write the state {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Where the state is kept.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    boot_id: String,
}

#[derive(Serialize, Deserialize)]
struct Entry<S> {
    boot_id: String,
    state: S,
}

impl Journal {
    /// Makes `<run-dir>/agent`, readable by nobody else.
    pub fn open(run_dir: &Path) -> Result<Self, JournalError> {
        let path = run_dir.join("agent");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| JournalError::MakeDirectory { path: path.clone(), source })?;
        Ok(Self { path: path.join("state.json"), boot_id: timeline::boot_id() })
    }

    /// The state of an earlier life, if there is one. Of an earlier boot only a pending report still means anything.
    pub fn load(&self) -> Result<Option<State>, JournalError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Read { path: self.path.clone(), source }),
        };
        let entry: Entry<State> =
            serde_json::from_slice(&text).map_err(|source| JournalError::Parse { path: self.path.clone(), source })?;
        let same_boot = entry.boot_id == self.boot_id;
        Ok(match entry.state {
            state if same_boot => Some(state),
            state @ State::Reporting(_) => Some(state),
            // What was to be run because of the end has gone with the boot; how it ended has not.
            State::Reacting { ended, .. } => Some(State::Reporting(ended)),
            _ => None,
        })
    }

    /// Keeps the state. Nothing is started from a state that is not on disk, so one before a start is tried again for
    /// ever, at most `cap` apart; a state after it is not worth holding back a report.
    pub async fn keep(&self, state: &State, cap: Duration) {
        let mut backoff = Backoff::new(cap);
        while let Err(error) = self.save(state) {
            if !matches!(state, State::Claimed(_) | State::Running { .. } | State::Reacting { .. }) {
                tracing::error!("a restart now could lose a report: {}", chain(&error));
                return;
            }
            tracing::error!("the action is not started before its state is on disk, trying again: {}", chain(&error));
            backoff.wait().await;
        }
    }

    /// Keeps the state; when this returns, a killed agent will find it.
    pub fn save(&self, state: &State) -> Result<(), JournalError> {
        let failed = |source| JournalError::Write { path: self.path.clone(), source };
        let entry = Entry { boot_id: self.boot_id.clone(), state };
        let text = serde_json::to_vec(&entry).map_err(|error| failed(error.into()))?;
        let fresh = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&fresh, &self.path).map_err(failed)?;
        // The rename itself has to reach the disk where the directory is on one.
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_is_read_back_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.load().unwrap(), None);
        journal.save(&State::default()).unwrap();
        assert_eq!(journal.load().unwrap(), Some(State::default()));
        assert_eq!(fs::metadata(&journal.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_state_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        fs::write(&journal.path, "{\"boot").unwrap();
        let error = journal.load().unwrap_err().to_string();
        assert!(error.contains("agent/state.json"), "{error}");
    }

    #[tokio::test]
    async fn an_action_waits_for_its_state_to_be_on_disk_and_a_report_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let job = crate::job::tests::job();
        let obstacle = journal.path.with_extension("new");
        fs::create_dir(&obstacle).unwrap();
        let cap = Duration::from_millis(5);
        let within = |state| tokio::time::timeout(Duration::from_millis(100), journal.keep(state, cap));
        let claimed = State::Claimed(job.clone());
        let running = State::Running { job, container: None, resumed: false };
        assert!(within(&claimed).await.is_err() && within(&running).await.is_err());
        within(&State::default()).await.unwrap();
        let wait = journal.keep(&claimed, cap);
        let clear = async { fs::remove_dir(&obstacle).unwrap() };
        tokio::join!(wait, clear);
        assert_eq!(journal.load().unwrap(), Some(claimed));
    }

    #[test]
    fn nothing_but_a_report_outlives_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.save(&State::default()).unwrap();
        journal.boot_id = "another".into();
        assert_eq!(journal.load().unwrap(), None);
    }
}
