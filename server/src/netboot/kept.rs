//! What was seen of machines that have a Hardware, kept over a restart: one small file each in the state directory, so
//! that a boot loop that was parked stays parked. Soft: one that cannot be written or read is said and left out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use spec::Mac;

use super::seen::Entry;

/// Larger files are not ours: an entry is bounded.
const LARGEST: u64 = 1 << 20;

/// The files.
#[derive(Clone, Debug)]
pub struct Kept {
    dir: PathBuf,
}

impl Kept {
    /// Below the state directory; made when the first machine boots.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("seen") }
    }

    /// All that can be read.
    pub fn read(&self) -> Vec<(Mac, Entry)> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "what was seen of machines before is not known");
                return Vec::new();
            }
        };
        entries.flatten().filter_map(|file| self.entry(&file.path())).collect()
    }

    fn entry(&self, path: &Path) -> Option<(Mac, Entry)> {
        let mac: Mac = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
        let text = fs::metadata(path).and_then(|about| {
            if about.len() > LARGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) }
        });
        let read = text.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from));
        read.map(|entry| (mac, entry))
            .inspect_err(|error| tracing::warn!(file = %path.display(), %error, "left out"))
            .ok()
    }

    /// Replaces what is kept of a machine.
    pub fn write(&self, mac: Mac, entry: &Entry) {
        let path = self.path(mac);
        let new = path.with_extension("new");
        let written = serde_json::to_vec(entry).map_err(io::Error::from).and_then(|text| {
            fs::create_dir_all(&self.dir)?;
            fs::write(&new, text)?;
            fs::rename(&new, &path)
        });
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "what was seen of a machine will not survive a restart");
        }
    }

    /// A machine is gone.
    pub fn remove(&self, mac: Mac) {
        if let Err(error) = fs::remove_file(self.path(mac)) {
            tracing::warn!(%mac, %error, "what was seen of a machine that is gone cannot be removed");
        }
    }

    fn path(&self, mac: Mac) -> PathBuf {
        self.dir.join(format!("{}.json", mac.to_string().replace(':', "-")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn entries_survive_and_rubbish_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::new(dir.path());
        assert!(kept.read().is_empty());
        let mut entry = Entry::default();
        (entry.boots, entry.last_ms) = ((3, "default/w failed".into()), 7);
        kept.write(MAC, &entry);
        for (name, text) in [("02-00-00-00-00-02.json", "{"), ("notes.txt", ""), ("02-00-00-00-00-03.new", "{}")] {
            fs::write(dir.path().join("seen").join(name), text).unwrap();
        }
        let read = kept.read();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].0, &read[0].1.boots, read[0].1.last_ms), (MAC, &entry.boots, 7));
        kept.remove(MAC);
        assert!(kept.read().is_empty());
    }
}
