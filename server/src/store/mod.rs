//! What the server must not forget, in the shape of Kubernetes storage: create, update by revision, delete with a
//! precondition, list at a revision, watch from a revision. Knows keys and bytes, nothing of what the objects mean.

pub mod redb;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::objects::Key;

/// One change of a transaction.
#[derive(Clone, Debug)]
pub enum Change {
    /// The key must not exist.
    Create(Key, Vec<u8>),
    /// The key must exist at this revision.
    Update(Key, u64, Vec<u8>),
    /// The key must exist, and at this revision if one is given.
    Delete(Key, Option<u64>),
}

impl Change {
    /// What is changed.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Create(key, _) | Self::Update(key, _, _) | Self::Delete(key, _) => key,
        }
    }
}

/// A stored value and when it was last changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which one.
    pub key: Key,
    /// When it was last changed.
    pub revision: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// Everything under a prefix, as of one revision.
#[derive(Clone, Debug)]
pub struct Listing {
    /// As of when.
    pub revision: u64,
    /// In the order of their paths.
    pub entries: Vec<Entry>,
}

/// What happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// It was made.
    Added,
    /// It was changed.
    Modified,
    /// It is gone; the entry holds its last value.
    Deleted,
}

/// One event of a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What happened.
    pub happened: Happened,
    /// To what; the revision is that of the event.
    pub entry: Entry,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is one of that name.
    #[error("{0} exists already")]
    Exists(Key),
    /// There is none of that name.
    #[error("{0} does not exist")]
    NotFound(Key),
    /// Somebody else was faster.
    #[error("{key} was changed meanwhile (it is at revision {found}, not {expected})")]
    Conflict {
        /// What was to be changed.
        key: Key,
        /// What the change was made for.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The history does not reach back that far.
    #[error("revision {asked} is too old, history begins after {compacted}")]
    Compacted {
        /// What was asked for.
        asked: u64,
        /// What is the oldest one can ask for.
        compacted: u64,
    },
    /// A record in the database cannot be read.
    #[error("record {0:?} in the database cannot be read")]
    Record(String),
    /// The database file cannot be opened.
    #[error("cannot open the database {path} (is another server using it?)")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: Box<::redb::Error>,
    },
    /// The database failed.
    #[error("the database cannot {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why; all who waited for the same write get it.
        #[source]
        source: Arc<::redb::Error>,
    },
    /// The writer could not be started.
    #[error("cannot start the writer of the database")]
    Thread(#[source] std::io::Error),
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

/// Where objects are kept. Reads are quick and do not wait; a commit is durable before it is answered.
pub trait Store: Send + Sync + 'static {
    /// All changes or none; answers with their common revision.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<u64, StoreError>>;
    /// One entry as of now.
    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError>;
    /// All entries whose path begins like this, as of one revision.
    fn list(&self, prefix: &str) -> Result<Listing, StoreError>;
    /// At most `limit` events after this revision, in order; never part of a revision only.
    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError>;
    /// The newest durable revision, for whoever waits for the next event.
    fn revision(&self) -> watch::Receiver<u64>;
}
