//! What running actions tell and nobody needs for ever: how far they are, what they write, what a machine is. In memory,
//! bounded; the end of an action's log goes to a file when the action ends. Knows nothing of the store.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use spec::event::Progress;

/// Progress reaches a workflow's status at most this often (design §5).
const FOLD: Duration = Duration::from_secs(10);
/// What is kept of a log.
pub const LOG: usize = 64 << 10;
/// A line is cut there.
const LINE: usize = 8 << 10;
/// Actions that are followed at once; beyond that the one that has been silent for longest is forgotten.
const ACTIONS: usize = 512;
/// Machines whose inventory is kept.
const MACHINES: usize = 10_000;

/// Names an action for good: its workflow's uid, its task and its name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// Of the workflow, so that another one of its name has logs of its own.
    pub uid: String,
    /// The task's name.
    pub task: String,
    /// The action's name.
    pub action: String,
}

/// An action's progress that its workflow's status should have.
#[derive(Clone, PartialEq, Debug)]
pub struct Due {
    /// `namespace/name`.
    pub workflow: String,
    /// The id of the attempt.
    pub id: String,
    /// How far.
    pub progress: Progress,
}

#[derive(Debug)]
struct Followed {
    touched: Instant,
    folded: Option<Instant>,
    due: Option<Due>,
    lines: VecDeque<String>,
    size: usize,
}

#[derive(Debug, Default)]
struct Held {
    actions: HashMap<Place, Followed>,
    inventories: HashMap<String, Value>,
}

/// All of it.
#[derive(Debug)]
pub struct Soft {
    dir: PathBuf,
    held: Mutex<Held>,
}

impl Soft {
    /// Keeps the ends of logs beneath the state directory.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("logs"), held: Mutex::default() }
    }

    /// How far an action is.
    pub fn progress(&self, place: &Place, due: Due) {
        self.with(place, |followed| followed.due = Some(due));
    }

    /// Its agent works on it.
    pub fn heard(&self, place: &Place) {
        self.with(place, |_| {});
    }

    /// How long nothing was heard of it; nothing for one that has not been heard of since the server was started.
    pub fn quiet(&self, place: &Place) -> Option<Duration> {
        self.held().actions.get(place).map(|followed| followed.touched.elapsed())
    }

    /// What it writes.
    pub fn lines(&self, place: &Place, lines: Vec<String>, dropped: u64) {
        self.with(place, |followed| {
            if dropped > 0 {
                followed.push(format!("[{dropped} lines were not sent]"));
            }
            lines.into_iter().for_each(|line| followed.push(line));
        });
    }

    /// The progress that has waited long enough.
    pub fn due(&self, now: Instant) -> Vec<Due> {
        let mut held = self.held();
        let old = |followed: &&mut Followed| followed.folded.is_none_or(|then| now.duration_since(then) >= FOLD);
        let due = held.actions.values_mut().filter(old).filter_map(|followed| {
            let due = followed.due.take()?;
            followed.folded = Some(now);
            Some(due)
        });
        due.collect()
    }

    /// The action has ended; `tail` is the end of its log if its agent has sent it in one piece.
    pub fn ended(&self, place: &Place, tail: Option<&str>) {
        let live = self.held().actions.remove(place).map(|followed| followed.text());
        let text = tail.filter(|tail| !tail.is_empty()).map(str::to_owned).or(live).unwrap_or_default();
        if text.is_empty() {
            return;
        }
        let file = self.file(place);
        let kept =
            file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, end(&text)));
        if let Err(error) = kept {
            tracing::warn!(file = %file.display(), %error, "the log of an action is not kept");
        }
    }

    /// What is known of an action's log.
    pub fn log(&self, place: &Place) -> Option<String> {
        let live = self.held().actions.get(place).map(Followed::text).filter(|text| !text.is_empty());
        live.or_else(|| std::fs::read_to_string(self.file(place)).ok())
    }

    /// The workflow is gone, and its logs with it.
    pub fn forget(&self, uid: &str) {
        self.held().actions.retain(|place, _| place.uid != uid);
        if is_plain(uid) {
            let _ = std::fs::remove_dir_all(self.dir.join(uid));
        }
    }

    /// What a machine (`namespace/name` of its Hardware) is, as its worker tells it. Who does not speak of `devices`, as
    /// the newer service cannot, does not take back what was said of them.
    pub fn inventory(&self, machine: &str, mut what: Value) {
        let mut held = self.held();
        let devices = held.inventories.get(machine).and_then(|before| before.get("devices"));
        if let (Some(what), Some(devices)) = (what.as_object_mut(), devices) {
            what.entry("devices").or_insert_with(|| devices.clone());
        }
        if held.inventories.len() < MACHINES || held.inventories.contains_key(machine) {
            held.inventories.insert(machine.to_owned(), what);
        }
    }

    /// What that machine is.
    pub fn inventory_of(&self, machine: &str) -> Option<Value> {
        self.held().inventories.get(machine).cloned()
    }

    fn with(&self, place: &Place, change: impl FnOnce(&mut Followed)) {
        let mut held = self.held();
        if held.actions.len() >= ACTIONS && !held.actions.contains_key(place) {
            let silent =
                held.actions.iter().min_by_key(|(_, followed)| followed.touched).map(|(place, _)| place.clone());
            silent.iter().for_each(|place| drop(held.actions.remove(place)));
        }
        let now = Instant::now();
        let new = Followed { touched: now, folded: None, due: None, lines: VecDeque::new(), size: 0 };
        let followed = held.actions.entry(place.clone()).or_insert(new);
        followed.touched = now;
        change(followed);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, place: &Place) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [&place.task, &place.action] {
            hash.update(part.as_bytes());
            hash.update([0xff]);
        }
        let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let uid = if is_plain(&place.uid) { &place.uid } else { "unknown" };
        self.dir.join(uid).join(name + ".log")
    }
}

