//! Help texts, the manual and the page of the documentation, made from the table and nothing else.

use std::fmt::Write;

use crate::input::{COMMON, Input, Presence};
use crate::table::{ACTIONS, Action};

/// Names of the field for which there is no action here, and what to do about it.
const ELSEWHERE: &[(&str, &str)] = &[
    ("rootio", "its partitions are disk-partition's; formatting and mounting are not there yet"),
    ("cexec", "not there yet: use the field's own image"),
    ("kexec", "not there yet: use boot with BOOT_MODE=reboot, or the field's own image"),
    ("grub2disk", "not there yet: use an image that brings its boot loader"),
    ("syslinux", "not there yet: use an image that brings its boot loader"),
    ("waitdaemon", "not needed: boot waits until its success is on record"),
];

/// What `ironhook-actions` can do.
pub fn overview() -> String {
    let mut text = String::from("usage: ironhook-actions ACTION [--help]\n\nInputs come from the environment.\n\n");
    for action in ACTIONS {
        let _ = writeln!(text, "  {:15} {}", action.name, action.doc);
    }
    text
}

/// The same, after what is wrong with a name.
pub fn unknown(name: &str) -> String {
    match ELSEWHERE.iter().find(|(known, _)| *known == name) {
        Some((name, why)) => format!("{name}: {why}\n\n{}", overview()),
        None if name.is_empty() || name.starts_with('-') || name == "help" => overview(),
        None => format!("{name} is no action\n\n{}", overview()),
    }
}

fn names(input: &Input) -> Vec<&'static str> {
    std::iter::once(input.name).chain(input.also.iter().copied()).collect()
}

fn presence(input: &Input) -> String {
    match input.presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional => "optional".to_owned(),
        Presence::Default(value) => format!("default {value}"),
    }
}

/// What one action reads.
pub fn of(action: &Action) -> String {
    let mut text = format!("{}: {}\n", action.name, action.doc);
    if !action.also.is_empty() {
        let _ = writeln!(text, "Also called as: {}.", action.also.join(", "));
    }
    for (title, inputs) in [("Environment", action.inputs), ("Environment of every action", COMMON)] {
        let _ = writeln!(text, "\n{title}:");
        for input in inputs {
            let _ = writeln!(text, "  {} ({})\n      {}", names(input).join(" | "), presence(input), input.doc);
        }
    }
    text
}

/// `docs/actions.md` between its marks.
pub fn markdown() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let table = |text: &mut String, inputs: &[Input]| {
        text.push_str("| variable | | meaning |\n| --- | --- | --- |\n");
        for input in inputs {
            let names: Vec<_> = names(input).iter().map(|name| format!("`{name}`")).collect();
            let _ = writeln!(text, "| {} | {} | {} |", names.join(" "), presence(input), cell(input.doc));
        }
    };
    let mut text = String::new();
    for action in ACTIONS {
        let also: Vec<_> = action.also.iter().map(|name| format!("`{name}`")).collect();
        let also = if also.is_empty() { String::new() } else { format!(" Also called as {}.", also.join(", ")) };
        let _ = writeln!(text, "### {}\n\n{}{also}\n", action.name, action.doc);
        table(&mut text, action.inputs);
        text.push('\n');
    }
    text.push_str("### Every action\n\n");
    table(&mut text, COMMON);
    text
}

/// `ironhook-actions(1)`, in the language of man pages.
pub fn manual() -> String {
    let escape = |text: &str| text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let mut text = String::from(
        ".TH IRONHOOK\\-ACTIONS 1\n.SH NAME\nironhook\\-actions \\- the disk actions of Ironhook in one program\n\
         .SH SYNOPSIS\n.B ironhook\\-actions\n.I ACTION\n.RB [ \\-\\-help ]\n.SH DESCRIPTION\n\
         Each action reads its inputs from the environment, prints its plan and then acts. The action is named by the\n\
         program's own name, by IRONHOOK_ACTION, or by the first argument. All problems of the inputs are reported at\n\
         once, before anything is touched. With DRY_RUN=true an action ends after its plan.\n",
    );
    let list = |text: &mut String, inputs: &[Input]| {
        for input in inputs {
            let names = names(input).join(", ");
            let _ = write!(
                text,
                ".TP\n.BR {} \" ({})\"\n{}\n",
                escape(&names).replace(' ', "\\ "),
                escape(&presence(input)),
                escape(input.doc)
            );
        }
    };
    for action in ACTIONS {
        let _ = writeln!(text, ".SH {}\n{}", escape(&action.name.to_uppercase()), escape(action.doc));
        if !action.also.is_empty() {
            let _ = writeln!(text, "Also called as {}.", escape(&action.also.join(", ")));
        }
        list(&mut text, action.inputs);
    }
    text.push_str(".SH EVERY ACTION\n");
    list(&mut text, COMMON);
    text.push_str(
        ".SH EXIT STATUS\n0 when everything was done and proven, 1 when not, 2 for an unknown action.\n\
         .SH ENVIRONMENT\n.TP\n.B IRONHOOK_EVENTS\nThe file to append events to, one JSON object a line.\n",
    );
    text
}
