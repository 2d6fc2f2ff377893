//! The environment as typed inputs, or all problems at once. Pure: the environment is a function that is passed in.
//! Unknown variables are ignored (a container has many); a known one with a bad value is a problem, never a default.

use std::path::PathBuf;
use std::time::Duration;

use spec::{Code, Secret};

use crate::failed::Coded;
use crate::select::{self, Selector};

/// One input of an action.
#[derive(Debug)]
pub struct Input {
    /// The variable.
    pub name: &'static str,
    /// Other names of the field for the same.
    pub also: &'static [&'static str],
    /// Whether it has to be there.
    pub presence: Presence,
    /// What it means and which values it takes.
    pub doc: &'static str,
}

/// An input with one name that may be absent.
pub const fn optional(name: &'static str, doc: &'static str) -> Input {
    Input { name, also: &[], presence: Presence::Optional, doc }
}

/// An input with one name and a value in its absence.
pub const fn or(name: &'static str, value: &'static str, doc: &'static str) -> Input {
    Input { name, also: &[], presence: Presence::Default(value), doc }
}

/// What the absence of an input means. An empty value counts as absent.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    /// A problem.
    Required,
    /// Nothing.
    Optional,
    /// This value.
    Default(&'static str),
}

/// The disk an action works on; every action takes both of the field's names.
pub const DEST_DISK: Input = Input {
    name: "DEST_DISK",
    also: &["DISK", "BLOCK_DEVICE"],
    presence: Presence::Required,
    doc: "The disk: a path below /dev, also below /dev/disk/by-*, or what it is like, as serial=S3X*, size>=100GB,smallest \
          or transport=nvme,partition=2. Exactly one has to match.",
};
/// Stop after the plan.
pub const DRY_RUN: Input = Input {
    name: "DRY_RUN",
    also: &[],
    presence: Presence::Default("false"),
    doc: "Print the plan and change nothing.",
};
/// How long a device may take to appear.
pub const WAIT_DEVICE_SECONDS: Input = Input {
    name: "WAIT_DEVICE_SECONDS",
    also: &[],
    presence: Presence::Default("60"),
    doc: "How long to wait for the device to appear.",
};
/// Consent to write to what can be pulled out.
pub const ALLOW_REMOVABLE: Input = Input {
    name: "ALLOW_REMOVABLE",
    also: &[],
    presence: Presence::Default("false"),
    doc: "Accept a disk that the kernel calls removable.",
};

/// What every action reads besides its own inputs.
pub const COMMON: &[Input] = &[
    Input {
        name: "LOG_FORMAT",
        also: &[],
        presence: Presence::Default("text"),
        doc: "text, or json: each line of the log is an object, and the last one is the result.",
    },
    Input {
        name: "LOG_LEVEL",
        also: &[],
        presence: Presence::Default("info"),
        doc: "info, warn (no progress, no details) or error (nothing but the reason of a failure).",
    },
    Input {
        name: "REPORT_PATH",
        also: &[],
        presence: Presence::Optional,
        doc: "Write the result as JSON to this file: action, plan, outcome, failure.",
    },
    Input {
        name: "REPORT_URL",
        also: &[],
        presence: Presence::Optional,
        doc: "Send the same by POST to this http or https URL; a failure of that is only a warning.",
    },
];

/// What [`COMMON`] says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Common {
    /// Lines of the log are JSON.
    pub is_json: bool,
    /// Which lines are shown.
    pub level: Level,
    /// A file for the result.
    pub report_path: Option<PathBuf>,
    /// A URL for the result.
    pub report_url: Option<String>,
}

/// How important a line has to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Level {
    /// Everything.
    #[default]
    Info,
    /// What is unusual.
    Warn,
    /// Why it failed.
    Error,
}

impl Common {
    /// Reads it; what is wrong is said by the action, together with everything else.
    pub fn read(lookup: Lookup<'_>) -> Self {
        Self::from(&mut Reader { inputs: &[], lookup, problems: Vec::new() })
    }

    fn from(r: &mut Reader<'_>) -> Self {
        let levels = [("info", Level::Info), ("debug", Level::Info), ("warn", Level::Warn), ("error", Level::Error)];
        Self {
            is_json: r.value("LOG_FORMAT", one_of(&[("text", false), ("json", true)])),
            level: r.value("LOG_LEVEL", one_of(&levels)),
            report_path: r.optional("REPORT_PATH", path),
            report_url: r.optional("REPORT_URL", url),
        }
    }
}

/// Everything that is wrong with the inputs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad inputs: {}", .0.join("; "))]
pub struct Problems(pub Vec<String>);

impl Coded for Problems {
    fn code(&self) -> Code {
        Code::BadInput
    }
}

/// A way to look up a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads inputs and gathers problems.
pub struct Reader<'a> {
    inputs: &'static [Input],
    lookup: Lookup<'a>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Of one action's table.
    pub fn new(inputs: &'static [Input], lookup: Lookup<'a>) -> Self {
        let mut reader = Self { inputs, lookup, problems: Vec::new() };
        // For its problems.
        Common::from(&mut reader);
        reader
    }

    /// A value that is required or has a default. After a problem it is a placeholder that [`Self::finish`] keeps from
    /// being used.
    pub fn value<T: Default>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.optional(name, parse).unwrap_or_default()
    }

    /// A value that may be absent.
    pub fn optional<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (used, text) = self.raw(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{used} {problem}"));
                None
            }
        }
    }

    /// Whether anything was wrong so far.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Something that only all inputs together show.
    pub fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Success when there was no problem.
    pub fn finish(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    /// The text and the name it was found under.
    fn raw(&mut self, name: &str) -> Option<(&'static str, String)> {
        let Some(input) = self.inputs.iter().chain(COMMON).find(|i| i.name == name) else {
            self.problems.push(format!("{name} is not in the table of this action"));
            return None;
        };
        let set: Vec<(&'static str, String)> = std::iter::once(&input.name)
            .chain(input.also)
            .filter_map(|n| (self.lookup)(n).filter(|text| !text.is_empty()).map(|text| (*n, text)))
            .collect();
        if let [(first, a), .., (last, b)] = set.as_slice()
            && a != b
        {
            self.problems.push(format!("{first} and {last} mean the same and differ"));
            return None;
        }
        match (set.into_iter().next(), input.presence) {
            (Some(found), _) => Some(found),
            (None, Presence::Default(value)) => Some((input.name, value.to_owned())),
            (None, Presence::Optional) => None,
            (None, Presence::Required) => {
                self.problems.push(format!("{name} is required"));
                None
            }
        }
    }
}

/// Any text.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// An absolute path.
pub fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text.trim());
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is not an absolute path")) }
}

