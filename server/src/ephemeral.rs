//! What workers of 0.6 to 0.8 keep with a workflow from one action to the next: JSON of at most 10 MiB, three versions
//! of it (wire reference §4.3). One file a version beneath the state directory; durable when `add` returns.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The largest data of a workflow.
const LARGEST: usize = 10 << 20;
/// Versions that are kept.
const VERSIONS: i32 = 3;

/// Data as a worker gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Who wrote it, when and after which action; JSON.
    pub metadata: Vec<u8>,
    /// JSON.
    pub data: Vec<u8>,
}

/// Data cannot be kept or given.
#[derive(Debug, thiserror::Error)]
pub enum EphemeralError {
    /// Too much of it.
    #[error("{0} bytes are more than a workflow may keep ({LARGEST})")]
    Large(usize),
    /// The workflow cannot have files.
    #[error("the workflow has no uid that could name a directory")]
    Uid,
    /// A file.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// With which one.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The data of all workflows.
#[derive(Debug)]
pub struct Ephemeral {
    dir: PathBuf,
    /// Versions are counted one at a time.
    adding: Mutex<()>,
}

impl Ephemeral {
    /// Beneath the state directory.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("data"), adding: Mutex::default() }
    }

    /// A version, or the latest one for 0, with its number.
    pub fn get(&self, uid: &str, version: i32) -> Result<Option<(i32, Version)>, EphemeralError> {
        let dir = self.of(uid)?;
        let wanted = if version == 0 { latest(&dir)? } else { Some(version) };
        let Some(wanted) = wanted else { return Ok(None) };
        let path = dir.join(wanted.to_string());
        let failed = |source| EphemeralError::File { action: "read", path: path.clone(), source };
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map_err(failed)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let Some((length, rest)) = bytes.split_at_checked(8) else {
            return Err(failed(ErrorKind::UnexpectedEof.into()));
        };
        let length = length.iter().fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
        let Some((metadata, data)) = rest.split_at_checked(length) else {
            return Err(failed(ErrorKind::UnexpectedEof.into()));
        };
        Ok(Some((wanted, Version { metadata: metadata.to_vec(), data: data.to_vec() })))
    }

    /// The next version.
    pub fn add(&self, uid: &str, version: &Version) -> Result<i32, EphemeralError> {
        let size = version.data.len() + version.metadata.len();
        if size > LARGEST {
            return Err(EphemeralError::Large(size));
        }
        let dir = self.of(uid)?;
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&dir).map_err(|source| EphemeralError::File {
            action: "make",
            path: dir.clone(),
            source,
        })?;
        let next = latest(&dir)?.unwrap_or(0) + 1;
        let (fresh, path) = (dir.join("new"), dir.join(next.to_string()));
        let written = File::create(&fresh).and_then(|mut file| {
            file.write_all(&(version.metadata.len() as u64).to_be_bytes())?;
            file.write_all(&version.metadata)?;
            file.write_all(&version.data)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            File::open(&dir)?.sync_all()
        });
        written.map_err(|source| EphemeralError::File { action: "write", path, source })?;
        let _ = fs::remove_file(dir.join((next - VERSIONS).to_string()));
        Ok(next)
    }

    /// The workflow is gone, and its data with it.
    pub fn forget(&self, uid: &str) {
        if let Ok(dir) = self.of(uid) {
            let _ = fs::remove_dir_all(dir);
        }
    }

    fn of(&self, uid: &str) -> Result<PathBuf, EphemeralError> {
        let plain = !uid.is_empty() && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if plain { Ok(self.dir.join(uid)) } else { Err(EphemeralError::Uid) }
    }
}

fn latest(dir: &Path) -> Result<Option<i32>, EphemeralError> {
    let failed = |source| EphemeralError::File { action: "list", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut newest = None;
    for entry in entries {
        let number = entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        newest = newest.max(number);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_versions_are_kept_and_survive_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let version = |n: u8| Version { metadata: vec![n], data: format!("{{\"n\":{n}}}").into() };
        for n in 1..=5 {
            assert_eq!(Ephemeral::new(state.path()).add("0a-1", &version(n)).unwrap(), i32::from(n));
        }
        let kept = Ephemeral::new(state.path());
        assert_eq!(kept.get("0a-1", 0).unwrap(), Some((5, version(5))));
        assert_eq!(kept.get("0a-1", 3).unwrap(), Some((3, version(3))));
        assert_eq!((kept.get("0a-1", 2).unwrap(), kept.get("other", 0).unwrap()), (None, None));
        kept.forget("0a-1");
        assert_eq!(kept.get("0a-1", 0).unwrap(), None);
    }

    #[test]
    fn what_is_too_large_or_has_no_place_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        let kept = Ephemeral::new(state.path());
        let large = Version { metadata: vec![], data: vec![b' '; LARGEST + 1] };
        assert!(matches!(kept.add("0a", &large), Err(EphemeralError::Large(_))));
        assert!(matches!(kept.get("../x", 0), Err(EphemeralError::Uid)));
    }
}
