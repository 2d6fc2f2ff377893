//! Templates as Tinkerbell has them: Go template text that renders to the YAML of wire reference §6.1.
//! text -> [`parse::Template`] -> (with data) [`render::Rendered`] -> [`document::Document`], each problem with its
//! line in the template. Pure: no store, no environment, no clock.

pub mod data;
pub mod document;
pub mod functions;
pub mod parse;
pub mod render;
pub mod shape;
#[cfg(test)]
mod tests;

/// Something wrong in a text that an operator wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Counts from 1; 0 when it cannot be told.
    pub line: usize,
    /// The offending key, variable or function.
    pub key: String,
    /// What is wrong, in one line.
    pub message: String,
}

impl Problem {
    /// Puts the three together.
    pub fn new(line: usize, key: impl Into<String>, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self { line, key: key.into(), message: message.replace(['\n', '\r'], " ") }
    }
}