/// An http or https URL.
pub fn url(text: &str) -> Result<String, String> {
    let is_url = ["http://", "https://"].iter().any(|s| text.strip_prefix(s).is_some_and(|rest| !rest.is_empty()));
    if is_url { Ok(text.to_owned()) } else { Err(format!("{:?} is not an http or https URL", fetch::redacted(text))) }
}

/// Headers of a request: lines of `Name: value`. What is wrong is told without the value.
pub fn headers(text: &str) -> Result<Vec<(String, Secret)>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate();
    let header = |(n, line): (usize, &str)| match line.split_once(':') {
        Some((name, value)) if !name.is_empty() && name.bytes().all(is_token) => {
            Ok((name.to_owned(), Secret::new(value.trim())))
        }
        _ => Err(format!("line {} is not <name>: <value>", n + 1)),
    };
    lines.map(header).collect()
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A disk: its path, or what it is like.
pub fn disk(text: &str) -> Result<Selector, String> {
    select::parse(text)
}

/// Disks: paths, or what they are like.
pub fn disks(text: &str) -> Result<Vec<Selector>, String> {
    select::parse_list(text)
}

/// What Go's ParseBool takes, and YAML's other words for it.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.trim() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => match other.to_ascii_lowercase().as_str() {
            "y" | "yes" | "on" => Ok(true),
            "n" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is not a boolean; use true or false")),
        },
    }
}

/// A decimal number.
pub fn number(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a decimal number"))
}

/// Whole seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    number(text).map(|n| Duration::from_secs(n.into())).map_err(|_| format!("{text:?} is not a number of seconds"))
}

/// Whole minutes.
pub fn minutes(text: &str) -> Result<Duration, String> {
    number(text)
        .map(|n| Duration::from_secs(60 * u64::from(n)))
        .map_err(|_| format!("{text:?} is not a number of minutes"))
}

/// Permission bits in octal, with or without a leading `0` or `0o`.
pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0o").unwrap_or(digits);
    let bad = || format!("{text:?} is not an octal mode up to 7777");
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777 && !digits.starts_with('+')).ok_or_else(bad)
}

/// One of a few words.
pub fn one_of<'t, T: Copy>(words: &'t [(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> + 't {
    move |text| {
        words.iter().find(|(word, _)| *word == text.trim()).map(|(_, value)| *value).ok_or_else(|| {
            let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            format!("{text:?} is none of {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INPUTS: &[Input] =
        &[DEST_DISK, DRY_RUN, Input { name: "MODE", also: &[], presence: Presence::Optional, doc: "A mode." }];

    fn read(pairs: &[(&str, &str)]) -> Result<(PathBuf, bool, Option<u32>), Problems> {
        let lookup = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let mut reader = Reader::new(INPUTS, &lookup);
        let values = (reader.value("DEST_DISK", path), reader.value("DRY_RUN", boolean), reader.optional("MODE", mode));
        reader.finish().map(|()| values)
    }

    #[test]
    fn defaults_synonyms_and_unknown_variables() {
        let read = read(&[("BLOCK_DEVICE", "/dev/sda"), ("MODE", ""), ("OTHER", "x")]).unwrap();
        assert_eq!(read, (PathBuf::from("/dev/sda"), false, None));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let problems = read(&[("DRY_RUN", "maybe"), ("MODE", "0999")]).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "bad inputs: DEST_DISK is required; DRY_RUN \"maybe\" is not a boolean; use true or false; \
             MODE \"0999\" is not an octal mode up to 7777"
        );
    }

    #[test]
    fn two_names_for_one_input_must_agree() {
        assert!(read(&[("BLOCK_DEVICE", "/dev/sda"), ("DEST_DISK", "/dev/sda")]).is_ok());
        let problems = read(&[("BLOCK_DEVICE", "/dev/sda"), ("DEST_DISK", "/dev/sdb")]).unwrap_err();
        assert_eq!(problems.0, ["DEST_DISK and BLOCK_DEVICE mean the same and differ"]);
    }

    #[test]
    fn booleans_are_those_of_the_field() {
        for (text, value) in
            [("1", true), ("T", true), ("yes", true), ("On", true), ("0", false), ("F", false), ("NO", false)]
        {
            assert_eq!(boolean(text), Ok(value), "{text}");
        }
        for text in ["2", "tRuE", "", "ja"] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".*") {
            let _ = (boolean(&text), number(&text), seconds(&text), minutes(&text), mode(&text), path(&text));
        }

        #[test]
        fn modes_round_trip(value in 0u32..=0o7777) {
            prop_assert_eq!(mode(&format!("{value:o}")), Ok(value));
            prop_assert_eq!(mode(&format!("0{value:o}")), Ok(value));
        }
    }
}
