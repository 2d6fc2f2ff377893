//! Text to [`Cmdline`]: literal, total, and silent about nothing.
//! Fields are split at spaces and once at the first `=`; there is no quoting, because no loader agrees on one
//! (wire reference §1.1). Of a key given twice the last value counts, and the repetition is a problem that is told.

use std::fmt;

use super::kind::parse_bool;
use super::{Key, key};
use crate::mac::Mac;

/// Who said a key; the first in this order is obeyed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// The kernel command line.
    CommandLine,
    /// The file of `ironhook.config`.
    Config,
    /// `/etc/ironhook/site.conf` of a site bundle.
    Site,
    /// A metadata service.
    Metadata,
}

/// A command line, split and classified, nothing resolved; together with what other sources add to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    known: Vec<Known>,
    unknown: Vec<String>,
    /// Of the command line's fields in their order: how many unknown ones come before each known one.
    places: Vec<usize>,
}

#[derive(Clone, PartialEq, Eq)]
struct Known {
    name: &'static str,
    value: Option<String>,
    origin: Origin,
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

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "the command line",
            Self::Config => "ironhook.config",
            Self::Site => super::site::PATH,
            Self::Metadata => "metadata",
        })
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
                Some(key) => {
                    line.places.push(line.unknown.len());
                    line.known.push(Known { name: key.name, value, origin: Origin::CommandLine });
                }
                None => line.unknown.push(field.to_owned()),
            }
        }
        line
    }

    /// Adds what another source says; it counts where no stronger one has said anything.
    pub fn add(&mut self, origin: Origin, key: &'static Key, value: &str) {
        self.known.push(Known { name: key.name, value: Some(value.to_owned()), origin });
    }

    /// The line again, with one space between two fields. Secrets included; what other sources said is left out.
    pub fn render(&self) -> String {
        let mut fields = Vec::with_capacity(self.places.len() + self.unknown.len());
        let mut next = 0;
        for (known, place) in self.known.iter().zip(&self.places) {
            fields.extend(self.unknown[next..*place].iter().cloned());
            next = *place;
            fields.push(match &known.value {
                Some(value) => format!("{}={value}", known.name),
                None => known.name.to_owned(),
            });
        }
        fields.extend(self.unknown[next..].iter().cloned());
        fields.join(" ")
    }

    /// The value of a key: the last one given by the strongest source; none if absent, bare, or empty.
    pub fn get(&self, key: &Key) -> Option<&str> {
        self.said(key)?.value.as_deref().filter(|value| !value.is_empty())
    }

    /// Who has said what [`Cmdline::get`] gives.
    pub fn origin(&self, key: &Key) -> Option<Origin> {
        self.said(key).map(|known| known.origin)
    }

    fn said(&self, key: &Key) -> Option<&Known> {
        // The first of the weakest in reverse is the last of the strongest.
        self.known.iter().rev().filter(|known| known.name == key.name).min_by_key(|known| known.origin)
    }

    /// A key of kind `Bool`; a malformed value is a problem and counts as absent.
    pub fn get_bool(&self, key: &Key) -> Option<bool> {
        self.get(key).and_then(parse_bool)
    }

    /// The items of a list.
    pub fn items(&self, key: &Key) -> impl Iterator<Item = &str> {
        self.get(key).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
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
        let shown = |known: &'_ Known| key(known.name).is_some_and(|key| key.secret) && known.value.is_some();
        self.known
            .iter()
            .map(|known| (known.name, if shown(known) { "***" } else { known.value.as_deref().unwrap_or("") }))
            .collect()
    }

    /// All that is wrong, at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (i, known) in self.known.iter().enumerate() {
            let Some(key) = key(known.name) else { continue };
            let what = match known.value.as_deref() {
                None => Some(format!("given without a value, expected {}={}", key.name, key.kind.expected())),
                Some("") => None,
                Some(value) => misfit(key, value),
            };
            problems.extend(what.map(|what| Problem {
                key: key.name,
                what: from(known.origin, what),
                repeated: false,
            }));
            if self.known[..i].iter().any(|earlier| earlier.name == known.name && earlier.origin == known.origin) {
                let what = "given more than once; the last value counts".into();
                problems.push(Problem { key: key.name, what: from(known.origin, what), repeated: true });
            }
        }
        problems
    }
}

