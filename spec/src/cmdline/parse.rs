//! Text to [`Cmdline`]: literal, total, and silent about nothing.
//! Fields are split at spaces and once at the first `=`; there is no quoting, because no loader agrees on one
//! (wire reference §1.1). Of a key given twice the last value counts, and the repetition is a problem that is told.

use std::fmt;

use super::{Key, Kind, key};
use crate::mac::Mac;

/// A command line, split and classified, nothing resolved.
#[derive(Clone, Default)]
pub struct Cmdline {
    known: Vec<(&'static str, Option<String>)>,
    unknown: Vec<String>,
}

/// Something about the line that a person should know of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The key it is about.
    pub key: &'static str,
    /// What is wrong, without the value of a secret.
    pub what: String,
    /// Only a repetition: the line can be obeyed all the same.
    pub repeated: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

impl fmt::Debug for Cmdline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cmdline").field("known", &self.describe()).field("unknown", &self.unknown).finish()
    }
}

impl Cmdline {
    /// Never fails: what is wrong with a value is told by [`Cmdline::problems`].
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        for field in text.split([' ', '\t', '\n', '\r']).filter(|field| !field.is_empty()) {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (field, None),
            };
            match key(name) {
                Some(key) => line.known.push((key.name, value)),
                None => line.unknown.push(field.to_owned()),
            }
        }
        line
    }

    /// The value of a key: the last one given; none if absent, bare, or empty.
    pub fn get(&self, key: &Key) -> Option<&str> {
        let (_, value) = self.known.iter().rev().find(|(name, _)| *name == key.name)?;
        value.as_deref().filter(|value| !value.is_empty())
    }

    /// A key of kind `Bool`; a malformed value is a problem and counts as absent.
    pub fn get_bool(&self, key: &Key) -> Option<bool> {
        self.get(key).and_then(parse_bool)
    }

    /// The interface that the machine was booted from.
    pub fn boot_mac(&self) -> Option<Mac> {
        [&super::HW_ADDR, &super::BOOTIF].into_iter().find_map(|key| self.get(key)?.parse().ok())
    }

    /// Fields that are none of ours: the kernel's own, other programs', or misspelt.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The known keys as given, in order, for the console: secrets masked.
    pub fn describe(&self) -> Vec<(&'static str, &str)> {
        self.known
            .iter()
            .map(|(name, value)| {
                let secret = key(name).is_some_and(|key| key.secret);
                (*name, if secret { "***" } else { value.as_deref().unwrap_or("") })
            })
            .collect()
    }

    /// All that is wrong, at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (i, (name, value)) in self.known.iter().enumerate() {
            let Some(key) = key(name) else { continue };
            let what = match value.as_deref() {
                None => Some("given without a value".to_owned()),
                Some("") => None,
                Some(value) => misfit(key, value),
            };
            problems.extend(what.map(|what| Problem { key: key.name, what, repeated: false }));
            if self.known[..i].iter().any(|(earlier, _)| earlier == name) {
                let what = "given more than once; the last value counts".into();
                problems.push(Problem { key: key.name, what, repeated: true });
            }
        }
        problems
    }
}

/// Go's `strconv.ParseBool`, which every stock component uses.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn misfit(key: &Key, value: &str) -> Option<String> {
    let fits = match key.kind {
        Kind::Text | Kind::List => true,
        Kind::Bool => parse_bool(value).is_some(),
        Kind::Mac => value.parse::<Mac>().is_ok(),
        Kind::Number => value.parse::<u32>().is_ok(),
        Kind::Url => {
            ["http://", "https://"].iter().any(|scheme| value.len() > scheme.len() && value.starts_with(scheme))
        }
        Kind::Authority => {
            value.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        }
    };
    let expected = match key.kind {
        Kind::Bool => "true or false",
        Kind::Mac => "a MAC address",
        Kind::Number => "a number",
        Kind::Url => "an http or https URL",
        Kind::Authority => "host:port",
        Kind::Text | Kind::List => "text",
    };
    let shown = if key.secret { "***" } else { value };
    (!fits).then(|| format!("{shown:?} is not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use proptest::prelude::*;

    #[test]
    fn values_with_equals_signs_and_line_ends_are_kept_whole() {
        let line = Cmdline::parse("registry_password=abc== grpc_authority=10.0.0.1:42113\n");
        assert_eq!(line.get(&REGISTRY_PASSWORD), Some("abc=="));
        assert_eq!(line.get(&GRPC_AUTHORITY), Some("10.0.0.1:42113"));
        assert!(line.problems().is_empty());
    }

    #[test]
    fn all_problems_are_told_at_once_and_none_stops_the_rest() {
        let line = Cmdline::parse("tinkerbell_tls hw_addr=zz grpc_authority=x worker_id=a worker_id=b quiet");
        let told: Vec<String> = line.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "tinkerbell_tls: given without a value",
                "hw_addr: \"zz\" is not a MAC address",
                "grpc_authority: \"x\" is not host:port",
                "worker_id: given more than once; the last value counts",
            ]
        );
        assert_eq!(line.get(&WORKER_ID), Some("b"));
        assert_eq!(line.unknown(), ["quiet"]);
    }

    #[test]
    fn a_secret_is_never_described() {
        let line = Cmdline::parse("registry_password=hunter2 registry_username=bob");
        assert_eq!(line.describe(), [("registry_password", "***"), ("registry_username", "bob")]);
        assert!(!format!("{:?} {line:?}", line.problems()).contains("hunter2"));
    }

    #[test]
    fn bootif_is_understood() {
        let line = Cmdline::parse("BOOTIF=01-52-54-00-12-34-56");
        assert_eq!(line.boot_mac().unwrap().to_string(), "52:54:00:12:34:56");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let line = Cmdline::parse(&text);
            let _ = (line.problems(), line.describe(), line.boot_mac());
        }

        #[test]
        fn rendered_lines_parse_back(values in proptest::collection::vec("[!-~]{1,20}", KEYS.len())) {
            let mut renderer = Renderer::default();
            for (key, value) in KEYS.iter().zip(&values) {
                renderer.set(key, value);
            }
            let line = Cmdline::parse(&renderer.finish(100_000).unwrap());
            for (key, value) in KEYS.iter().zip(&values) {
                prop_assert_eq!(line.get(key), Some(value.as_str()));
            }
        }
    }
}
