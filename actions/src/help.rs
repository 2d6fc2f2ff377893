//! Help texts, made from the table and nothing else.

use std::fmt::Write;

use crate::input::Presence;
use crate::table::{ACTIONS, Action};

/// What `ironhook-actions` can do.
pub fn overview() -> String {
    let mut text = String::from("usage: ironhook-actions ACTION [--help]\n\nInputs come from the environment.\n\n");
    for action in ACTIONS {
        let _ = writeln!(text, "  {:15} {}", action.name, action.doc);
    }
    text
}

/// What one action reads.
pub fn of(action: &Action) -> String {
    let mut text = format!("{}: {}\n", action.name, action.doc);
    if !action.also.is_empty() {
        let _ = writeln!(text, "Also called as: {}.", action.also.join(", "));
    }
    text.push_str("\nEnvironment:\n");
    for input in action.inputs {
        let names = std::iter::once(input.name).chain(input.also.iter().copied()).collect::<Vec<_>>().join(" | ");
        let presence = match input.presence {
            Presence::Required => "required".to_owned(),
            Presence::Optional => "optional".to_owned(),
            Presence::Default(value) => format!("default {value}"),
        };
        let _ = writeln!(text, "  {names} ({presence})\n      {}", input.doc);
    }
    text
}
