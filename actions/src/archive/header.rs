//! One header block of a tar archive as numbers and names: old, ustar, star and GNU. Pure; knows nothing of the
//! blocks before and after it (`reader` does).

/// Bytes of a block.
pub const BLOCK: usize = 512;

/// What a header announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an entry before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// GNU: the data is the name of the next entry.
    LongName,
    /// GNU: the data is the link target of the next entry.
    LongLink,
    /// GNU: a file with holes.
    Sparse,
    /// GNU: the label of a volume, which is no file.
    Label,
    /// POSIX: attributes of the next entry.
    Attributes,
    /// POSIX: attributes of all entries that follow.
    Defaults,
    /// Something else.
    Other(u8),
}

impl Kind {
    fn of(flag: u8) -> Self {
        match flag {
            0 | b'0' | b'7' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' => Self::Character,
            b'4' => Self::Block,
            // GNU's incremental archives list a directory's files as its data.
            b'5' | b'D' => Self::Directory,
            b'6' => Self::Fifo,
            b'L' => Self::LongName,
            b'K' => Self::LongLink,
            b'S' => Self::Sparse,
            b'V' => Self::Label,
            b'x' | b'X' => Self::Attributes,
            b'g' => Self::Defaults,
            other => Self::Other(other),
        }
    }
}

/// What is wrong with a block.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not a header, or a damaged one.
    #[error("the checksum of the header is wrong")]
    Checksum,
    /// A field that is no number.
    #[error("the {field} {text:?} is not a number")]
    Number {
        /// Which.
        field: &'static str,
        /// What is there.
        text: String,
    },
    /// A number beyond all use.
    #[error("the {field} is out of range")]
    Range {
        /// Which.
        field: &'static str,
    },
}

/// The fields of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// What it announces.
    pub kind: Kind,
    /// Name, with its prefix.
    pub path: Vec<u8>,
    /// Link target.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes of data that follow.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Major and minor of a device.
    pub device: (u32, u32),
}

/// Whether the block is one of the two that end an archive.
pub fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Reads a block that is not zero.
pub fn parse(block: &[u8; BLOCK]) -> Result<Header, Error> {
    check(block)?;
    let kind = Kind::of(block[156]);
    let is_ustar = &block[257..263] == b"ustar\0";
    // star keeps times where others have the end of the prefix.
    let prefix = if &block[508..512] == b"tar\0" { &block[345..476] } else { &block[345..500] };
    let mut path = if is_ustar { text(prefix).to_vec() } else { Vec::new() };
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(text(&block[..100]));
    let is_device = matches!(kind, Kind::Character | Kind::Block);
    let part = |field, range: std::ops::Range<usize>| -> Result<u32, Error> {
        if !is_device {
            return Ok(0);
        }
        u32::try_from(number(field, &block[range])?).map_err(|_| Error::Range { field })
    };
    let unsigned = |field, range: std::ops::Range<usize>| {
        u64::try_from(number(field, &block[range])?).map_err(|_| Error::Range { field })
    };
    Ok(Header {
        mode: (number("mode", &block[100..108])? & 0o7777) as u32,
        uid: unsigned("owner", 108..116)?,
        gid: unsigned("group", 116..124)?,
        size: unsigned("size", 124..136)?,
        mtime: number("time", &block[136..148])?,
        link: text(&block[157..257]).to_vec(),
        device: (part("device major", 329..337)?, part("device minor", 337..345)?),
        kind,
        path,
    })
}

/// The sum of all bytes, its own field taken as spaces; old programs added them as signed.
fn check(block: &[u8; BLOCK]) -> Result<(), Error> {
    let wanted = number("checksum", &block[148..156]).map_err(|_| Error::Checksum)?;
    let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
    let unsigned: i64 = block.iter().enumerate().map(|pair| i64::from(byte(pair))).sum();
    let signed: i64 = block.iter().enumerate().map(|pair| i64::from(byte(pair) as i8)).sum();
    if wanted == unsigned || wanted == signed { Ok(()) } else { Err(Error::Checksum) }
}

/// Up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Octal digits between spaces and NULs, or GNU's binary numbers, which begin with a high bit.
pub fn number(field: &'static str, bytes: &[u8]) -> Result<i64, Error> {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return binary(bytes).ok_or(Error::Range { field });
    }
    let is_padding = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes.iter().position(|b| !is_padding(b)).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let digits = &digits[..digits.iter().position(is_padding).unwrap_or(digits.len())];
    digits
        .iter()
        .try_fold(0i64, |value, digit| match digit {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
            _ => None,
        })
        .ok_or_else(|| Error::Number { field, text: String::from_utf8_lossy(bytes).into_owned() })
}

/// Two's complement, but for the highest bit, which only marks it.
fn binary(bytes: &[u8]) -> Option<i64> {
    let is_negative = bytes[0] & 0x40 != 0;
    let first = if is_negative { bytes[0] } else { bytes[0] & 0x7f };
    let mut value: i128 = if is_negative { i128::from(first as i8) } else { i128::from(first) };
    for byte in &bytes[1..] {
        value = (value << 8) | i128::from(*byte);
    }
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_of_every_kind_are_read() {
        for (bytes, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"777777777777", 0o777_777_777_777),
            (&[0x80, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], 2 << 24),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], -2),
        ] {
            assert_eq!(number("x", bytes), Ok(value), "{bytes:?}");
        }
        assert!(number("x", b"0000689\0").is_err());
        assert!(number("x", &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_changed_block_is_noticed() {
        let mut block = [0u8; BLOCK];
        block[0] = b'a';
        block[156] = b'0';
        assert_eq!(parse(&block), Err(Error::Checksum));
        let sum: u32 = 8 * 32 + u32::from(b'a') + u32::from(b'0');
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(parse(&block).unwrap().path, b"a");
        block[1] = 1;
        assert_eq!(parse(&block), Err(Error::Checksum));
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), BLOCK)) {
            let mut block: [u8; BLOCK] = bytes.try_into().unwrap();
            let _ = parse(&block);
            // The same with a checksum that is right.
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let _ = parse(&block);
        }
    }
}
