//! The image as a stream of the bytes that go onto the disk: fetched, hashed as published, unpacked, hashed as content.
//! Knows at its end whether every byte came. Must not touch a disk.

use std::cell::RefCell;
use std::io::{self, BufReader, Cursor, Read};
use std::rc::Rc;

use fetch::Framing;
use flate2::bufread::MultiGzDecoder;
use spec::Code;

use crate::disk::target::Content;
use crate::failed::{Coded, Failed};
use crate::image::checksum::{Checksum, Hasher, Of, Promise};
use crate::image::format::{self, LOOK, Packing, Unpack, check_disk, looks_packed, packing};

/// Read by the decoders at once.
const BUFFER: usize = 1 << 20;
/// Windows of `zstd --long=31` are accepted.
const LARGEST_WINDOW_LOG: u32 = 31;

/// What is wrong with the image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not come.
    #[error("cannot fetch the image")]
    Fetch(#[source] fetch::Error),
    /// It comes broken.
    #[error("the image did not arrive whole")]
    Read(#[source] io::Error),
    /// It cannot be unpacked.
    #[error("cannot unpack the image {url}: it is damaged or incomplete")]
    Unpack {
        /// As it may be shown.
        url: String,
        /// What the decoder said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("cannot use the image {url}")]
    Format {
        /// As it may be shown.
        url: String,
        /// Why not.
        source: format::Error,
    },
    /// Nobody could tell whether it is whole.
    #[error("the server of {url} announces no length and no digest was given, so an early end could not be noticed")]
    Uncheckable {
        /// As it may be shown.
        url: String,
    },
    /// Other bytes than promised.
    #[error("digest mismatch of {url}: expected {expected}, got {actual}")]
    Digest {
        /// As it may be shown.
        url: String,
        /// As promised.
        expected: Checksum,
        /// As it came.
        actual: Checksum,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Fetch(e) => code_of(e),
            Self::Read(e) => fetch::Error::within(e).map_or(Code::Fetch, code_of),
            Self::Unpack { .. } | Self::Format { .. } => Code::Decode,
            Self::Uncheckable { .. } => Code::BadInput,
            Self::Digest { .. } => Code::DigestMismatch,
        }
    }
}

fn code_of(error: &fetch::Error) -> Code {
    match error {
        fetch::Error::Truncated { .. } | fetch::Error::Broken { .. } => Code::Truncated,
        fetch::Error::Url { .. } => Code::BadInput,
        _ => Code::Fetch,
    }
}

/// What to get and how to know that it is right.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it is; may hold secrets.
    pub url: String,
    /// How to fetch.
    pub options: fetch::Options,
    /// What it must be.
    pub promise: Promise,
    /// Which bytes the promise is about.
    pub of: Of,
    /// Whether to unpack.
    pub unpack: Unpack,
}

/// The bytes as they come over the network.
struct Published {
    start: Cursor<Vec<u8>>,
    body: fetch::Body,
    hasher: Option<Hasher>,
    got: u64,
}

impl Read for Published {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match self.start.read(buf)? {
            0 => self.body.read(buf)?,
            n => n,
        };
        self.got += n as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        Ok(n)
    }
}

/// The same, for the decoder to read while its owner counts and, at the end, drains.
#[derive(Clone)]
struct Shared(Rc<RefCell<Published>>);

impl Read for Shared {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buf)
    }
}

/// The content of an image.
pub struct Source {
    url: String,
    promise: Promise,
    of: Of,
    /// Bytes on the wire, when announced.
    total: Option<u64>,
    packing: Packing,
    published: Shared,
    head: Cursor<Vec<u8>>,
    decoder: Box<dyn Read>,
    hasher: Option<Hasher>,
    written_as_is: bool,
}

