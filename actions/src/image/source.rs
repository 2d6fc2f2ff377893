//! The image as a stream of the bytes that go onto the disk: fetched, proven as published, unpacked, proven as content,
//! each on a thread of its own. Knows at its end whether every byte came. Must not touch a disk.

use std::io::{self, Cursor, Read};

use fetch::Framing;
use spec::Code;

use crate::disk::aligned::Piece;
use crate::disk::stream::Bytes;
use crate::disk::target::Content;
use crate::failed::{Coded, Failed};
use crate::image::ahead::{Fault, Tracker, ahead};
use crate::image::bmap::{self, Map, Mapped, Origin};
use crate::image::checksum::{Checksum, Of};
use crate::image::decode::decoder;
use crate::image::format::{
    self, LOOK, Layout, Packing, Unpack, check_disk, check_said, is_qcow2, looks_packed, packing,
};
use crate::image::member::{self, Member};
use crate::image::proof::{Proof, Wrong};
use crate::image::published::{self, Place, code_within};
use crate::image::qcow2::{Qcow2, ReadAt};
use crate::image::random;

/// What is wrong with the image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// Other bytes than were signed, or by somebody else.
    #[error("IMG_SIGNATURE is not a signature of {url} by IMG_PUBKEY")]
    Signature {
        /// As it may be shown.
        url: String,
    },
    /// The archive that it should be in.
    #[error("cannot find the image in the archive {url}")]
    Member {
        /// As it may be shown.
        url: String,
        /// What is wrong.
        source: member::Error,
    },
    /// Its block map, or an image that it is not the map of.
    #[error("cannot use {url} with its block map")]
    Map {
        /// As it may be shown.
        url: String,
        /// What is wrong.
        source: bmap::Error,
    },
    /// No thread for it.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Read(e) => code_within(e).unwrap_or(Code::Fetch),
            Self::Unpack { .. } | Self::Format { .. } => Code::Decode,
            Self::Uncheckable { .. } | Self::Member { source: member::Error::Missing { .. }, .. } => Code::BadInput,
            Self::Member { source: member::Error::Archive(e), .. } => code_within(e).unwrap_or(Code::Decode),
            Self::Member { .. } => Code::Decode,
            Self::Digest { .. } | Self::Signature { .. } => Code::DigestMismatch,
            Self::Map { source: bmap::Error::Differs { .. } | bmap::Error::Size { .. }, .. } => Code::DigestMismatch,
            Self::Map { .. } => Code::BadInput,
            Self::Thread(_) => Code::Unknown,
        }
    }
}

/// What to get and how to know that it is right.
#[derive(Clone)]
pub struct Request {
    /// Where it is.
    pub place: Place,
    /// How to fetch.
    pub options: fetch::Options,
    /// What it must be.
    pub proof: Proof,
    /// Which bytes the proof is about.
    pub of: Of,
    /// Whether to unpack.
    pub unpack: Unpack,
    /// How it has to be packed, when somebody said so.
    pub said: Option<Packing>,
    /// What comes out of that.
    pub layout: Layout,
    /// The name of the one file that is meant, when that is a tar archive.
    pub member: Option<String>,
}

impl Request {
    /// What is promised of these bytes.
    fn proof(&self, of: Of) -> Proof {
        if self.of == of { self.proof.clone() } else { Proof::default() }
    }
}

/// The content of an image.
pub struct Source {
    url: String,
    /// Bytes on the wire, when announced.
    total: Option<u64>,
    /// Of a file that is read in its order.
    published: Option<Tracker>,
    content: Option<Tracker>,
    head: Cursor<Vec<u8>>,
    /// Gone when the proof is asked for.
    decoder: Option<Decoder>,
    /// Bytes of the content, when known before it came.
    length: Option<u64>,
    name: &'static str,
    written_as_is: bool,
}

