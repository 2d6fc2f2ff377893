//! `bootkit stage2`: has the layer of stage two where init looks for it. Fetched from beside the initramfs, verified
//! while it comes, put in place by rename; a layer that came as a second initramfs is there already.
//! Mounting it is init's.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fetch::Options;
use sha2::{Digest, Sha256};
use spec::boot::BootCode;
use spec::cmdline::{Cmdline, GRPC_AUTHORITY, IRONHOOK_SERVER, IRONHOOK_STAGE2};
use spec::paths::SITE_CA;
use spec::stage::{FETCHED, FILE, Layer, MAX_FILE};
use sys::clock;

use crate::console::{phase, say};
use crate::failure::Coded;
use crate::lease::{self, LeaseError};

/// Where our server has the initramfs.
const BESIDE: &str = "/misc/osie/current";
/// The server's port of files.
const PORT: u16 = 7080;
const CHUNK: usize = 128 << 10;

/// The layer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Stage2Error {
    /// The description in the image.
    #[error("cannot read {FILE}; bind /etc/ironhook into this service, or take it out of an image with one stage")]
    Read(#[source] io::Error),
    /// Its content.
    #[error(transparent)]
    Layer(#[from] spec::stage::Error),
    /// No address to fetch from.
    #[error("nobody says where the layer is: neither ironhook.stage2 nor ironhook.server nor grpc_authority is given")]
    NoServer,
    /// Waiting for the network.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Fetching.
    #[error("cannot fetch {url}")]
    Fetch {
        /// From where.
        url: String,
        /// Why.
        #[source]
        source: fetch::Error,
    },
    /// Writing it down, or reading on.
    #[error("cannot copy {url} to {}", path.display())]
    Copy {
        /// From where.
        url: String,
        /// To where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another file.
    #[error("{url} has the sha256 {found}, and {FILE} wants {expected}: the layer belongs to another initramfs")]
    Digest {
        /// From where.
        url: String,
        /// What came.
        found: String,
        /// What was to come.
        expected: String,
    },
    /// Too much or too little.
    #[error("{url} is not the {expected} bytes that {FILE} wants: the layer belongs to another initramfs")]
    Size {
        /// From where.
        url: String,
        /// What was to come.
        expected: u64,
    },
}

impl Coded for Stage2Error {
    fn code(&self) -> BootCode {
        match self {
            Self::Read(_) | Self::Layer(_) => BootCode::Program,
            Self::NoServer => BootCode::NoServer,
            Self::Lease(_) => BootCode::Network,
            Self::Fetch { .. } | Self::Copy { .. } => BootCode::ConfigFetch,
            Self::Digest { .. } | Self::Size { .. } => BootCode::Digest,
        }
    }
}

/// To its end; when the layer is there already, at once.
pub fn run(line: &Cmdline) -> Result<(), Stage2Error> {
    let mut text = Vec::new();
    let open = File::open(FILE).and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut text));
    open.map_err(Stage2Error::Read)?;
    let layer = Layer::parse(&text)?;
    let target = Path::new(FETCHED).join(&layer.file);
    // Also a link that leads nowhere from here: init's word for a layer that it has found by itself.
    if target.symlink_metadata().is_ok() {
        say("stage2: the layer is there");
        return Ok(());
    }
    let url = url(line, &layer)?;
    lease::wait("stage2")?;
    let start = clock::boot_ms();
    fetch_to(&url, &layer, &target)?;
    phase("stage two fetch", start, format_args!("stage2: {} bytes of {}", layer.size, fetch::redacted(&url)));
    Ok(())
}

fn url(line: &Cmdline, layer: &Layer) -> Result<String, Stage2Error> {
    let base = match (line.get(&IRONHOOK_STAGE2), line.get(&IRONHOOK_SERVER), line.get(&GRPC_AUTHORITY)) {
        (Some(directory), ..) => directory.trim_end_matches('/').to_owned(),
        (None, Some(server), _) => format!("{}{BESIDE}", server.trim_end_matches('/')),
        (None, None, Some(authority)) => {
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            format!("http://{host}:{PORT}{BESIDE}")
        }
        (None, None, None) => return Err(Stage2Error::NoServer),
    };
    Ok(format!("{base}/{}", layer.file))
}

/// Under another name first: what bears the name is whole and proven.
fn fetch_to(url: &str, layer: &Layer, target: &Path) -> Result<(), Stage2Error> {
    let ca = PathBuf::from(SITE_CA);
    let options = Options { ca_file: ca.exists().then_some(ca), ..Options::default() };
    let shown = fetch::redacted(url).to_string();
    let response = fetch::open(url, &options).map_err(|source| Stage2Error::Fetch { url: shown.clone(), source })?;
    let size = || Stage2Error::Size { url: shown.clone(), expected: layer.size };
    if response.length().is_some_and(|length| length != layer.size) {
        return Err(size());
    }
    let new = target.with_extension("part");
    let copied = |source| Stage2Error::Copy { url: shown.clone(), path: new.clone(), source };
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory).map_err(copied)?;
    }
    // One byte more than it may be, so that more can be told from enough.
    let (length, found) = copy(response.reader.take(layer.size + 1), &new).map_err(copied)?;
    let proven = if length != layer.size {
        Err(size())
    } else if found != layer.sha256 {
        Err(Stage2Error::Digest { url: shown.clone(), found, expected: layer.sha256.clone() })
    } else {
        fs::rename(&new, target).map_err(copied)
    };
    if proven.is_err() {
        // It is of no use and takes memory; when it cannot go, the next try writes over it.
        let _ = fs::remove_file(&new);
    }
    proven
}

fn copy(mut from: impl Read, to: &Path) -> io::Result<(u64, String)> {
    let mut file = File::create(to)?;
    let mut digest = Sha256::new();
    let mut length = 0;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        length += count as u64;
    }
    Ok((length, digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn layer(bytes: &[u8]) -> Layer {
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Layer { file: "stage2-x86_64.squashfs".into(), sha256, size: bytes.len() as u64 }
    }

    #[test]
    fn the_layer_is_beside_the_initramfs_unless_somebody_says_otherwise() {
        let url = |text: &str| url(&Cmdline::parse(text), &layer(b"x")).map_err(|error| error.to_string());
        let file = "stage2-x86_64.squashfs";
        assert_eq!(
            url("grpc_authority=10.0.0.1:42113").unwrap(),
            format!("http://10.0.0.1:7080/misc/osie/current/{file}")
        );
        let server = "ironhook.server=https://boot.site/ grpc_authority=a:1";
        assert_eq!(url(server).unwrap(), format!("https://boot.site/misc/osie/current/{file}"));
        assert_eq!(url(&format!("{server} ironhook.stage2=http://b/c/")).unwrap(), format!("http://b/c/{file}"));
        assert!(url("quiet").unwrap_err().contains("ironhook.stage2"));
    }

    /// Answers one request with the bytes.
    fn served(bytes: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/layer", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let _ = client.read(&mut [0; 4096]).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            client.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
        });
        url
    }

    #[test]
    fn only_what_is_proven_bears_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("deep/stage2.squashfs");
        for (bytes, word) in [(&b"other"[..], "the sha256"), (b"longer than it", "is not the 5 bytes")] {
            let error = fetch_to(&served(bytes), &layer(b"layer"), &target).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(target.parent().unwrap().read_dir().map_or(0, Iterator::count), 0, "nothing is left behind");
        fetch_to(&served(b"layer"), &layer(b"layer"), &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"layer");
    }
}