fn from(origin: Origin, what: String) -> String {
    if origin == Origin::CommandLine { what } else { format!("{what} (from {origin})") }
}

/// What is wrong with a value; an URL is shown without the password that it may hold.
pub(super) fn misfit(key: &Key, value: &str) -> Option<String> {
    let shown = match value.rsplit_once('@') {
        _ if key.secret => "***".to_owned(),
        Some((_, host)) => format!("***@{host}"),
        None => value.to_owned(),
    };
    (!key.kind.fits(value)).then(|| format!("{shown:?} is not {}", key.kind.expected()))
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
        let line = Cmdline::parse("tinkerbell_tls hw_addr=zz grpc_authority=x worker_id=a worker_id=\"b quiet");
        let told: Vec<String> = line.problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "tinkerbell_tls: given without a value, expected tinkerbell_tls=true or false",
                "hw_addr: \"zz\" is not a MAC address",
                "grpc_authority: \"x\" is not host:port",
                "worker_id: \"\\\"b\" is not text without quotes (they would be part of the value: no loader removes them)",
                "worker_id: given more than once; the last value counts",
            ]
        );
        assert_eq!(line.get(&WORKER_ID), Some("\"b"));
        assert_eq!(line.unknown(), ["quiet"]);
    }

    #[test]
    fn a_secret_is_never_described() {
        let line = Cmdline::parse("registry_password=hunter2 registry_username=bob");
        assert_eq!(line.describe(), [("registry_password", "***"), ("registry_username", "bob")]);
        let quoted = Cmdline::parse("registry_password=\"hunter2 HTTP_PROXY=ftp://bob:hunter2@p");
        assert!(!format!("{:?} {line:?} {:?}", line.problems(), quoted.problems()).contains("hunter2"));
    }

    #[test]
    fn bootif_is_understood() {
        let line = Cmdline::parse("BOOTIF=01-52-54-00-12-34-56");
        assert_eq!(line.boot_mac().unwrap().to_string(), "52:54:00:12:34:56");
    }

    #[test]
    fn the_command_line_beats_the_file_beats_the_bundle_beats_metadata() {
        let mut line = Cmdline::parse("syslog_host=a syslog_host=b");
        for (origin, value) in [(Origin::Metadata, "m"), (Origin::Config, "c"), (Origin::Site, "s")] {
            line.add(origin, &SYSLOG_HOST, value);
            line.add(origin, &NO_PROXY, value);
        }
        line.add(Origin::Metadata, &REGISTRY_USERNAME, "m");
        assert_eq!((line.get(&SYSLOG_HOST), line.origin(&SYSLOG_HOST)), (Some("b"), Some(Origin::CommandLine)));
        assert_eq!((line.get(&NO_PROXY), line.origin(&NO_PROXY)), (Some("c"), Some(Origin::Config)));
        assert_eq!(line.get(&REGISTRY_USERNAME), Some("m"));
        assert_eq!(line.render(), "syslog_host=a syslog_host=b");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let line = Cmdline::parse(&text);
            let _ = (line.problems(), line.describe(), line.boot_mac());
        }

        #[test]
        fn rendering_undoes_parsing(fields in proptest::collection::vec(field(), 0..12)) {
            let text = fields.join(" ");
            let line = Cmdline::parse(&text);
            prop_assert_eq!(line.render(), text);
        }

        #[test]
        fn parsing_undoes_rendering(text in ".{0,200}") {
            let line = Cmdline::parse(&text);
            prop_assert_eq!(Cmdline::parse(&line.render()), line);
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

    /// A known key bare or with any value, or a word of somebody else's.
    fn field() -> impl Strategy<Value = String> {
        let known = (0..KEYS.len(), "(=[!-~]{0,12})?").prop_map(|(i, rest)| format!("{}{rest}", KEYS[i].name));
        prop_oneof![known, "[!-~]{1,20}"]
    }
}