enum Decoder {
    Stream(Box<dyn Bytes + Send>),
    /// The published file itself.
    Plain(Counted),
    Image(Qcow2),
    Mapped(Mapped),
}

impl Read for Decoder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(buf),
            Self::Plain(plain) => plain.read(buf),
            Self::Image(image) => image.read(buf),
            Self::Mapped(mapped) => mapped.read(buf),
        }
    }
}

/// Says how far the reading is.
struct Counted {
    inner: Box<dyn Read + Send>,
    got: u64,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.got += n as u64;
        Ok(n)
    }
}

impl Bytes for Counted {}
impl Bytes for Member {}

impl Source {
    /// Asks for the image and looks at its first `head` bytes; nothing is written anywhere yet.
    pub fn open(request: &Request, head: usize) -> Result<Self, Failed> {
        Self::open_mapped(request, None, head)
    }

    /// The same with the place of its block map, if it has one.
    pub fn open_mapped(request: &Request, map: Option<&Place>, head: usize) -> Result<Self, Failed> {
        let map = map.map(|place| read_map(place, &request.options)).transpose()?;
        let url = request.place.shown();
        let of_format = |source| Error::Format { url: url.clone(), source };
        let file = published::open(&request.place, &request.options)?;
        if file.framing == Framing::UntilClose && request.proof.is_waived() {
            return Err(Error::Uncheckable { url }.into());
        }
        let mut reader = file.reader;
        let mut magic = Vec::new();
        reader.by_ref().take(LOOK as u64).read_to_end(&mut magic).map_err(Error::Read)?;
        let packing = packing(&magic, &request.place.name(), request.unpack).map_err(of_format)?;
        check_said(request.said, packing).map_err(of_format)?;
        let layout = is_qcow2(&magic, request.layout).map_err(of_format)?;
        let total = match file.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let mut source = Self {
            decoder: None,
            total,
            length: total.filter(|_| packing == Packing::Plain && request.member.is_none()),
            head: Cursor::default(),
            url: url.clone(),
            published: None,
            content: None,
            name: packing.name(),
            written_as_is: request.unpack == Unpack::Never && looks_packed(&magic),
        };
        let mut whole: Box<dyn Read + Send> = Box::new(Cursor::new(magic).chain(reader));
        let is_plain = packing == Packing::Plain && request.proof(Of::Compressed).is_waived();
        let mut mapped = None;
        if is_plain && map.is_some() && !file.is_proven && request.member.is_none() {
            // A server may have time for one connection only.
            drop(std::mem::replace(&mut whole, Box::new(io::empty())));
            mapped = source.mapped_file(request)?;
            if mapped.is_none() {
                whole = published::open(&request.place, &request.options)?.reader;
            }
        }
        if packing == Packing::Plain && request.unpack != Unpack::Never && layout {
            if map.is_some() {
                let source = bmap::Error::Text("it is the map of a raw image, and this one is qcow2");
                return Err(Error::Map { url, source }.into());
            }
            source.read_image(request, whole, file.is_proven)?;
        } else if let (Some(map), Some(file)) = (&map, mapped) {
            source.decode_mapped(Mapped::new(map.clone(), Origin::File(file)), request.proof(Of::Content))?;
        } else if is_plain && map.is_none() && !file.is_proven && request.member.is_none() {
            // Nothing to be done with it on the way, so no thread and no copy for that.
            let plain = Counted { inner: whole, got: 0 };
            match request.proof(Of::Content) {
                proof if proof.is_waived() => source.decoder = Some(Decoder::Plain(plain)),
                proof => source.decode(Box::new(plain), proof)?,
            }
        } else {
            let (reader, published) =
                ahead(whole, request.proof(Of::Compressed), file.is_proven).map_err(Error::Thread)?;
            source.published = Some(published);
            let decoder = decoder(packing, Box::new(reader)).map_err(|source| Error::Unpack { url, source })?;
            let decoder = match &request.member {
                Some(name) => source.enter(decoder, name)?,
                None => decoder,
            };
            let proof = request.proof(Of::Content);
            match map {
                Some(map) => source.decode_mapped(Mapped::new(map, Origin::Stream(decoder)), proof)?,
                None => source.decode(decoder, proof)?,
            }
        }
        source.look(head, request.unpack)?;
        Ok(source)
    }

