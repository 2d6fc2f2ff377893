//! `Template.spec`. What is inside `data` belongs to the module `template`.

use serde::{Deserialize, Serialize};

/// `Template.spec`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSpec {
    /// Go template that renders to the YAML of wire reference §6.1.
    pub data: String,
}
