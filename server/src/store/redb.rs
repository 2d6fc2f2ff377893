//! The store in one redb file. One thread writes: it takes the commits that wait, puts them into one database
//! transaction, and answers each after that is on disk. Values are bytes; nothing here is redb's own format of a type.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Change, Entry, Event, Happened, Listing, Store, StoreError};
use crate::objects::Key;

/// path -> (revision, value)
const OBJECTS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("objects");
/// (revision, number within it) -> (kind of event, path, value)
const LOG: TableDefinition<(u64, u32), (u8, &str, &[u8])> = TableDefinition::new("log");
/// `revision` and `compacted`
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

const REVISION: &str = "revision";
const COMPACTED: &str = "compacted";
/// How many revisions a watch may lag behind.
const HISTORY: u64 = 10_000;
/// Commits of one disk flush, and how many may wait.
const BATCH: usize = 64;

/// Why nothing can be written any more.
type Broken = Option<Arc<redb::Error>>;

struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<u64, StoreError>>,
}

/// The store in one file.
pub struct RedbStore {
    database: Arc<Database>,
    requests: Option<mpsc::Sender<Request>>,
    revision: watch::Receiver<u64>,
    broken: watch::Receiver<Broken>,
    writer: Option<JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)
            .map_err(|e| StoreError::Open { path: path.display().to_string(), source: Box::new(e.into()) })?;
        Self::over(database)
    }

    pub(super) fn over(database: Database) -> Result<Self, StoreError> {
        let newest = prepare(&database).map_err(failed("be prepared"))?;
        let database = Arc::new(database);
        let (requests, waiting) = mpsc::channel(BATCH);
        let (told, revision) = watch::channel(newest);
        let (fail, broken) = watch::channel(None);
        let writer = Writer { database: Arc::clone(&database), waiting, told, fail };
        let writer =
            std::thread::Builder::new().name("store".into()).spawn(move || writer.run()).map_err(StoreError::Thread)?;
        Ok(Self { database, requests: Some(requests), revision, broken, writer: Some(writer) })
    }

    /// Returns when a write has failed, with its cause: redb writes nothing after that until it is opened again.
    pub fn broken(&self) -> impl Future<Output = StoreError> + Send + 'static {
        let mut broken = self.broken.clone();
        async move {
            match broken.wait_for(Option::is_some).await.map(|cause| cause.clone()) {
                Ok(Some(source)) => StoreError::Database { action: "write", source },
                _ => StoreError::Closed,
            }
        }
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // The writer ends when nobody can ask it any more; it has answered what was asked before.
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Store for RedbStore {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
            requests.send(Request { changes, answer }).await.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        })
    }

    fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let read = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(OBJECTS)?;
            let found = table.get(key.path().as_str())?;
            Ok(found.map(|record| (record.value().0, record.value().1.to_vec())))
        };
        let found = read().map_err(failed("read"))?;
        Ok(found.map(|(revision, value)| Entry { key: key.clone(), revision, value }))
    }

    fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let read = || -> Result<(u64, Vec<ObjectRow>), redb::Error> {
            let transaction = self.database.begin_read()?;
            let revision = number(&transaction.open_table(NUMBERS)?, REVISION)?;
            let mut rows = Vec::new();
            for row in transaction.open_table(OBJECTS)?.range(prefix..)? {
                let (path, record) = row?;
                if !path.value().starts_with(prefix) {
                    break;
                }
                rows.push((path.value().to_owned(), record.value().0, record.value().1.to_vec()));
            }
            Ok((revision, rows))
        };
        let (revision, rows) = read().map_err(failed("list"))?;
        let entries = rows.into_iter().map(|(path, revision, value)| entry(path, revision, value));
        Ok(Listing { revision, entries: entries.collect::<Result<_, _>>()? })
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let read = || -> Result<(u64, Vec<LogRow>), redb::Error> {
            let transaction = self.database.begin_read()?;
            let compacted = number(&transaction.open_table(NUMBERS)?, COMPACTED)?;
            let mut rows: Vec<LogRow> = Vec::new();
            for row in transaction.open_table(LOG)?.range((after.saturating_add(1), 0)..)? {
                let (at, record) = row?;
                let (revision, _) = at.value();
                if rows.len() >= limit && rows.last().is_some_and(|last| last.0 != revision) {
                    break;
                }
                let (code, path, value) = record.value();
                rows.push((revision, code, path.to_owned(), value.to_vec()));
            }
            Ok((compacted, rows))
        };
        let (compacted, rows) = read().map_err(failed("read its history"))?;
        if after < compacted {
            return Err(StoreError::Compacted { asked: after, compacted });
        }
        rows.into_iter().map(event).collect()
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }
}

/// Path, revision, value.
type ObjectRow = (String, u64, Vec<u8>);
/// Revision, kind of event, path, value.
type LogRow = (u64, u8, String, Vec<u8>);

