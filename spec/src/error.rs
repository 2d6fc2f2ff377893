//! Errors as people read them. It knows no error of its own.

use std::error::Error;

/// An error and all its causes: `what: why: why that`. One line, but for what a message itself quotes.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}

/// The same where there is room for one line only.
pub fn one_line(error: &dyn Error) -> String {
    chain(error).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    #[derive(Debug, thiserror::Error)]
    #[error("open the door")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_said_once() {
        let error = Outer(std::io::Error::other("no\nkey"));
        assert_eq!(super::chain(&error), "open the door: no\nkey");
        assert_eq!(super::one_line(&error), "open the door: no key");
    }
}
