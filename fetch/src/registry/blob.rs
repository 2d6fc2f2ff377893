//! A blob while it arrives: no byte more than was named, and at its end the digest that was named, or an error.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::model::Descriptor;
use super::{Error, hex};
use crate::Body;

/// The bytes of a blob. The digest is checked when the end is read: a reader that may stop earlier calls [`Blob::finish`].
#[derive(Debug)]
pub struct Blob {
    body: Body,
    hash: Sha256,
    got: u64,
    checked: bool,
    reference: String,
    named: Descriptor,
}

impl Blob {
    pub(crate) fn new(body: Body, reference: String, named: Descriptor) -> Self {
        Self { body, hash: Sha256::new(), got: 0, checked: false, reference, named }
    }

    /// Bytes of the whole blob.
    pub fn length(&self) -> u64 {
        self.named.size
    }

    /// Reads what is left and checks the digest.
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(|_| ())
    }

    fn differs(&self) -> io::Error {
        io::Error::other(Error::Digest {
            reference: self.reference.clone(),
            digest: self.named.digest.clone(),
            actual: format!("sha256:{}", hex(&self.hash.clone().finalize())),
            got: self.got,
            size: self.named.size,
        })
    }
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let read = self.body.read(buf)?;
        self.got += read as u64;
        if read > 0 {
            if self.got > self.named.size {
                return Err(self.differs());
            }
            self.hash.update(&buf[..read]);
            return Ok(read);
        }
        let fits = self.got == self.named.size
            && Some(hex(&self.hash.clone().finalize()).as_str()) == self.named.digest.strip_prefix("sha256:");
        if !self.checked && !fits {
            return Err(self.differs());
        }
        self.checked = true;
        Ok(0)
    }
}