impl Source {
    /// Asks for the image and looks at its first `head` bytes; nothing is written anywhere yet.
    pub fn open(request: &Request, head: usize) -> Result<Self, Failed> {
        let url = fetch::redacted(&request.url);
        let fetch::Response { framing, mut reader } =
            fetch::open(&request.url, &request.options).map_err(Error::Fetch)?;
        if framing == Framing::UntilClose && request.promise == Promise::Waived {
            return Err(Error::Uncheckable { url }.into());
        }
        let mut magic = Vec::new();
        reader.by_ref().take(LOOK as u64).read_to_end(&mut magic).map_err(Error::Read)?;
        let packing = packing(&magic, &request.url, request.unpack)
            .map_err(|source| Error::Format { url: url.clone(), source })?;
        let hasher = |of| match &request.promise {
            Promise::Checked(checksum) if request.of == of => Some(checksum.hasher()),
            _ => None,
        };
        let written_as_is = request.unpack == Unpack::Never && looks_packed(&magic);
        let published = Published { start: Cursor::new(magic), body: reader, hasher: hasher(Of::Compressed), got: 0 };
        let published = Shared(Rc::new(RefCell::new(published)));
        let mut source = Self {
            decoder: decoder(packing, published.clone())
                .map_err(|source| Error::Unpack { url: url.clone(), source })?,
            total: match framing {
                Framing::Length(length) => Some(length),
                Framing::Chunked | Framing::UntilClose => None,
            },
            promise: request.promise.clone(),
            of: request.of,
            hasher: hasher(Of::Content),
            head: Cursor::default(),
            url,
            packing,
            published,
            written_as_is,
        };
        source.look(head)?;
        if source.head().is_empty() {
            return Err(Error::Format { url: source.url, source: format::Error::Empty }.into());
        }
        if request.unpack != Unpack::Never {
            check_disk(source.head()).map_err(|e| Error::Format { url: source.url.clone(), source: e })?;
        }
        Ok(source)
    }

    /// The first bytes of the content.
    pub fn head(&self) -> &[u8] {
        self.head.get_ref()
    }

    /// Bytes of the content, when known before it came.
    pub fn length(&self) -> Option<u64> {
        self.total.filter(|_| self.packing == Packing::Plain)
    }

    /// Whether it looks packed and is nevertheless taken as it is.
    pub fn is_written_as_is(&self) -> bool {
        self.written_as_is
    }

    /// For the plan.
    pub fn describe(&self) -> String {
        let packing = match self.packing {
            Packing::Plain => "raw",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        };
        let total = self.total.map_or_else(|| "of unknown length".into(), crate::report::size);
        format!("{} ({packing}, {total})", self.url)
    }

    fn look(&mut self, len: usize) -> Result<(), Failed> {
        let mut head = Vec::new();
        let read = self.decoder.by_ref().take(len as u64).read_to_end(&mut head);
        read.map_err(|e| self.explain(e))?;
        self.head = Cursor::new(head);
        Ok(())
    }

    fn compare(&mut self) -> Result<(), Error> {
        let hasher = match self.of {
            Of::Compressed => self.published.0.borrow_mut().hasher.take(),
            Of::Content => self.hasher.take(),
        };
        if let (Promise::Checked(expected), Some(hasher)) = (&self.promise, hasher) {
            let actual = hasher.finish();
            if actual != *expected {
                return Err(Error::Digest { url: self.url.clone(), expected: expected.clone(), actual });
            }
        }
        Ok(())
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match self.head.read(buf)? {
            0 => self.decoder.read(buf)?,
            n => n,
        };
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        Ok(n)
    }
}

impl Content for Source {
    fn explain(&mut self, error: io::Error) -> Failed {
        if self.packing == Packing::Plain || fetch::Error::within(&error).is_some() {
            return Error::Read(error).into();
        }
        // Damage on the way shows best as the wrong digest of the published file, when that was promised.
        match self.of {
            Of::Compressed => self.prove().err(),
            Of::Content => None,
        }
        .unwrap_or_else(|| Error::Unpack { url: self.url.clone(), source: error }.into())
    }

    fn prove(&mut self) -> Result<(), Failed> {
        // A decoder may stop before the file does; what follows counts for length and digest.
        io::copy(&mut self.published, &mut io::sink()).map_err(Error::Read)?;
        Ok(self.compare()?)
    }

    fn position(&self) -> (u64, u64) {
        (self.published.0.borrow().got, self.total.unwrap_or(0))
    }
}

fn decoder(packing: Packing, published: Shared) -> io::Result<Box<dyn Read>> {
    let buffered = BufReader::with_capacity(BUFFER, published);
    Ok(match packing {
        Packing::Plain => Box::new(buffered),
        Packing::Gzip => Box::new(MultiGzDecoder::new(buffered)),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(LARGEST_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}
