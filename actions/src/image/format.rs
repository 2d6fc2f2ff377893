//! What the first bytes of a file say about it. The name is asked only when it contradicts. Pure.

/// How a file is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// Not at all, as far as can be seen.
    Plain,
    /// gzip, any number of members.
    Gzip,
    /// Zstandard, any number of frames.
    Zstd,
    /// xz, any number of streams.
    Xz,
    /// bzip2, any number of streams.
    Bzip2,
    /// lz4, any number of frames.
    Lz4,
}

impl Packing {
    /// For the plan.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "raw",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "lz4",
        }
    }
}

/// What the unpacked bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Layout {
    /// By the magic bytes.
    #[default]
    Auto,
    /// What goes onto the disk, in order.
    Raw,
    /// A QEMU image.
    Qcow2,
}

/// What the operator wants done about it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Unpack {
    /// By the magic bytes.
    #[default]
    Auto,
    /// It must be packed.
    Always,
    /// Bytes go onto the disk as they are.
    Never,
}

/// Why a file is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Recognised, but not done here.
    #[error(
        "the image is {0}, which is not supported: publish it as raw or qcow2, or raw packed by gzip, bzip2, xz, zstd or lz4"
    )]
    Unsupported(&'static str),
    /// It was said to be packed.
    #[error("COMPRESSED=true, but the image begins like none of gzip, bzip2, xz, zstd, lz4")]
    NotPacked,
    /// The name says otherwise.
    #[error("the image is named {suffix} but does not begin like one")]
    Misnamed {
        /// As in the URL.
        suffix: &'static str,
    },
    /// Nothing to write.
    #[error("the image is empty")]
    Empty,
    /// It was said to be packed otherwise.
    #[error("COMPRESSION says {said}, but the image begins like {seen}")]
    Otherwise {
        /// As asked for.
        said: &'static str,
        /// As it is.
        seen: &'static str,
    },
    /// It was said to be a QEMU image.
    #[error("SOURCE_FORMAT=qcow2, but the image does not begin like one")]
    NotQcow2,
    /// It has to be read in another order than it comes.
    #[error(
        "the image is a packed qcow2, which cannot be read in its order: publish it as qcow2, which can pack its clusters, or as packed raw"
    )]
    PackedQcow2,
    /// Something that is no disk.
    #[error("the image holds {0}, not a disk")]
    NotADisk(&'static str),
}

/// Bytes that [`packing`] looks at.
pub const LOOK: usize = 16;

const UNSUPPORTED: &[(&[u8], &str)] = &[
    (&[0x02, 0x21, 0x4c, 0x18], "lz4 in its legacy format, which has no end mark"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"KDMV", "vmdk"),
    (b"vhdxfile", "vhdx"),
];
const SUFFIXES: &[&str] = &[".gz", ".zst", ".zs", ".xz", ".bz2", ".bzip2", ".lz4"];

/// How to unpack a file that begins with `magic` and is at `url`.
pub fn packing(magic: &[u8], url: &str, unpack: Unpack) -> Result<Packing, Error> {
    let seen = seen(magic);
    match (unpack, seen) {
        (Unpack::Never, _) => Ok(Packing::Plain),
        (_, Seen::Other(name)) => Err(Error::Unsupported(name)),
        (_, Seen::Packed(packing)) => Ok(packing),
        (Unpack::Always, Seen::Nothing | Seen::Qcow2) => Err(Error::NotPacked),
        (Unpack::Auto, Seen::Qcow2) => Ok(Packing::Plain),
        (Unpack::Auto, Seen::Nothing) => match suffix(url) {
            Some(suffix) => Err(Error::Misnamed { suffix }),
            None => Ok(Packing::Plain),
        },
    }
}

/// That the file is packed as somebody said.
pub fn check_said(said: Option<Packing>, seen: Packing) -> Result<(), Error> {
    match said {
        Some(said) if said != seen => Err(Error::Otherwise { said: said.name(), seen: seen.name() }),
        _ => Ok(()),
    }
}