/// Ours are; what else an object may carry there must not become a path.
fn is_plain(uid: &str) -> bool {
    !uid.is_empty() && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn end(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LOG);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

impl Followed {
    fn push(&mut self, mut line: String) {
        line.truncate(line.floor_char_boundary(LINE));
        self.size += line.len() + 1;
        self.lines.push_back(line);
        while self.size > LOG {
            self.size -= self.lines.pop_front().map_or(self.size, |line| line.len() + 1);
        }
    }

    fn text(&self) -> String {
        self.lines.iter().fold(String::with_capacity(self.size), |text, line| text + line + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(action: &str) -> Place {
        Place { uid: "0a-1".into(), task: "os".into(), action: action.into() }
    }

    fn due(done: u64) -> Due {
        let progress = Progress { done, ..Progress::default() };
        Due { workflow: "default/w".into(), id: "a".into(), progress }
    }

    #[test]
    fn who_cannot_speak_of_devices_does_not_take_them_back() {
        let soft = Soft::new(Path::new("/nonexistent"));
        let told = |text: &str| {
            soft.inventory("default/m", text.parse().unwrap());
            soft.inventory_of("default/m").unwrap().to_string()
        };
        assert_eq!(told(r#"{"cpu":1,"devices":{"a":1}}"#), r#"{"cpu":1,"devices":{"a":1}}"#);
        assert_eq!(told(r#"{"cpu":2}"#), r#"{"cpu":2,"devices":{"a":1}}"#);
        assert_eq!(told(r#"{"cpu":2,"devices":null}"#), r#"{"cpu":2,"devices":null}"#);
    }

    #[test]
    fn progress_is_due_at_once_and_then_every_ten_seconds() {
        let dir = tempfile::tempdir().unwrap();
        let soft = Soft::new(dir.path());
        let start = Instant::now();
        soft.progress(&place("a"), due(1));
        assert_eq!(soft.due(start), [due(1)]);
        soft.progress(&place("a"), due(2));
        soft.progress(&place("a"), due(3));
        assert_eq!(soft.due(start + Duration::from_secs(9)), []);
        assert_eq!(soft.due(start + Duration::from_secs(10)), [due(3)]);
        assert_eq!(soft.due(start + Duration::from_secs(60)), []);
    }

    #[test]
    fn the_end_of_a_log_outlives_the_action_and_not_the_workflow() {
        let dir = tempfile::tempdir().unwrap();
        let soft = Soft::new(dir.path());
        soft.lines(&place("a"), (0..20_000).map(|n| format!("line {n}")).collect(), 2);
        assert!(soft.log(&place("a")).unwrap().len() <= LOG);
        soft.ended(&place("a"), None);
        let kept = Soft::new(dir.path()).log(&place("a")).unwrap();
        assert!(kept.ends_with("line 19999\n"), "{}", kept.len());
        soft.lines(&place("b"), vec!["live".into()], 0);
        soft.ended(&place("b"), Some("sent in one piece"));
        assert_eq!(soft.log(&place("b")).unwrap(), "sent in one piece");
        soft.forget("0a-1");
        assert_eq!((soft.log(&place("a")), soft.log(&place("b"))), (None, None));
        let out = Place { uid: "../..".into(), ..place("a") };
        assert!(soft.file(&out).starts_with(dir.path().join("logs/unknown")));
    }

    #[test]
    fn actions_beyond_the_limit_cost_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let soft = Soft::new(dir.path());
        (0..ACTIONS + 5).for_each(|n| soft.lines(&place(&n.to_string()), vec!["x".into()], 0));
        assert_eq!(soft.held().actions.len(), ACTIONS);
        assert!(soft.log(&place(&(ACTIONS + 4).to_string())).is_some() && soft.log(&place("0")).is_none());
    }
}
