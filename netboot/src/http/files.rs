//! Finds a file below a directory by the path of a URL. No path leads out; directories are not listed.
//! Links are followed: they were set by whoever owns the directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use tokio::fs::{self, File};

use super::content::Content;

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
pub(super) async fn open(root: &Path, path: &str) -> Result<Content<File>, OpenError> {
    if path.contains(['\0', '\\']) || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(OpenError::Path);
    }
    let path = root.join(path);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::Missing,
        _ => OpenError::Read { path: path.clone(), source },
    };
    // Asked before opening, because opening a named pipe waits for its writer.
    if !fs::metadata(&path).await.map_err(failed)?.is_file() {
        return Err(OpenError::Kind);
    }
    let reader = File::open(&path).await.map_err(failed)?;
    let metadata = reader.metadata().await.map_err(failed)?;
    let modified = metadata.modified().ok();
    let age = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let etag = Some(format!("\"{:x}-{:x}\"", metadata.len(), age.as_nanos()));
    Ok(Content { reader, total: metadata.len(), etag, modified })
}
