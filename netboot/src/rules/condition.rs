//! The `when` of a rule: field matches joined by all, any and not. Reads YAML, answers yes or the reason of a no.
//! An unknown fact or a value that makes no sense is an error when the rule is read, never later.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Subject;

/// Facts that a rule may ask for; `label.<key>` besides.
pub const FACTS: [&str; 22] = [
    "mac",
    "uuid",
    "serial",
    "manufacturer",
    "product",
    "vendorClass",
    "userClass",
    "arch",
    "firmware",
    "interface",
    "relay",
    "circuitId",
    "remoteId",
    "address",
    "known",
    "name",
    "allowPXE",
    "alwaysNetboot",
    "custom",
    "workflow",
    "instance",
    "boots",
];

/// Facts that only a script's query tells.
const ASKED: [&str; 3] = ["serial", "manufacturer", "product"];

/// When a rule decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Every one.
    All(Vec<Condition>),
    /// At least one.
    Any(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// A fact is one of these.
    Is(String, Vec<Pattern>),
}

/// What a fact is compared with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Text, any case; `*` stands for anything.
    Text(String),
    /// `>=n`.
    AtLeast(u64),
    /// `<n`.
    Below(u64),
}

impl Default for Condition {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}

impl Condition {
    /// `Err`: why not.
    pub fn holds(&self, subject: &Subject<'_>) -> Result<(), String> {
        match self {
            Self::All(all) => all.iter().try_for_each(|each| each.holds(subject)),
            Self::Any(any) => {
                let mut reasons = Vec::new();
                for each in any {
                    match each.holds(subject) {
                        Ok(()) => return Ok(()),
                        Err(reason) => reasons.push(reason),
                    }
                }
                Err(format!("none of: {}", reasons.join("; ")))
            }
            Self::Not(inner) => match inner.holds(subject) {
                Ok(()) => Err(format!("not: {inner}")),
                Err(_) => Ok(()),
            },
            Self::Is(fact, patterns) => match subject.fact(fact) {
                Some(value) if patterns.iter().any(|pattern| pattern.fits(&value)) => Ok(()),
                Some(value) => Err(format!("{fact} is {value:?}, not {}", list(patterns))),
                None => Err(format!("{fact} is not known")),
            },
        }
    }

    /// The same without the reason, for every packet.
    pub fn is(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|each| each.is(subject)),
            Self::Any(any) => any.iter().any(|each| each.is(subject)),
            Self::Not(inner) => !inner.is(subject),
            Self::Is(fact, patterns) => {
                subject.fact(fact).is_some_and(|value| patterns.iter().any(|pattern| pattern.fits(&value)))
            }
        }
    }

    /// Whether it needs what only the machine's own script can tell.
    pub fn asks(&self) -> bool {
        match self {
            Self::All(inner) | Self::Any(inner) => inner.iter().any(Self::asks),
            Self::Not(inner) => inner.asks(),
            Self::Is(fact, _) => ASKED.contains(&fact.as_str()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |each: &[Self]| each.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::All(all) => f.write_str(&join(all)),
            Self::Any(any) => write!(f, "any of ({})", join(any)),
            Self::Not(inner) => write!(f, "not ({inner})"),
            Self::Is(fact, patterns) => write!(f, "{fact} is {}", list(patterns)),
        }
    }
}

impl Pattern {
    fn read(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.trim().parse().map_err(|_| format!("{text:?} compares with no number"));
        match text.trim() {
            t if t.starts_with(">=") => number(&t[2..]).map(Self::AtLeast),
            t if t.starts_with('<') => number(&t[1..]).map(Self::Below),
            t => Ok(Self::Text(t.to_lowercase())),
        }
    }

    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Text(pattern) => glob(pattern.as_bytes(), value.to_lowercase().as_bytes()),
            Self::AtLeast(least) => value.parse::<u64>().is_ok_and(|n| n >= *least),
            Self::Below(end) => value.parse::<u64>().is_ok_and(|n| n < *end),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::AtLeast(n) => write!(f, ">={n}"),
            Self::Below(n) => write!(f, "<{n}"),
        }
    }
}

fn list(patterns: &[Pattern]) -> String {
    patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// `*` is anything. Goes back to the last star only, so it takes at most the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Condition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of facts, or all, any, not")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Condition, A::Error> {
                let mut all = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    all.push(match key.as_str() {
                        "all" => Condition::All(map.next_value()?),
                        "any" => Condition::Any(map.next_value()?),
                        "not" => Condition::Not(map.next_value()?),
                        fact if FACTS.contains(&fact) || fact.strip_prefix("label.").is_some_and(|k| !k.is_empty()) => {
                            Condition::Is(fact.to_owned(), map.next_value::<Patterns>()?.0)
                        }
                        other => {
                            let known = FACTS.join(", ");
                            return Err(A::Error::custom(format_args!(
                                "{other:?} is no fact; known: all, any, not, label.<key>, {known}"
                            )));
                        }
                    });
                }
                Ok(match <[_; 1]>::try_from(all) {
                    Ok([only]) => only,
                    Err(all) => Condition::All(all),
                })
            }
        }
        from.deserialize_map(Map)
    }
}

/// One scalar or several.
struct Patterns(Vec<Pattern>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct One;
        fn read<E: Error>(text: &str) -> Result<Patterns, E> {
            Pattern::read(text).map(|one| Patterns(vec![one])).map_err(E::custom)
        }
        impl<'de> Visitor<'de> for One {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false, or a list of them")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Patterns, E> {
                read(&value.to_string())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Patterns, E> {
                read(&value.to_string())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Patterns, E> {
                read(&value.to_string())
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Patterns, E> {
                read(value)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
                let mut all = Vec::new();
                while let Some(Patterns(one)) = list.next_element()? {
                    all.extend(one);
                }
                Ok(Patterns(all))
            }
        }
        from.deserialize_any(One)
    }
}
