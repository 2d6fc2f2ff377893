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
    #[error("the image is {0}, which is not supported: publish it as raw, gzip or zstd")]
    Unsupported(&'static str),
    /// It was said to be packed.
    #[error("COMPRESSED=true, but the image does not begin like gzip or zstd")]
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
    /// Something that is no disk.
    #[error("the image holds {0}, not a disk")]
    NotADisk(&'static str),
}

/// Bytes that [`packing`] looks at.
pub const LOOK: usize = 16;

const UNSUPPORTED: &[(&[u8], &str)] = &[
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (b"PK\x03\x04", "a zip archive"),
    (b"QFI\xfb", "qcow2"),
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
        (Unpack::Always, Seen::Nothing) => Err(Error::NotPacked),
        (Unpack::Auto, Seen::Nothing) => match suffix(url) {
            Some(suffix) => Err(Error::Misnamed { suffix }),
            None => Ok(Packing::Plain),
        },
    }
}

/// Whether bytes that will be written as they are look packed, for a warning.
pub fn looks_packed(magic: &[u8]) -> bool {
    seen(magic) != Seen::Nothing
}

/// Refuses what is certainly no disk, by its first (unpacked) bytes.
pub fn check_disk(head: &[u8]) -> Result<(), Error> {
    if head.get(257..262) == Some(b"ustar") {
        return Err(Error::NotADisk("a tar archive"));
    }
    match seen(head) {
        Seen::Nothing => Ok(()),
        Seen::Packed(_) => Err(Error::NotADisk("a file packed twice")),
        Seen::Other(name) => Err(Error::NotADisk(name)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Packed(Packing),
    Other(&'static str),
    Nothing,
}

fn seen(magic: &[u8]) -> Seen {
    match magic {
        [0x1f, 0x8b, 0x08, ..] => Seen::Packed(Packing::Gzip),
        // A frame, or one of the sixteen kinds of skippable frames before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Seen::Packed(Packing::Zstd),
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
        assert_eq!(packing(b"BZh9", "http://h/x.bz2", Unpack::Auto), Err(Error::Unsupported("bzip2")));
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
