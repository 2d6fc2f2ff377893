//! Names that travel between processes, as types that cannot hold a bad value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text cannot serve as an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is {problem}")]
pub struct IdError {
    what: &'static str,
    text: String,
    problem: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                match problem(&text) {
                    None => Ok(Self(text)),
                    Some(problem) => Err(IdError { what: $what, text, problem }),
                }
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Who a worker is to the server: a MAC address, a hardware UUID, or what the operator chose.
    WorkerId,
    "worker id"
);
id!(
    /// A workflow: a UUID, a name, or `namespace/name`.
    WorkflowId,
    "workflow id"
);

/// Ids become path components and log fields, so what would be harmful there is refused.
fn problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("empty")
    } else if text.len() > 253 {
        Some("longer than 253 bytes")
    } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Some("not free of spaces and control characters")
    } else if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Some("not usable as a path")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_are_accepted() {
        for text in ["52:54:00:12:34:56", "default/install", "0eba0bf8-3772-4b4a-ab9f-6ebe93b90a94"] {
            assert!(text.parse::<WorkflowId>().is_ok(), "{text}");
        }
    }

    #[test]
    fn what_would_escape_a_directory_is_refused() {
        for text in ["", "../etc", "a//b", "/a", "a b", "a\nb"] {
            assert!(text.parse::<WorkflowId>().is_err(), "{text:?}");
        }
    }
}