/// Whether bytes that are not packed have to be read as qcow2.
pub fn is_qcow2(magic: &[u8], layout: Layout) -> Result<bool, Error> {
    match (layout, seen(magic)) {
        (Layout::Raw, _) => Ok(false),
        (_, Seen::Qcow2) => Ok(true),
        (Layout::Qcow2, _) => Err(Error::NotQcow2),
        (Layout::Auto, _) => Ok(false),
    }
}

/// Whether bytes that will be written as they are look packed, for a warning.
pub fn looks_packed(magic: &[u8]) -> bool {
    matches!(seen(magic), Seen::Packed(_) | Seen::Other(_))
}

/// Refuses what is certainly no disk, by its first (unpacked) bytes.
pub fn check_disk(head: &[u8]) -> Result<(), Error> {
    if head.get(257..262) == Some(b"ustar") {
        return Err(Error::NotADisk("a tar archive"));
    }
    match seen(head) {
        Seen::Nothing => Ok(()),
        Seen::Packed(_) => Err(Error::NotADisk("a file packed twice")),
        Seen::Qcow2 => Err(Error::PackedQcow2),
        Seen::Other(name) => Err(Error::NotADisk(name)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Packed(Packing),
    Qcow2,
    Other(&'static str),
    Nothing,
}

fn seen(magic: &[u8]) -> Seen {
    match magic {
        [0x1f, 0x8b, 0x08, ..] => Seen::Packed(Packing::Gzip),
        // A frame, or one of the sixteen kinds of skippable frames before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Seen::Packed(Packing::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Seen::Packed(Packing::Xz),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Seen::Packed(Packing::Bzip2),
        [0x04, 0x22, 0x4d, 0x18, ..] => Seen::Packed(Packing::Lz4),
        [b'Q', b'F', b'I', 0xfb, ..] => Seen::Qcow2,
        _ => {
            UNSUPPORTED.iter().find(|(m, _)| magic.starts_with(m)).map_or(Seen::Nothing, |(_, name)| Seen::Other(name))
        }
    }
}

fn suffix(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    SUFFIXES.iter().copied().find(|suffix| path.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GZIP: &[u8] = &[0x1f, 0x8b, 8, 0];
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    const RAW: &[u8] = &[0xeb, 0x63, 0x90, 0];

    #[test]
    fn magic_decides_whatever_the_name_is() {
        for url in ["http://h/x.raw", "http://h/x.gz?sig=1", "http://h/x"] {
            assert_eq!(packing(GZIP, url, Unpack::Auto), Ok(Packing::Gzip));
            assert_eq!(packing(ZSTD, url, Unpack::Always), Ok(Packing::Zstd));
            assert_eq!(packing(ZSTD, url, Unpack::Never), Ok(Packing::Plain));
        }
        assert_eq!(packing(RAW, "http://h/x.raw?from=a.gz", Unpack::Auto), Ok(Packing::Plain));
    }

    #[test]
    fn contradictions_are_errors() {
        assert_eq!(packing(RAW, "http://h/x.GZ?a", Unpack::Auto), Err(Error::Misnamed { suffix: ".gz" }));
        assert_eq!(packing(RAW, "http://h/x", Unpack::Always), Err(Error::NotPacked));
        let legacy = packing(&[2, 0x21, 0x4c, 0x18], "http://h/x.lz4", Unpack::Auto);
        assert!(matches!(legacy, Err(Error::Unsupported(_))), "{legacy:?}");
    }

    #[test]
    fn a_qemu_image_is_read_as_one_unless_told_otherwise() {
        const QCOW: &[u8] = b"QFI\xfb\0\0\0\x03";
        assert_eq!(packing(QCOW, "http://h/x.img", Unpack::Auto), Ok(Packing::Plain));
        assert_eq!(is_qcow2(QCOW, Layout::Auto), Ok(true));
        assert_eq!(is_qcow2(QCOW, Layout::Raw), Ok(false));
        assert_eq!(is_qcow2(RAW, Layout::Qcow2), Err(Error::NotQcow2));
        assert_eq!(check_disk(QCOW), Err(Error::PackedQcow2));
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(check_disk(&tar), Err(Error::NotADisk("a tar archive")));
        assert_eq!(check_disk(GZIP), Err(Error::NotADisk("a file packed twice")));
        assert_eq!(check_disk(RAW), Ok(()));
        assert_eq!(check_disk(&[]), Ok(()));
    }
}