struct Writer {
    database: Arc<Database>,
    waiting: mpsc::Receiver<Request>,
    told: watch::Sender<u64>,
    fail: watch::Sender<Broken>,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
            let (changes, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|r: Request| (r.changes, r.answer)).unzip();
            let before = self.fail.borrow().clone();
            match before.map_or_else(|| write_all(&self.database, &changes).map_err(Arc::new), Err) {
                Ok((revision, results)) => {
                    // Waiters are woken before the answers go out, so whoever asked also finds its own event.
                    self.told.send_replace(revision);
                    answers.into_iter().zip(results).for_each(|(answer, result)| drop(answer.send(result)));
                }
                Err(error) => {
                    self.fail.send_replace(Some(Arc::clone(&error)));
                    answers.into_iter().for_each(|answer| {
                        let source = Arc::clone(&error);
                        drop(answer.send(Err(StoreError::Database { action: "write", source })));
                    });
                }
            }
        }
    }
}

type Outcomes = (u64, Vec<Result<u64, StoreError>>);

/// One database transaction for all commits that wait; a refused one leaves nothing of itself behind.
fn write_all(database: &Database, commits: &[Vec<Change>]) -> Result<Outcomes, redb::Error> {
    let transaction = database.begin_write()?;
    let mut newest = number(&transaction.open_table(NUMBERS)?, REVISION)?;
    let mut results = Vec::with_capacity(commits.len());
    for changes in commits {
        match refusal(&transaction, changes)? {
            Some(refused) => results.push(Err(refused)),
            None => {
                newest += 1;
                apply(&transaction, newest, changes)?;
                results.push(Ok(newest));
            }
        }
    }
    compact(&transaction, newest)?;
    transaction.commit()?;
    Ok((newest, results))
}

fn refusal(transaction: &WriteTransaction, changes: &[Change]) -> Result<Option<StoreError>, redb::Error> {
    let objects = transaction.open_table(OBJECTS)?;
    for change in changes {
        let key = change.key();
        let found = objects.get(key.path().as_str())?.map(|record| record.value().0);
        let refused = match (change, found) {
            (Change::Create(..), Some(_)) => StoreError::Exists(key.clone()),
            (Change::Update(..) | Change::Delete(..), None) => StoreError::NotFound(key.clone()),
            (Change::Update(_, expected, _) | Change::Delete(_, Some(expected)), Some(found)) if *expected != found => {
                StoreError::Conflict { key: key.clone(), expected: *expected, found }
            }
            _ => continue,
        };
        return Ok(Some(refused));
    }
    Ok(None)
}

fn apply(transaction: &WriteTransaction, revision: u64, changes: &[Change]) -> Result<(), redb::Error> {
    let mut objects = transaction.open_table(OBJECTS)?;
    let mut log = transaction.open_table(LOG)?;
    for (number, change) in (0u32..).zip(changes) {
        let path = change.key().path();
        let path = path.as_str();
        match change {
            Change::Create(_, value) | Change::Update(_, _, value) => {
                let code = if matches!(change, Change::Create(..)) { 0 } else { 1 };
                objects.insert(path, (revision, value.as_slice()))?;
                log.insert((revision, number), (code, path, value.as_slice()))?;
            }
            Change::Delete(..) => {
                let last = objects.remove(path)?.map(|record| record.value().1.to_vec()).unwrap_or_default();
                log.insert((revision, number), (2, path, last.as_slice()))?;
            }
        }
    }
    transaction.open_table(NUMBERS)?.insert(REVISION, revision)?;
    Ok(())
}

fn compact(transaction: &WriteTransaction, newest: u64) -> Result<(), redb::Error> {
    let mut numbers = transaction.open_table(NUMBERS)?;
    let keep_after = newest.saturating_sub(HISTORY);
    if keep_after > number(&numbers, COMPACTED)? {
        transaction.open_table(LOG)?.retain_in(..(keep_after + 1, 0), |_, _| false)?;
        numbers.insert(COMPACTED, keep_after)?;
    }
    Ok(())
}

/// Makes the tables, so that readers find them; answers with the newest revision.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(LOG)?;
    let newest = {
        let numbers: Table<&str, u64> = transaction.open_table(NUMBERS)?;
        number(&numbers, REVISION)?
    };
    transaction.commit()?;
    Ok(newest)
}

fn number(table: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(table.get(name)?.map_or(0, |record| record.value()))
}

fn entry(path: String, revision: u64, value: Vec<u8>) -> Result<Entry, StoreError> {
    match Key::from_path(&path) {
        Some(key) => Ok(Entry { key, revision, value }),
        None => Err(StoreError::Record(path)),
    }
}

fn event((revision, code, path, value): LogRow) -> Result<Event, StoreError> {
    let happened = match code {
        0 => Happened::Added,
        1 => Happened::Modified,
        2 => Happened::Deleted,
        _ => return Err(StoreError::Record(path)),
    };
    Ok(Event { happened, entry: entry(path, revision, value)? })
}

fn failed(action: &'static str) -> impl FnOnce(redb::Error) -> StoreError {
    move |source| StoreError::Database { action, source: Arc::new(source) }
}
