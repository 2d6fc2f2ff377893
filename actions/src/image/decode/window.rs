//! Packed bytes with a look ahead: what was looked at is still there to be read. Must not interpret them.

use std::io::{self, BufRead, Read};

use super::Input;

/// A reader that can be looked into.
pub struct Window {
    input: Input,
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Window {
    pub fn new(input: Input) -> Self {
        Self { input, bytes: Vec::new(), at: 0, ended: false }
    }

    /// What is there without reading more.
    pub fn ahead(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Whether nothing comes after what is there.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads more; false at the end.
    pub fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.at >= self.bytes.len() / 2 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        let chunk = self.input.fill_buf()?;
        let len = chunk.len();
        self.bytes.extend_from_slice(chunk);
        self.input.consume(len);
        self.ended = len == 0;
        Ok(!self.ended)
    }
}

impl Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Window {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.bytes.len() {
            return Ok(&self.bytes[self.at..]);
        }
        if self.ended { Ok(&[]) } else { self.input.fill_buf() }
    }

    fn consume(&mut self, len: usize) {
        if self.at < self.bytes.len() {
            self.at = (self.at + len).min(self.bytes.len());
        } else if !self.ended {
            self.input.consume(len);
        }
    }
}
