//! Finds a file below a directory by the path of a URL. No path leads out; directories are not listed.
//! Links are followed: they were set by whoever owns the directory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::content::{Content, Reader, kind_of};

/// The file cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the path leaves its directory or is not written plainly")]
    Path,
    #[error("there is no file of this name")]
    Missing,
    #[error("it is not a regular file")]
    Kind,
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Opens `path`, decoded, below `root`.
pub(super) async fn open(root: &Path, path: &str) -> Result<Content, OpenError> {
    if path.contains(['\0', '\\']) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(OpenError::Path);
    }
    let full = root.join(path);
    let opened = tokio::task::spawn_blocking(move || (regular(&full), full)).await;
    let (result, path) =
        opened.map_err(|error| OpenError::Read { path: root.into(), source: io::Error::other(error) })?;
    result.map_err(|error| match error {
        Ok(kind) => kind,
        Err(source) => OpenError::Read { path, source },
    })
}

fn regular(path: &Path) -> Result<Content, Result<OpenError, io::Error>> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(OpenError::Missing),
        _ => Err(source),
    };
    // Asked before opening, because opening a named pipe waits for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Ok(OpenError::Kind));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let modified = metadata.modified().ok();
    let age = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let etag = Some(format!("\"{:x}-{:x}\"", metadata.len(), age.as_nanos()));
    let kind = kind_of(&path.to_string_lossy());
    Ok(Content { reader: Reader::File(Arc::new(file)), total: metadata.len(), etag, modified, kind })
}
