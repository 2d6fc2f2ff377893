//! A form of one file and its map (RFC 7578), as a stream: the parts around a body whose length nobody knows before.

use std::io::{self, Cursor, Read};

use crate::pack::{End, Pack};

/// The field that the field's servers look for.
const FIELD: &str = "BootyImage";
/// Ours, which they ignore.
const MAP: &str = "BootyBmap";

/// The whole body of the request.
pub struct Form {
    boundary: String,
    name: String,
    before: Cursor<Vec<u8>>,
    image: Pack,
    end: End,
    /// Known when the image has ended.
    after: Option<Cursor<Vec<u8>>>,
}

impl Form {
    /// Around this image.
    pub fn new(name: &str, image: Pack, end: End) -> Self {
        let boundary = format!("ironhook-{}", uuid::Uuid::new_v4().simple());
        let before = format!("--{boundary}\r\n{}", part(FIELD, name, "application/octet-stream"));
        let before = Cursor::new(before.into_bytes());
        Self { boundary, name: name.to_owned(), before, image, end, after: None }
    }

    /// For the header of that name.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }
}

fn part(field: &str, file: &str, kind: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{field}\"; filename=\"{file}\"\r\nContent-Type: {kind}\r\n\r\n")
}

impl Read for Form {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.after.is_none() {
            match self.before.read(buf)? {
                0 => {}
                n => return Ok(n),
            }
            match self.image.read(buf)? {
                0 if buf.is_empty() => return Ok(0),
                0 => {}
                n => return Ok(n),
            }
            let map = self.end.packed()?.bmap();
            let file = format!("{}.bmap", self.name);
            let text =
                format!("\r\n--{0}\r\n{1}{map}\r\n--{0}--\r\n", self.boundary, part(MAP, &file, "application/xml"));
            self.after = Some(Cursor::new(text.into_bytes()));
        }
        match &mut self.after {
            Some(after) => after.read(buf),
            None => Ok(0),
        }
    }
}
