//! A file on a web server that is read in any order, by ranges of the one version that was there at the beginning. Reads
//! ahead on one connection as long as the order is nearly that of the file.

use std::io::{self, Read};

use crate::body::{self, Body};
use crate::client::Client;
use crate::error::Why;
use crate::{Error, Framing, Options, Response};

/// Bytes that are cheaper to read over than to ask for anew.
const NEAR: u64 = 1 << 20;

/// Such a file.
#[derive(Debug)]
pub struct Ranged {
    body: Body,
    length: u64,
    /// A read failed, so nobody knows where the connection is.
    lost: bool,
}

impl Ranged {
    /// Asks for it; a server that announces no length or gives nothing to recognise the file by is refused.
    pub fn open(urls: &[String], options: &Options) -> Result<Self, Error> {
        let clients = urls.iter().map(|url| Client::new(url, options)).collect::<Result<_, _>>()?;
        Self::begin(body::open(clients)?)
    }

    /// Of an answer that is at hand.
    pub(crate) fn begin(response: Response) -> Result<Self, Error> {
        let Response { framing, mut reader } = response;
        reader.stay_single();
        match framing {
            Framing::Length(length) if reader.is_recognisable() => Ok(Self { body: reader, length, lost: false }),
            _ => Err(reader.refused(Why::NoValidator)),
        }
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads all of `buf` from `offset`.
    pub fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let done = self.go_to(offset).and_then(|()| self.body.read_exact(buf));
        self.lost = done.is_err();
        done
    }

    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        match offset.checked_sub(self.body.position()).filter(|gap| *gap <= NEAR && !self.lost) {
            Some(gap) => io::copy(&mut self.body.by_ref().take(gap), &mut io::sink()).map(drop),
            None => Ok(self.body.seek(offset)?),
        }
    }
}
