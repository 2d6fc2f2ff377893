//! What the operator says about modules: parameters for some, refusal of others. By normalised name.

use std::collections::{HashMap, HashSet};

use super::normalised;

/// Parameters and refusals.
#[derive(Clone, Default, Debug)]
pub struct Options {
    parameters: HashMap<String, String>,
    refused: HashSet<String>,
}

impl Options {
    /// Adds `parameter` or `parameter=value` to those of a module.
    pub fn set(&mut self, module: &str, parameter: &str) {
        let all = self.parameters.entry(normalised(module)).or_default();
        if !all.is_empty() {
            all.push(' ');
        }
        all.push_str(parameter);
    }

    /// Devices do not load this module any more; asking for it by name still does, as with modprobe.
    pub fn refuse(&mut self, module: &str) {
        self.refused.insert(normalised(module));
    }

    /// As the kernel takes them.
    pub fn parameters(&self, module: &str) -> &str {
        self.parameters.get(module).map_or("", String::as_str)
    }

    /// Whether devices do not load it.
    pub fn refuses(&self, module: &str) -> bool {
        self.refused.contains(module)
    }
}
