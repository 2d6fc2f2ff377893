//! What every store must do, tried on the one there is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redb::backends::InMemoryBackend;
use ::redb::{Database, StorageBackend};

use super::redb::RedbStore;
use super::{Change, Happened, Store, StoreError};
use crate::objects::{Key, Kind};

fn key(name: &str) -> Key {
    Key::new(Kind::Hardware, "default", name)
}

fn open(dir: &tempfile::TempDir) -> RedbStore {
    RedbStore::open(&dir.path().join("state.redb")).unwrap()
}

#[tokio::test]
async fn all_changes_of_a_commit_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.commit(vec![Change::Create(key("a"), b"1".to_vec())]).await.unwrap();
    let refused = store
        .commit(vec![Change::Create(key("b"), b"1".to_vec()), Change::Create(key("a"), b"2".to_vec())])
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Exists(k) if k == key("a")));
    assert!(store.get(&key("b")).unwrap().is_none());
    assert_eq!(store.get(&key("a")).unwrap().unwrap().value, b"1");
    assert_eq!(*store.revision().borrow(), 1);
}

#[tokio::test]
async fn an_update_wants_the_revision_it_was_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let first = store.commit(vec![Change::Create(key("a"), b"1".to_vec())]).await.unwrap();
    let second = store.commit(vec![Change::Update(key("a"), first, b"2".to_vec())]).await.unwrap();
    let late = store.commit(vec![Change::Update(key("a"), first, b"3".to_vec())]).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict { expected, found, .. } if expected == first && found == second));
    let late = store.commit(vec![Change::Delete(key("a"), Some(first))]).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict { .. }));
    store.commit(vec![Change::Delete(key("a"), Some(second))]).await.unwrap();
    assert!(matches!(store.commit(vec![Change::Delete(key("a"), None)]).await, Err(StoreError::NotFound(_))));
}

#[tokio::test]
async fn a_list_holds_its_prefix_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let other = Key::new(Kind::Hardware, "default2", "x");
    let workflow = Key::new(Kind::Workflow, "default", "w");
    let all = [key("b"), key("a"), other, workflow];
    let revision = store.commit(all.iter().map(|k| Change::Create(k.clone(), vec![])).collect()).await.unwrap();
    let listing = store.list("hardware/default/").unwrap();
    assert_eq!(listing.revision, revision);
    assert_eq!(listing.entries.iter().map(|e| e.key.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(store.list("hardware/").unwrap().entries.len(), 3);
}

#[tokio::test]
async fn events_tell_the_whole_story_from_any_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let first = store.commit(vec![Change::Create(key("a"), b"1".to_vec())]).await.unwrap();
    store.commit(vec![Change::Update(key("a"), first, b"2".to_vec())]).await.unwrap();
    store.commit(vec![Change::Delete(key("a"), None), Change::Create(key("b"), b"3".to_vec())]).await.unwrap();
    let told = |after| {
        let events = store.events(after, 100).unwrap();
        events.into_iter().map(|e| (e.happened, e.entry.key.name, e.entry.value)).collect::<Vec<_>>()
    };
    let whole = [
        (Happened::Added, "a".to_owned(), b"1".to_vec()),
        (Happened::Modified, "a".to_owned(), b"2".to_vec()),
        (Happened::Deleted, "a".to_owned(), b"2".to_vec()),
        (Happened::Added, "b".to_owned(), b"3".to_vec()),
    ];
    assert_eq!(told(0), whole);
    assert_eq!(told(first), whole[1..]);
    // A limit never cuts a revision in two.
    assert_eq!(store.events(2, 1).unwrap().len(), 2);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.commit(vec![Change::Create(key("a"), b"1".to_vec())]).await.unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(store.get(&key("a")).unwrap().unwrap().value, b"1");
    assert_eq!(*store.revision().borrow(), 1);
    assert_eq!(store.commit(vec![Change::Delete(key("a"), None)]).await.unwrap(), 2);
    assert_eq!(store.events(0, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn of_many_writers_each_revision_has_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir));
    let first = store.commit(vec![Change::Create(key("a"), b"0".to_vec())]).await.unwrap();
    let tasks: Vec<_> = (0..20u8)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(vec![Change::Update(key("a"), first, vec![n])]).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

/// A disk that is full from some moment on.
#[derive(Debug)]
struct Disk(InMemoryBackend, Arc<AtomicBool>);

impl Disk {
    fn full<T>(&self, done: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.1.load(Ordering::SeqCst) { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { done() }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.full(|| self.0.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.full(|| self.0.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.full(|| self.0.write(offset, data))
    }
}

#[tokio::test]
async fn a_write_that_fails_is_the_end_and_tells_its_cause() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk(InMemoryBackend::new(), Arc::clone(&full));
    let store = RedbStore::over(Database::builder().create_with_backend(disk).unwrap()).unwrap();
    let broken = store.broken();
    store.commit(vec![Change::Create(key("a"), b"1".to_vec())]).await.unwrap();
    full.store(true, Ordering::SeqCst);
    let because = |error: &StoreError| crate::chain(error);
    let first = store.commit(vec![Change::Create(key("b"), b"1".to_vec())]).await.unwrap_err();
    full.store(false, Ordering::SeqCst);
    // What comes later does not hide the cause behind redb's own "an error happened before".
    let second = store.commit(vec![Change::Create(key("b"), b"1".to_vec())]).await.unwrap_err();
    for error in [first, second, broken.await] {
        assert!(because(&error).starts_with("the database cannot write: "), "{}", because(&error));
        assert!(because(&error).ends_with("no storage space"), "{}", because(&error));
    }
}
