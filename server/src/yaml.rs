//! YAML of operators -> types, with the line and the key of what is wrong. Knows no object.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options};

use crate::template::Problem;

/// Reads a text that holds one document.
pub fn one<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| problem(&error))
}

impl Problem {
    /// Fills in the key that stands on the line, when the reader did not tell one.
    pub fn keyed(self, text: &str) -> Self {
        let line = text.lines().nth(self.line.saturating_sub(1)).filter(|_| self.line > 0 && self.key.is_empty());
        let key = line.and_then(|line| line.split_once(':')).map(|(key, _)| key.trim().trim_start_matches("- "));
        match key.filter(|key| !key.is_empty() && !key.contains(char::is_whitespace)) {
            Some(key) => Self { key: key.to_owned(), ..self },
            None => self,
        }
    }
}

fn options() -> Options {
    serde_saphyr::options! { with_snippet: false }
}

fn problem(error: &Error) -> Problem {
    let error = error.without_snippet();
    let line = error.location().map_or(0, |location| usize::try_from(location.line()).unwrap_or(0));
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            Problem::new(line, field, format!("unknown field {field:?}, known here: {}", expected.join(", ")))
        }
        Error::SerdeMissingField { field, .. } => Problem::new(line, *field, format!("{field} is missing")),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.clone().unwrap_or_default();
            Problem::new(line, &key, format!("key {key:?} is there twice"))
        }
        other => {
            let message = other.to_string();
            // The place is told apart from the message.
            let end = message.find(" at line ").filter(|_| line > 0).unwrap_or(message.len());
            Problem::new(line, "", &message[..end])
        }
    }
}
