//! A tar archive as a stream of entries, in order, with everything that GNU tar, POSIX and star can say about one.
//! Memory is bounded whatever the archive claims. Must not write anywhere: what becomes of an entry is `extract`'s.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::archive::header::{self, BLOCK, Header, Kind};
use crate::archive::pax::{self, Attributes};
use crate::archive::rules::{self, Refusal};
use crate::archive::sparse::{self, Extent};

/// Names, link targets and extended attributes of one entry take at most this much.
const MOST_TEXT: u64 = 1 << 20;
/// Archives are padded to their record size; nothing needs more than this after the end.
const MOST_PADDING: u64 = 64 << 20;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream broke.
    #[error("the archive broke at byte {at}")]
    Read {
        /// Of the unpacked archive.
        at: u64,
        /// What the stream said.
        source: io::Error,
    },
    /// It ends where more must follow.
    #[error("the archive ends at byte {at}, in the middle of {of}")]
    Truncated {
        /// Of the unpacked archive.
        at: u64,
        /// What is incomplete.
        of: String,
    },
    /// A header is damaged, or this is no tar archive.
    #[error("the header at byte {at} of the archive is damaged, or this is no tar archive")]
    Header {
        /// Of the unpacked archive.
        at: u64,
        /// What is wrong.
        source: header::Error,
    },
    /// Extended attributes cannot be read.
    #[error("the attributes at byte {at} of the archive cannot be used")]
    Attributes {
        /// Of the unpacked archive.
        at: u64,
        /// What is wrong.
        source: pax::Error,
    },
    /// A map of holes cannot be used.
    #[error("the archive's entry {name:?} cannot be used")]
    Holes {
        /// Of the entry.
        name: String,
        /// What is wrong.
        source: sparse::Error,
    },
    /// A name that must not be used.
    #[error("the archive's entry {name:?} is refused")]
    Name {
        /// Of the entry.
        name: String,
        /// Why.
        source: Refusal,
    },
    /// Claims beyond all use.
    #[error("the archive claims {claimed} bytes of attributes or names at byte {at}; {MOST_TEXT} are the most")]
    Text {
        /// Of the unpacked archive.
        at: u64,
        /// By its header.
        claimed: u64,
    },
    /// An entry of a kind that cannot be extracted.
    #[error("the archive's entry {name:?} is of the unknown kind {kind:?}")]
    Kind {
        /// Of the entry.
        name: String,
        /// Its type flag.
        kind: char,
    },
    /// Bytes without end after the end.
    #[error("more than {MOST_PADDING} bytes follow the end of the archive")]
    Padding,
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A regular file; its data has to be read from the archive.
    File {
        /// Bytes, holes included.
        size: u64,
        /// Where its data belongs; none when there are no holes.
        map: Option<Vec<Extent>>,
    },
    /// Another name of an earlier entry.
    HardLink(PathBuf),
    /// A symbolic link and what it says.
    Symlink(PathBuf),
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A device: whether it is a block device, major and minor.
    Device(bool, u32, u32),
}

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Relative to the target; empty for the target itself.
    pub path: PathBuf,
    /// What it is.
    pub what: What,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// ACL as text.
    pub acl_access: Option<Vec<u8>>,
    /// Default ACL as text.
    pub acl_default: Option<Vec<u8>>,
}

/// The archive.
#[derive(Debug)]
pub struct Archive<R> {
    stream: R,
    at: u64,
    /// Of the current entry: its data, and after it the rest of its last block.
    data: u64,
    padding: u64,
    defaults: Attributes,
    current: String,
}

impl<R: Read> Archive<R> {
    /// Of an unpacked stream.
    pub fn new(stream: R) -> Self {
        Self { stream, at: 0, data: 0, padding: 0, defaults: Attributes::default(), current: "its first header".into() }
    }

