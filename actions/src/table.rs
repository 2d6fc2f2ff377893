//! The table of actions: the one place that knows all of them. Help, dispatch and the manual are derived from it.

use crate::cmd::{Context, archive_extract, boot, disk_capture, disk_partition, disk_wipe, file_write, image_write};
use crate::failed::Failed;
use crate::input::Input;

/// One action.
#[derive(Debug)]
pub struct Action {
    /// Its name.
    pub name: &'static str,
    /// What the field also calls it.
    pub also: &'static [&'static str],
    /// What it does, in a sentence.
    pub doc: &'static str,
    /// What it reads from the environment.
    pub inputs: &'static [Input],
    /// What it does.
    pub run: fn(&Context<'_>) -> Result<(), Failed>,
}

/// Every action, in the order of an installation.
pub const ACTIONS: &[Action] = &[
    disk_wipe::ACTION,
    image_write::ACTION,
    disk_partition::ACTION,
    archive_extract::ACTION,
    file_write::ACTION,
    boot::ACTION,
    disk_capture::ACTION,
];

/// The action of that name.
pub fn find(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|a| a.name == name || a.also.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_everything_is_explained() {
        let mut names = HashSet::new();
        for action in ACTIONS {
            assert!(action.doc.ends_with('.'), "{}", action.name);
            for name in action.also.iter().chain([&action.name]) {
                assert!(names.insert(*name), "{name} twice");
            }
            let mut inputs = HashSet::new();
            for input in action.inputs {
                assert!(input.doc.ends_with('.'), "{}", input.name);
                for name in input.also.iter().chain([&input.name]) {
                    assert!(inputs.insert(*name), "{}: {name} twice", action.name);
                }
            }
        }
    }
}