    /// The content is one file of the archive.
    fn enter(&mut self, archive: Box<dyn Read + Send>, name: &str) -> Result<Box<dyn Bytes + Send>, Error> {
        let member = Member::find(archive, name);
        let member = member.map_err(|source| Error::Member { url: self.url.clone(), source })?;
        self.length = Some(member.size());
        Ok(Box::new(member))
    }

    /// A QEMU image is read in its own order: proven first in one pass, when that was asked for or its name promises it,
    /// then read again.
    fn read_image(&mut self, request: &Request, mut whole: Box<dyn Read + Send>, proves: bool) -> Result<(), Failed> {
        let unpack = |source| Error::Unpack { url: self.url.clone(), source };
        let proof = request.proof(Of::Compressed);
        let seen = match proof.is_waived() && !proves {
            true => None,
            false => match random::prove(&mut whole, &proof).map_err(Error::Read)? {
                Ok(seen) => Some(seen),
                Err(wrong) => return Err(self.wrong(wrong).into()),
            },
        };
        // A server may have time for one connection only.
        drop(whole);
        let mut file = random::open(&request.place, &request.options)?;
        if let Some(seen) = seen {
            file = Box::new(random::Compared::new(file, seen));
        }
        let image = Qcow2::open(file).map_err(unpack)?;
        self.length = Some(image.size());
        self.total = self.length;
        self.name = "qcow2";
        match request.proof(Of::Content) {
            proof if proof.is_waived() => self.decoder = Some(Decoder::Image(image)),
            proof => self.decode(Box::new(image), proof)?,
        }
        Ok(())
    }

    /// The file itself, where only what the map names has to be read of it.
    fn mapped_file(&self, request: &Request) -> Result<Option<Box<dyn ReadAt>>, Failed> {
        match random::open(&request.place, &request.options) {
            // A server without ranges gives it in order.
            Err(published::Error::Fetch(_)) => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    fn decode_mapped(&mut self, mapped: Mapped, proof: Proof) -> Result<(), Error> {
        self.length = Some(mapped.size());
        if proof.is_waived() {
            self.decoder = Some(Decoder::Mapped(mapped));
            return Ok(());
        }
        self.decode(Box::new(mapped), proof)
    }

    fn decode(&mut self, decoder: Box<dyn Bytes + Send>, proof: Proof) -> Result<(), Error> {
        self.decoder = Some(Decoder::Stream(if proof.is_waived() {
            decoder
        } else {
            let (decoder, tracker) = ahead(decoder, proof, false).map_err(Error::Thread)?;
            self.content = Some(tracker);
            Box::new(decoder)
        }));
        Ok(())
    }

    fn look(&mut self, len: usize, unpack: Unpack) -> Result<(), Failed> {
        let mut head = Vec::new();
        if let Some(decoder) = &mut self.decoder {
            let read = decoder.by_ref().take(len as u64).read_to_end(&mut head);
            read.map_err(|e| self.explain(e))?;
        }
        let wrong = |source| Error::Format { url: self.url.clone(), source };
        if head.is_empty() {
            return Err(wrong(format::Error::Empty).into());
        }
        if unpack != Unpack::Never {
            check_disk(&head).map_err(wrong)?;
        }
        self.head = Cursor::new(head);
        Ok(())
    }

    /// The first bytes of the content.
    pub fn head(&self) -> &[u8] {
        self.head.get_ref()
    }

    /// Bytes of the content, when known before it came.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether it looks packed and is nevertheless taken as it is.
    pub fn is_written_as_is(&self) -> bool {
        self.written_as_is
    }

    /// For the plan.
    pub fn describe(&self) -> String {
        let total = self.total.map_or_else(|| "of unknown length".into(), crate::report::size);
        format!("{} ({}, {total})", self.url, self.name)
    }

    fn wrong(&self, wrong: Wrong) -> Error {
        let url = self.url.clone();
        match wrong {
            Wrong::Digest { expected, actual } => Error::Digest { url, expected, actual },
            Wrong::Signature => Error::Signature { url },
        }
    }
}

/// Fetches and reads a block map.
fn read_map(place: &Place, options: &fetch::Options) -> Result<Map, Failed> {
    let mut text = Vec::new();
    let file = published::open(place, options)?;
    file.reader.take(bmap::LARGEST as u64 + 1).read_to_end(&mut text).map_err(Error::Read)?;
    let wrong = |source| Error::Map { url: place.shown(), source };
    let text = String::from_utf8(text).map_err(|_| wrong(bmap::Error::Text("it is no text")))?;
    Ok(Map::parse(&text).map_err(wrong)?)
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match (self.head.read(buf)?, &mut self.decoder) {
            (0, Some(decoder)) => decoder.read(buf),
            (n, _) => Ok(n),
        }
    }
}

impl Bytes for Source {
    fn skip_zeros(&mut self, most: u64) -> io::Result<u64> {
        match &mut self.decoder {
            Some(Decoder::Image(image)) if self.head.position() == self.head.get_ref().len() as u64 => {
                image.skip_zeros(most)
            }
            Some(Decoder::Mapped(mapped)) if self.head.position() == self.head.get_ref().len() as u64 => {
                mapped.skip_zeros(most)
            }
            _ => Ok(0),
        }
    }

