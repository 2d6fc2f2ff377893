//! The file as it is published, wherever that is: on web servers, in a registry, in a file system.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use fetch::registry::{self, Access, Reference, Repository};
use fetch::{Framing, Options, Ranged};
use spec::Code;

use crate::failed::Coded;

/// What is wrong with getting it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A web server.
    #[error("cannot fetch the image")]
    Fetch(#[source] fetch::Error),
    /// A registry.
    #[error("cannot get the image from the registry")]
    Registry(#[source] registry::Error),
    /// Not one file.
    #[error("{reference} has {what}; name one as {reference}#<title>")]
    Layers {
        /// What was asked for.
        reference: String,
        /// What is there instead of one layer.
        what: String,
    },
    /// A file.
    #[error("cannot open the image {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Fetch(e) => code_of(e),
            Self::Registry(e) => code_of_registry(e),
            Self::Layers { .. } | Self::Open { .. } => Code::Fetch,
        }
    }
}

/// The code of a broken read of such a file.
pub fn code_within(error: &io::Error) -> Option<Code> {
    fetch::Error::within(error).map(code_of).or_else(|| registry::Error::within(error).map(code_of_registry))
}

fn code_of(error: &fetch::Error) -> Code {
    match error {
        fetch::Error::Truncated { .. } | fetch::Error::Broken { .. } => Code::Truncated,
        fetch::Error::Url { .. } => Code::BadInput,
        _ => Code::Fetch,
    }
}

pub(crate) fn code_of_registry(error: &registry::Error) -> Code {
    match error {
        registry::Error::Fetch(e) => code_of(e),
        registry::Error::Digest { .. } => Code::DigestMismatch,
        registry::Error::Reference { .. } => Code::BadInput,
        _ => Code::Fetch,
    }
}

/// Where it is.
#[derive(Clone, Debug)]
pub enum Place {
    /// The same file on one or more web servers; may hold secrets.
    Web(Vec<String>),
    /// A layer of an image, or an artifact.
    Registry {
        /// Its name.
        reference: Reference,
        /// Which layer, by its annotation `org.opencontainers.image.title`.
        title: Option<String>,
        /// Who asks.
        access: Box<Access>,
    },
    /// A file.
    File(PathBuf),
}

impl Place {
    /// As it may be shown.
    pub fn shown(&self) -> String {
        match self {
            Self::Web(urls) => urls.first().map(|url| fetch::redacted(url)).unwrap_or_default(),
            Self::Registry { reference, .. } => reference.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// What the name of the file is known to be, for its suffix.
    pub fn name(&self) -> String {
        match self {
            Self::Web(urls) => urls.first().cloned().unwrap_or_default(),
            Self::Registry { title, .. } => title.clone().unwrap_or_default(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// A file that has begun to arrive.
pub struct Published {
    /// How its end is known.
    pub framing: Framing,
    /// Whether its bytes are proven by the name they were asked by.
    pub is_proven: bool,
    /// Its bytes.
    pub reader: Box<dyn Read + Send>,
}

/// Asks for it.
pub fn open(place: &Place, options: &Options) -> Result<Published, Error> {
    match place {
        Place::Web(urls) => {
            let response = fetch::open_any(urls, options).map_err(Error::Fetch)?;
            Ok(Published { framing: response.framing, is_proven: false, reader: Box::new(response.reader) })
        }
        Place::File(path) => {
            let failed = |source| Error::Open { path: path.clone(), source };
            let mut file = File::open(path).map_err(failed)?;
            // The end of a block device is its size, too.
            let length = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
            io::Seek::rewind(&mut file).map_err(failed)?;
            let reader = Whole { file, left: length };
            Ok(Published { framing: Framing::Length(length), is_proven: false, reader: Box::new(reader) })
        }
        Place::Registry { reference, title, access } => layer(reference, title.as_deref(), access),
    }
}

/// A file that must not become shorter while it is read.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read(&mut buf[..most])?;
        if n == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

const TITLE: &str = "org.opencontainers.image.title";

fn layer(reference: &Reference, title: Option<&str>, access: &Access) -> Result<Published, Error> {
    let (mut repository, layer) = named_layer(reference, title, access)?;
    let blob = repository.blob(&layer).map_err(Error::Registry)?;
    Ok(Published { framing: Framing::Length(blob.length()), is_proven: true, reader: Box::new(blob) })
}

/// The same, to be read in any order and compared with what a pass over it proved.
pub fn ranged(reference: &Reference, title: Option<&str>, access: &Access) -> Result<Ranged, Error> {
    let (mut repository, layer) = named_layer(reference, title, access)?;
    repository.ranged(&layer).map_err(Error::Registry)
}

fn named_layer(
    reference: &Reference,
    title: Option<&str>,
    access: &Access,
) -> Result<(Repository, registry::Descriptor), Error> {
    let mut repository = Repository::new(reference, access).map_err(Error::Registry)?;
    let image = match repository.artifact() {
        // An index: the image for this machine.
        Err(registry::Error::MediaType { .. }) => repository.image(architecture()),
        other => other,
    }
    .map_err(Error::Registry)?;
    let titled = |layer: &&registry::Descriptor| match title {
        Some(title) => layer.annotations.get(TITLE).is_some_and(|t| t == title),
        None => true,
    };
    let layers: Vec<_> = image.manifest.layers.iter().filter(titled).collect();
    let [layer] = layers.as_slice() else {
        let titles: Vec<_> = image.manifest.layers.iter().filter_map(|l| l.annotations.get(TITLE)).cloned().collect();
        let what = match (image.manifest.layers.len(), titles.as_slice()) {
            (0, _) => "no layers".to_owned(),
            (n, []) => format!("{n} layers without titles"),
            (n, titles) => format!("{n} layers, titled {}", titles.join(", ")),
        };
        return Err(Error::Layers { reference: reference.to_string(), what });
    };
    let layer = (*layer).clone();
    Ok((repository, layer))
}

/// As Go names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
