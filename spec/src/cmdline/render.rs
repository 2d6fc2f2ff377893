//! The inverse of parsing, for boot scripts. What could not be parsed back is refused, not mended.

use super::Key;

/// Collects fields in order.
#[derive(Default, Debug)]
pub struct Renderer {
    fields: Vec<String>,
    refused: Vec<String>,
}

/// The line cannot be passed to a kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A value holds a space or a control character.
    #[error("no kernel command line can carry the value of {0}: it has spaces or control characters, or is empty")]
    Value(String),
    /// The kernel would cut it.
    #[error("the kernel command line has {length} bytes, {limit} are possible")]
    TooLong {
        /// What it would have.
        length: usize,
        /// What the kernel keeps.
        limit: usize,
    },
}

impl Renderer {
    /// Appends `name=value`.
    pub fn set(&mut self, key: &Key, value: &str) -> &mut Self {
        if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.refused.push(key.name.to_owned());
        }
        self.fields.push(format!("{}={value}", key.name));
        self
    }

    /// Appends fields as an operator wrote them, or the kernel's own.
    pub fn raw(&mut self, fields: &str) -> &mut Self {
        self.fields.extend(fields.split_whitespace().map(str::to_owned));
        self
    }

    /// The line, if it fits into `limit` bytes.
    pub fn finish(self, limit: usize) -> Result<String, RenderError> {
        if let Some(name) = self.refused.into_iter().next() {
            return Err(RenderError::Value(name));
        }
        let line = self.fields.join(" ");
        if line.len() > limit { Err(RenderError::TooLong { length: line.len(), limit }) } else { Ok(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[test]
    fn a_value_with_a_space_is_refused_by_name() {
        let mut renderer = Renderer::default();
        renderer.set(&FACILITY, "onprem console=ttyS0");
        assert_eq!(renderer.finish(LIMIT).unwrap_err(), RenderError::Value("facility".into()));
    }

    #[test]
    fn a_line_too_long_says_by_how_much() {
        let mut renderer = Renderer::default();
        renderer.set(&WORKER_ID, &"x".repeat(3000));
        assert_eq!(renderer.finish(LIMIT_EFI).unwrap_err(), RenderError::TooLong { length: 3010, limit: LIMIT_EFI });
    }
}