    fn piece(&mut self, most: usize) -> io::Result<Option<Piece>> {
        match &mut self.decoder {
            Some(Decoder::Stream(stream)) if self.head.position() == self.head.get_ref().len() as u64 => {
                stream.piece(most)
            }
            _ => Ok(None),
        }
    }
}

impl Content for Source {
    fn explain(&mut self, error: io::Error) -> Failed {
        if let Some(source) = bmap::Error::within(&error).cloned() {
            return Error::Map { url: self.url.clone(), source }.into();
        }
        if self.name == Packing::Plain.name() || code_within(&error).is_some() {
            return Error::Read(error).into();
        }
        // Damage on the way shows best as the wrong digest of the published file, when that was promised.
        self.decoder = None;
        match self.published.as_ref().map_or(Ok(()), Tracker::verdict) {
            Err(Fault::Wrong(wrong)) => self.wrong(wrong).into(),
            Err(Fault::Broken(Some(error))) if code_within(&error).is_some() => Error::Read(error).into(),
            _ => Error::Unpack { url: self.url.clone(), source: error }.into(),
        }
    }

    fn prove(&mut self) -> Result<(), Failed> {
        self.decoder = None;
        for tracker in [self.published.as_ref(), self.content.as_ref()].into_iter().flatten() {
            match tracker.verdict() {
                Ok(()) => {}
                Err(Fault::Wrong(wrong)) => return Err(self.wrong(wrong).into()),
                Err(Fault::Broken(error)) => {
                    let error = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                    return Err(Error::Read(error).into());
                }
            }
        }
        Ok(())
    }

    fn position(&self) -> (u64, u64) {
        let done = match (&self.published, &self.decoder, &self.content) {
            (Some(tracker), ..) | (None, _, Some(tracker)) => tracker.got(),
            (None, Some(Decoder::Plain(plain)), None) => plain.got,
            (None, Some(Decoder::Image(image)), None) => image.position(),
            (None, Some(Decoder::Mapped(mapped)), None) => mapped.position(),
            (None, ..) => self.total.unwrap_or(0),
        };
        (done, self.total.unwrap_or(0))
    }
}
