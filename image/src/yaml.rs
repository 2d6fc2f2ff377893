//! The one way YAML comes in: typed, unknown keys refused, errors with file and line.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::output;

/// A document that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] output::Error),
    /// It is not what its reader expects.
    #[error("{origin}:{line}: {message}")]
    Parse {
        /// The file, or what the text was found in.
        origin: String,
        /// Counted from 1; 0 when unknown.
        line: u64,
        /// What is wrong there.
        message: String,
    },
}

/// Parses a text; `origin` is told in errors.
pub fn parse<T: DeserializeOwned>(origin: &str, text: &str) -> Result<T, Error> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map_or(0, |location| location.line());
        // The message ends in a place of its own or goes on with a drawing; the first line says it.
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        Error::Parse { origin: origin.to_owned(), line, message: message.to_owned() }
    })
}

/// Reads and parses a file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<(T, Vec<u8>), Error> {
    let bytes = output::read(path)?;
    let origin = path.display().to_string();
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::Parse {
        origin: origin.clone(),
        line: 0,
        message: error.to_string(),
    })?;
    Ok((parse(&origin, text)?, bytes))
}

/// The path of a file that another names, relative to the directory of the naming one.
pub fn beside(naming: &Path, named: &str) -> PathBuf {
    let mut path = naming.parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(named).components() {
        match part {
            Component::ParentDir if matches!(path.components().next_back(), Some(Component::Normal(_))) => {
                path.pop();
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_path_starts_where_the_naming_file_is() {
        let beside = |named| beside(Path::new("a/b/x.yaml"), named);
        assert_eq!(beside("../../k/m.list"), Path::new("k/m.list"));
        assert_eq!(beside("../../../m"), Path::new("../m"));
        assert_eq!(beside("/etc/m"), Path::new("/etc/m"));
    }
}
