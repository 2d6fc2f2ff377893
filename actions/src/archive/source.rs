//! An archive as an unpacked stream: fetched, proven as published, unpacked, and hashed as a tar, of which two digests
//! count: of the whole stream, and of it up to its end mark. Must not know what the entries are.

use std::io::{self, Cursor, Read};

use fetch::Framing;
use spec::Code;

use crate::failed::{Coded, Failed};
use crate::image::ahead::{Ahead, Fault, Tracker, ahead};
use crate::image::checksum::{Checksum, Hasher, Promise};
use crate::image::decode::decoder;
use crate::image::format::{self, LOOK, Packing, Unpack, packing};
use crate::image::proof::{Proof, Wrong};
use crate::image::published::{self, Place, code_within};

/// What is wrong with an archive as a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It comes broken.
    #[error("the archive {url} did not arrive whole")]
    Read {
        /// As it may be shown.
        url: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Packed in a way that is not known.
    #[error("cannot use the archive {url}")]
    Format {
        /// As it may be shown.
        url: String,
        /// Why not.
        source: format::Error,
    },
    /// Packed otherwise than was said.
    #[error("ARCHIVE_TYPE says that {url} is {said}, but it is {found}")]
    Type {
        /// As it may be shown.
        url: String,
        /// As it was said to be packed.
        said: &'static str,
        /// As it is packed.
        found: &'static str,
    },
    /// The decoder does not start.
    #[error("cannot unpack the archive {url}")]
    Unpack {
        /// As it may be shown.
        url: String,
        /// What the decoder said.
        source: io::Error,
    },
    /// Other bytes than promised, as published.
    #[error("digest mismatch of {url}: expected {expected}, got {actual}")]
    Digest {
        /// As it may be shown.
        url: String,
        /// As promised.
        expected: Checksum,
        /// As it came.
        actual: Checksum,
    },
    /// Other bytes than promised, unpacked.
    #[error(
        "digest mismatch of the tar in {url}: expected {expected}, got {whole} as a whole and {marked} up to its end mark"
    )]
    Content {
        /// As it may be shown.
        url: String,
        /// As promised.
        expected: Checksum,
        /// Of the whole stream.
        whole: Checksum,
        /// Up to the end mark.
        marked: Checksum,
    },
    /// Other bytes than were signed, or by somebody else.
    #[error("IMG_SIGNATURE is not a signature of {url} by IMG_PUBKEY")]
    Signature {
        /// As it may be shown.
        url: String,
    },
    /// No thread for it.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Read { source, .. } => code_within(source).unwrap_or(Code::Fetch),
            Self::Format { .. } | Self::Type { .. } | Self::Unpack { .. } => Code::Decode,
            Self::Digest { .. } | Self::Content { .. } | Self::Signature { .. } => Code::DigestMismatch,
            Self::Thread(_) => Code::Unknown,
        }
    }
}

/// The unpacked tar while it is read.
pub struct Stream {
    url: String,
    decoder: Box<dyn Read + Send>,
    published: Tracker,
    total: Option<u64>,
    packing: Packing,
    content: Promise,
    hasher: Option<Hasher>,
    marked: Option<Hasher>,
}

/// Asks for the archive and looks how it is packed.
pub fn open(
    place: &Place,
    options: &fetch::Options,
    (proof, content): (&Proof, &Promise),
    said: Option<Packing>,
) -> Result<Stream, Failed> {
    let url = place.shown();
    let file = published::open(place, options)?;
    let total = match file.framing {
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let stream = Stream::start(url, (&place.name(), file.is_proven), file.reader, (proof, content))?;
    match said.filter(|said| *said != stream.packing) {
        Some(said) => Err(Error::Type { url: stream.url, said: said.name(), found: stream.packing.name() }.into()),
        None => Ok(Stream { total, ..stream }),
    }
}

/// A layer of an image, which its reader proves itself when it is read to its end, as a decoder does.
pub fn layer(name: String, length: u64, reader: Box<dyn Read + Send>) -> Result<Stream, Error> {
    let stream = Stream::start(name, ("", true), reader, (&Proof::default(), &Promise::Waived))?;
    Ok(Stream { total: Some(length), ..stream })
}

impl Stream {
    fn start(
        url: String,
        (name, is_proven): (&str, bool),
        mut reader: Box<dyn Read + Send>,
        (proof, content): (&Proof, &Promise),
    ) -> Result<Self, Error> {
        let mut magic = Vec::new();
        let looked = reader.by_ref().take(LOOK as u64).read_to_end(&mut magic);
        looked.map_err(|source| Error::Read { url: url.clone(), source })?;
        let packing =
            packing(&magic, name, Unpack::Auto).map_err(|source| Error::Format { url: url.clone(), source })?;
        let whole = Box::new(Cursor::new(magic).chain(reader));
        let (reader, published): (Ahead, Tracker) = ahead(whole, proof.clone(), is_proven).map_err(Error::Thread)?;
        let decoder = decoder(packing, Box::new(reader));
        let decoder = decoder.map_err(|source| Error::Unpack { url: url.clone(), source })?;
        let hasher = match content {
            Promise::Checked(checksum) => Some(checksum.hasher()),
            Promise::Waived => None,
        };
        Ok(Self { url, decoder, published, total: None, packing, content: content.clone(), hasher, marked: None })
    }

    /// For the plan.
    pub fn describe(&self) -> String {
        let total = self.total.map_or_else(|| "of unknown length".into(), crate::report::size);
        let packing = if self.packing == Packing::Plain { "plain" } else { self.packing.name() };
        format!("{} ({packing} tar, {total})", self.url)
    }

    /// As it may be shown.
    pub fn name(&self) -> &str {
        &self.url
    }

    /// How far it is: bytes as published, and all of them or 0.
    pub fn position(&self) -> (u64, u64) {
        (self.published.got(), self.total.unwrap_or(0))
    }

    /// Everything up to here is the archive; what follows is padding.
    pub fn mark(&mut self) {
        self.marked = self.hasher.clone();
    }

    /// Whether the bytes were the right ones. After the last of them, or after an error, which a wrong digest explains.
    pub fn prove(&mut self, is_whole: bool) -> Result<(), Error> {
        let url = self.url.clone();
        // The reader behind goes on to the end only without its user.
        self.decoder = Box::new(io::empty());
        match self.published.verdict() {
            Err(Fault::Wrong(Wrong::Digest { expected, actual })) => {
                return Err(Error::Digest { url, expected, actual });
            }
            Err(Fault::Wrong(Wrong::Signature)) => return Err(Error::Signature { url }),
            Err(Fault::Broken(Some(source))) => return Err(Error::Read { url, source }),
            Err(Fault::Broken(None)) | Ok(()) => {}
        }
        let (Promise::Checked(expected), Some(whole), true) = (&self.content, self.hasher.take(), is_whole) else {
            return Ok(());
        };
        let marked = self.marked.take().unwrap_or_else(|| whole.clone()).finish();
        let whole = whole.finish();
        match *expected == whole || *expected == marked {
            true => Ok(()),
            false => Err(Error::Content { url, expected: expected.clone(), whole, marked }),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buf)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        Ok(n)
    }
}