    /// The stream, to ask what it knows.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// Bytes of the unpacked archive that were read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next entry, or none after the two blocks of zeros that end an archive. What was not read of the entry
    /// before is skipped.
    #[allow(clippy::should_implement_trait)] // Entries come one at a time and can fail.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        self.skip()?;
        let mut attributes = self.defaults.clone();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let (at, block) = (self.at, self.block()?);
            if header::is_zero(&block) {
                self.current = "its end".into();
                return if header::is_zero(&self.block()?) { Ok(None) } else { Err(self.damaged(at)) };
            }
            let header = header::parse(&block).map_err(|source| Error::Header { at, source })?;
            match header.kind {
                Kind::LongName => long_name = Some(self.long(&header)?),
                Kind::LongLink => long_link = Some(self.long(&header)?),
                Kind::Attributes | Kind::Defaults => {
                    let list = self.text(&header)?;
                    let to = if header.kind == Kind::Defaults { &mut self.defaults } else { &mut attributes };
                    to.read(&list).map_err(|source| Error::Attributes { at, source })?;
                    if header.kind == Kind::Defaults {
                        attributes.read(&list).map_err(|source| Error::Attributes { at, source })?;
                    }
                }
                Kind::Label => {
                    self.expect(header.size);
                    self.skip()?;
                }
                _ => {
                    let header = Header {
                        path: long_name.or(attributes.path.take()).unwrap_or(header.path),
                        link: long_link.or(attributes.link.take()).unwrap_or(header.link),
                        ..header
                    };
                    return self.entry(header, attributes, &block).map(Some);
                }
            }
        }
    }

    /// Data of the current entry, in the order of the archive; 0 at its end.
    pub fn read_data(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let most = usize::try_from(self.data).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.some(&mut buf[..most])?;
        self.data -= got as u64;
        Ok(got)
    }

    /// Reads what follows the end, to the end of the stream.
    pub fn drain(&mut self) -> Result<(), Error> {
        let at = self.at;
        let most = (&mut self.stream).take(MOST_PADDING + 1);
        let rest = io::copy(&mut { most }, &mut io::sink()).map_err(|source| Error::Read { at, source })?;
        self.at += rest;
        if rest > MOST_PADDING { Err(Error::Padding) } else { Ok(()) }
    }

    fn entry(&mut self, header: Header, attributes: Attributes, block: &[u8; BLOCK]) -> Result<Entry, Error> {
        let (sparse, size) = (attributes.sparse, attributes.size.unwrap_or(header.size));
        let name = sparse.name.clone().unwrap_or_else(|| header.path.clone());
        let shown = String::from_utf8_lossy(&name).into_owned();
        let refused = |source| Error::Name { name: shown.clone(), source };
        let is_directory = header.kind == Kind::Directory || (header.kind == Kind::File && name.ends_with(b"/"));
        let path = rules::member(&name).map_err(refused)?;
        self.current = format!("the entry {shown:?}");
        // Links and devices have none, whatever some programs write there.
        self.expect(match header.kind {
            Kind::File | Kind::Sparse | Kind::Directory => size,
            _ => 0,
        });
        let (major, minor) = header.device;
        let what = match header.kind {
            _ if is_directory => What::Directory,
            Kind::File if sparse.in_data || sparse.map.is_some() => self.holes_of_pax(sparse, &shown)?,
            Kind::File => What::File { size, map: None },
            Kind::Sparse => self.holes_of_gnu(block, size, &shown)?,
            Kind::HardLink => What::HardLink(rules::member(&header.link).map_err(refused)?),
            Kind::Symlink => What::Symlink(rules::target(&header.link).map_err(refused)?.to_owned()),
            Kind::Character => What::Device(false, major, minor),
            Kind::Block => What::Device(true, major, minor),
            Kind::Fifo => What::Fifo,
            Kind::Other(flag) => return Err(Error::Kind { name: shown, kind: flag.into() }),
            _ => return Err(Error::Kind { name: shown, kind: '?' }),
        };
        let id = |wide: u64, field| {
            let source = header::Error::Range { field };
            u32::try_from(wide).map_err(|_| Error::Header { at: self.at, source })
        };
        Ok(Entry {
            path,
            what,
            mode: header.mode,
            uid: id(attributes.uid.unwrap_or(header.uid), "owner")?,
            gid: id(attributes.gid.unwrap_or(header.gid), "group")?,
            mtime: attributes.mtime.unwrap_or((header.mtime, 0)),
            xattrs: attributes.xattrs,
            acl_access: attributes.acl_access,
            acl_default: attributes.acl_default,
        })
    }

    fn holes_of_pax(&mut self, sparse: pax::Sparse, name: &str) -> Result<What, Error> {
        let failed = |source| Error::Holes { name: name.to_owned(), source };
        let size = sparse.size.ok_or(failed(sparse::Error::Shape))?;
        let map = match sparse.map {
            Some(map) if !sparse.in_data => map,
            _ => {
                let (map, taken) = sparse::lines(|| self.block())?.map_err(failed)?;
                self.data = self.data.checked_sub(taken).ok_or(failed(sparse::Error::Shape))?;
                map
            }
        };
        let map = sparse::check(map, size, self.data).map_err(failed)?;
        Ok(What::File { size, map: Some(map) })
    }

    /// The map begins in the header and goes on in blocks after it.
    fn holes_of_gnu(&mut self, block: &[u8; BLOCK], data: u64, name: &str) -> Result<What, Error> {
        let failed = |source| Error::Holes { name: name.to_owned(), source };
        let mut map = Vec::new();
        sparse::pairs(&block[386..482], &mut map).map_err(failed)?;
        let mut is_extended = block[482] != 0;
        while is_extended {
            let more = self.block()?;
            sparse::pairs(&more[..504], &mut map).map_err(failed)?;
            is_extended = more[504] != 0;
        }
        let size = header::number("size", &block[483..495]).ok().and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or(failed(sparse::Error::Shape))?;
        let map = sparse::check(map, size, data).map_err(failed)?;
        Ok(What::File { size, map: Some(map) })
    }

    /// A GNU long name, whose data ends with a NUL.
    fn long(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let bytes = self.text(header)?;
        Ok(header::text(&bytes).to_vec())
    }

    fn text(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        if header.size > MOST_TEXT {
            return Err(Error::Text { at: self.at, claimed: header.size });
        }
        self.expect(header.size);
        let mut bytes = vec![0; header.size as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_data(&mut bytes[filled..])?;
        }
        self.skip()?;
        Ok(bytes)
    }

    fn expect(&mut self, size: u64) {
        self.data = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<(), Error> {
        self.data = self.data.saturating_add(std::mem::take(&mut self.padding));
        let mut buffer = [0; 8192];
        while self.read_data(&mut buffer)? > 0 {}
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK], Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            filled += self.some(&mut block[filled..])?;
        }
        Ok(block)
    }

    /// At least one byte: an end here is one too early.
    fn some(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.stream.read(buf) {
                Ok(0) => return Err(Error::Truncated { at: self.at, of: self.current.clone() }),
                Ok(got) => {
                    self.at += got as u64;
                    return Ok(got);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { at: self.at, source }),
            }
        }
    }

    fn damaged(&self, at: u64) -> Error {
        Error::Header { at, source: header::Error::Checksum }
    }
}
