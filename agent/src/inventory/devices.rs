//! What init found not to be at work, as it wrote it: read bounded and checked, so that rubbish stays on the machine.
//! Changes nothing in it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use proto::convert::MAX_DEVICES;
use spec::devices::Devices;

/// Why the file is not sent.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// It is there and cannot be read.
    #[error("read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is longer than the server takes.
    #[error("{} has more than {MAX_DEVICES} bytes", .path.display())]
    Large {
        /// Which.
        path: PathBuf,
    },
    /// It is not what init writes.
    #[error("{} is no list of devices", .path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

/// The file's bytes; none if there is no file, as outside of our image.
pub fn read(path: &Path) -> Result<Vec<u8>, DevicesError> {
    let failed = |source| DevicesError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_DEVICES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_DEVICES {
        return Err(DevicesError::Large { path: path.to_owned() });
    }
    serde_json::from_slice::<Devices>(&bytes)
        .map_err(|source| DevicesError::Parse { path: path.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_init_writes_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.json");
        assert!(read(&path).unwrap().is_empty());
        let text = br#"{"without_driver":[],"missing_firmware":[{"file":"a.bin"}]}"#;
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap(), text);
        std::fs::write(&path, "{\"without_driver\":3}").unwrap();
        assert!(matches!(read(&path), Err(DevicesError::Parse { .. })));
        let padded = [&text[..], &vec![b' '; MAX_DEVICES + 1 - text.len()]].concat();
        std::fs::write(&path, &padded[..MAX_DEVICES]).unwrap();
        assert_eq!(read(&path).unwrap().len(), MAX_DEVICES);
        std::fs::write(&path, padded).unwrap();
        assert!(matches!(read(&path), Err(DevicesError::Large { .. })));
        assert!(matches!(read(dir.path()), Err(DevicesError::Read { .. })));
    }
}
