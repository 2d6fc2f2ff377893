//! Files of operators -> objects in the store: all are read and checked together, with each other and with what is
//! stored, and then stored in one transaction; or every problem is told with its place, and nothing is stored.

mod check;
mod plan;
mod read;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::objects::{Key, Object, ViewError};
use crate::store::{Store, StoreError};

/// How often a batch is tried again when somebody else changed what it was checked against.
const ATTEMPTS: usize = 8;

/// A file as an operator wrote it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// For messages.
    pub name: String,
    /// YAML, any number of documents.
    pub text: String,
}

/// The body of the request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Checked and stored together.
    pub files: Vec<File>,
}

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Mistake {
    /// The name of the file.
    pub file: String,
    /// Counts from 1; 0 when it cannot be told.
    pub line: usize,
    /// The offending key, variable or name.
    pub key: String,
    /// One line.
    pub message: String,
}

/// What became of one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `created`, `configured` or `unchanged`.
    pub result: String,
}

/// What an operator may do with an object that exists or does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Make it or change it.
    Apply,
    /// Make it.
    Create,
    /// Change it, from this revision if one is given.
    Replace(Option<u64>),
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The operator has to change something.
    #[error("{} mistakes found, nothing is stored", .0.len())]
    Mistakes(Vec<Mistake>),
    /// The store did not take it.
    #[error("nothing is stored")]
    Store(#[from] StoreError),
    /// Something stored earlier is not as it should be.
    #[error("nothing is stored")]
    View(#[from] ViewError),
}

/// Stores all objects of all files, or none.
pub async fn apply(store: &dyn Store, files: &[File], mode: Mode) -> Result<Vec<(Key, &'static str)>, ApplyError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let written = read::read(files).map_err(ApplyError::Mistakes)?;
        let stored = stored(store)?;
        let checked = check::check(written, &stored).map_err(ApplyError::Mistakes)?;
        let plan = plan::plan(checked, &stored, mode)?;
        if plan.changes.is_empty() {
            return Ok(plan.outcomes);
        }
        match store.commit(plan.changes).await {
            Ok(_) => return Ok(plan.outcomes),
            Err(StoreError::Conflict { .. } | StoreError::Exists(_) | StoreError::NotFound(_))
                if attempt < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Everything there is, decoded.
pub fn stored(store: &dyn Store) -> Result<Vec<Object>, StoreError> {
    store.list("")?.entries.into_iter().map(decode).collect()
}

/// An entry of the store as an object, its revision filled in.
pub fn decode(entry: crate::store::Entry) -> Result<Object, StoreError> {
    let mut value: serde_json::Value =
        serde_json::from_slice(&entry.value).map_err(|_| StoreError::Record(entry.key.path()))?;
    value["metadata"]["resourceVersion"] = entry.revision.to_string().into();
    Ok(Object { key: entry.key, revision: entry.revision, value })
}
