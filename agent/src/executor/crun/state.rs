//! The directory of an action that crun runs, and how agent and shim read each other there. The shim holds the lock as
//! long as it lives, so whoever gets it knows that there is none; its first act is to say that it has begun, its last how
//! it ended.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How an action ended, as the shim has seen it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The exit status of its first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// The signal that ended it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it was never started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub start_error: String,
    /// The kernel ended a process of it for want of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Milliseconds since boot.
    pub ended_ms: u64,
}

/// What is known of an action that has a directory.
#[derive(Debug)]
pub enum Found {
    /// Nothing was started. The lock is for the shim to be.
    New(File),
    /// A shim looks after it.
    Runs,
    /// It is over.
    Ended(Record),
    /// It had begun, and its shim is gone without a word.
    Lost,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Of this path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path: the OCI bundle.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Standard output and error of the action.
    pub fn logs(&self) -> [PathBuf; 2] {
        [self.0.join("stdout"), self.0.join("stderr")]
    }

    /// What crun complains about.
    pub fn crun_log(&self) -> PathBuf {
        self.0.join("crun.log")
    }

    /// Layers of its root file system: the image's, and its own.
    pub fn overlay(&self) -> PathBuf {
        self.0.join("overlay.json")
    }

    /// Looks, without waiting.
    pub fn look(&self) -> io::Result<Found> {
        let lock = File::options().create(true).append(true).open(self.0.join("lock"))?;
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => return Ok(Found::Runs),
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        if let Some(record) = self.record()? {
            return Ok(Found::Ended(record));
        }
        Ok(if self.0.join("begun").exists() { Found::Lost } else { Found::New(lock) })
    }

    /// Waits until no shim is there any more. Blocking.
    pub fn wait(&self) -> io::Result<()> {
        File::open(self.0.join("lock"))?.lock_shared()
    }

    /// Says that the action has begun.
    pub fn begin(&self) -> io::Result<()> {
        File::create_new(self.0.join("begun")).map(|_| ())
    }

    /// Says how it ended.
    pub fn end(&self, record: &Record) -> io::Result<()> {
        let fresh = self.0.join("exit.new");
        fs::write(&fresh, serde_json::to_vec(record)?)?;
        fs::rename(fresh, self.0.join("exit.json"))
    }

    fn record(&self) -> io::Result<Option<Record>> {
        match fs::read(self.0.join("exit.json")) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_tells_in_every_state_what_is_to_be_done() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path().to_owned());
        let Found::New(lock) = place.look().unwrap() else { panic!() };
        assert!(matches!(place.look().unwrap(), Found::Runs));
        place.begin().unwrap();
        drop(lock);
        assert!(matches!(place.look().unwrap(), Found::Lost));
        let record = Record { status: Some(7), ended_ms: 1, ..Record::default() };
        place.end(&record).unwrap();
        assert!(matches!(place.look().unwrap(), Found::Ended(found) if found == record));
        assert!(place.begin().is_err());
    }
}
