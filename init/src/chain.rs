//! An error and all its causes as the one line that a person reads.

use std::error::Error;

/// `what: why: why that`.
pub fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    #[derive(Debug, thiserror::Error)]
    #[error("open the door")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_said_once() {
        let error = Outer(std::io::Error::other("no\nkey"));
        assert_eq!(super::one_line(&error), "open the door: no key");
    }
}
