//! `metadata` of every object, and which names Kubernetes would take.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What every object has.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Unique among its kind and namespace.
    pub name: String,
    /// Where it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Told apart from an earlier object of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When it was last changed; given by the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Counts changes of `spec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// To select by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For tools.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Why a name cannot be used: names become paths and ids, and Kubernetes has to take them.
pub fn name_problem(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() {
        Some("a name is needed".into())
    } else if name.len() > 253 {
        Some(format!("{name:?} is longer than 253 characters"))
    } else if !name.starts_with(plain)
        || !name.ends_with(plain)
        || !name.chars().all(|c| plain(c) || c == '-' || c == '.')
    {
        Some(format!("{name:?} may hold only a-z, 0-9, '-' and '.', and begins and ends with a letter or digit"))
    } else {
        None
    }
}
