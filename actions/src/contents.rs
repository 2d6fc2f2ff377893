//! What goes into a file as an operator hands it over: plain text, base64 (RFC 4648 §4) or base64 of gzip, in a variable
//! or in a file beside the action. Bounded.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// The most that comes out of it.
const MOST: u64 = 64 << 20;

/// How it is written down.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Encoding {
    /// As it is.
    #[default]
    Plain,
    /// base64.
    Base64,
    /// Packed by gzip; in a variable that is in base64.
    Gzip,
}

/// Of a variable.
pub fn of_text(text: &str, encoding: Encoding) -> Result<Vec<u8>, String> {
    match encoding {
        Encoding::Plain => Ok(text.as_bytes().to_vec()),
        Encoding::Base64 => base64(text.as_bytes()),
        Encoding::Gzip => unpack(&base64(text.as_bytes())?),
    }
}

/// Of a file.
pub fn of_file(path: &Path, encoding: Encoding) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
    read.map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    let bytes = bounded(bytes)?;
    match encoding {
        Encoding::Plain => Ok(bytes),
        Encoding::Base64 => base64(&bytes),
        Encoding::Gzip => unpack(&bytes),
    }
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if bytes.len() as u64 > MOST { Err(format!("is more than {} MiB", MOST >> 20)) } else { Ok(bytes) }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(MOST + 1).read_to_end(&mut out);
    read.map_err(|e| format!("is not packed by gzip, or damaged: {e}"))?;
    bounded(out)
}

/// Lines may be broken anywhere; what is missing at the end is an error.
fn base64(text: &[u8]) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bad = || "is not base64 (RFC 4648, with padding)".to_owned();
    let padding = digits.iter().rev().take_while(|digit| **digit == b'=').count();
    let (used, bits) = digits.split_at(digits.len() - padding);
    if !digits.len().is_multiple_of(4) || bits.len() > 2 {
        return Err(bad());
    }
    let mut out = Vec::with_capacity(used.len() / 4 * 3 + 2);
    for group in used.chunks(4) {
        let mut word = 0;
        for digit in group {
            word = word << 6 | value(*digit).ok_or_else(bad)?;
        }
        word <<= 6 * (4 - group.len());
        let rest = word & ((1 << (8 * (4 - group.len()))) - 1);
        if group.len() == 1 || rest != 0 {
            return Err(bad());
        }
        out.extend(&word.to_be_bytes()[1..group.len()]);
    }
    Ok(out)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn base64_is_that_of_the_rfc_and_nothing_else() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9v\nYmE=", b"fooba"),
            ("+/8=", &[251, 255]),
        ] {
            assert_eq!(base64(text.as_bytes()).as_deref(), Ok(bytes), "{text}");
        }
        for wrong in ["Zg", "Zg=", "Z===", "Zm9v====", "Zm=v", "Zm9_", "Zh=="] {
            assert!(base64(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn packed_contents_come_whole_and_bounded() {
        let packed = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), packed(b"hello")).unwrap();
        assert_eq!(of_file(file.path(), Encoding::Gzip).unwrap(), b"hello");
        assert_eq!(of_text("H4sIAAAAAAAAAwMAAAAAAAAAAAA=", Encoding::Gzip).unwrap(), b"");
        std::fs::write(file.path(), &packed(b"hello")[..20]).unwrap();
        assert!(of_file(file.path(), Encoding::Gzip).unwrap_err().contains("damaged"));
        std::fs::write(file.path(), packed(&vec![0; (MOST + 1) as usize])).unwrap();
        assert!(of_file(file.path(), Encoding::Gzip).unwrap_err().contains("more than 64 MiB"));
    }
}
