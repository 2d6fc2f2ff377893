//! The objects the store keeps, as Tinkerbell's v1alpha1 writes them (wire reference §6.4).
//! An object is kept as the JSON it came as, so fields of newer versions survive; the types here are views of it.

pub mod hardware;
pub mod meta;
pub mod template;
pub mod workflow;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// `apiVersion` of all objects so far.
pub const API_VERSION: &str = "tinkerbell.org/v1alpha1";

/// The kinds of objects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A machine.
    Hardware,
    /// What to do, with holes.
    Template,
    /// A template for a machine, and what became of it.
    Workflow,
}

impl Kind {
    /// All of them, in the order in which they depend on each other.
    pub const ALL: [Self; 3] = [Self::Hardware, Self::Template, Self::Workflow];

    /// As in `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hardware => "Hardware",
            Self::Template => "Template",
            Self::Workflow => "Workflow",
        }
    }

    /// As in the paths of the API.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Template => "templates",
            Self::Workflow => "workflows",
        }
    }

    /// From `kind:`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// From what an operator or a path says: singular or plural, any case.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| word == kind.plural() || word == kind.name().to_ascii_lowercase())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Puts the three together.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// `namespace/name`, as ids of workflows and names of machines travel.
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// As the store sorts it.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.kind.plural(), self.namespace, self.name)
    }

    /// Reads what [`Key::path`] wrote.
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.splitn(3, '/');
        let kind = Kind::from_word(parts.next()?)?;
        Some(Self::new(kind, parts.next()?, parts.next()?))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The object in the store cannot be read as its kind.
#[derive(Debug, thiserror::Error)]
#[error("{key}: stored object has a bad {part}")]
pub struct ViewError {
    key: Key,
    part: &'static str,
    #[source]
    source: serde_json::Error,
}

/// One object as it is stored, its `resourceVersion` filled in.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    /// Which one.
    pub key: Key,
    /// When it was last changed.
    pub revision: u64,
    /// All of it.
    pub value: Value,
}

impl Object {
    /// A view of `spec`.
    pub fn spec<T: DeserializeOwned>(&self) -> Result<T, ViewError> {
        self.view("spec")
    }

    /// A view of `status`; of an object without one, that of an empty object.
    pub fn status<T: DeserializeOwned>(&self) -> Result<T, ViewError> {
        self.view("status")
    }

    fn view<T: DeserializeOwned>(&self, part: &'static str) -> Result<T, ViewError> {
        let value = self.value.get(part).cloned().unwrap_or_else(|| json!({}));
        serde_json::from_value(value).map_err(|source| ViewError { key: self.key.clone(), part, source })
    }
}

/// Lays what a typed view understood over what was written: unknown fields stay, known ones are in their own type.
pub fn overlay(written: &mut Value, understood: Value) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in understood {
                match written.get_mut(&key) {
                    Some(slot) => overlay(slot, value),
                    None => drop(written.insert(key, value)),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) if written.len() == understood.len() => {
            written.iter_mut().zip(understood).for_each(|(slot, value)| overlay(slot, value));
        }
        (slot, value) => *slot = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_survive_the_overlay() {
        let mut written = json!({"a": 7, "list": [{"x": 1, "new": true}], "new": [1]});
        overlay(&mut written, json!({"a": "007", "list": [{"x": "1"}]}));
        assert_eq!(written, json!({"a": "007", "list": [{"x": "1", "new": true}], "new": [1]}));
    }

    #[test]
    fn paths_round_trip() {
        let key = Key::new(Kind::Workflow, "default", "a");
        assert_eq!(Key::from_path(&key.path()), Some(key));
        assert_eq!(Key::from_path("workflows/default"), None);
    }
}
