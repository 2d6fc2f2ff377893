//! A digest that was promised, and the one that came.

use std::fmt::Write;

use sha2::{Digest, Sha256, Sha512};

/// Which bytes the digest is of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Of {
    /// The file as it is published.
    #[default]
    Compressed,
    /// What goes onto the disk.
    Content,
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compressed => "file as published",
            Self::Content => "content",
        })
    }
}

/// A digest that somebody promised.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checksum {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algorithm {
    Sha256,
    Sha512,
}

/// What the operator said about a digest.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Promise {
    /// It has to be this.
    Checked(Checksum),
    /// Explicitly none.
    #[default]
    Waived,
}

/// `sha256:<hex>`, `sha512:<hex>` or `none`.
pub fn parse(text: &str) -> Result<Promise, String> {
    let bad = || format!("{text:?} is not sha256:<64 hex digits>, sha512:<128 hex digits> or none");
    if text.trim() == "none" {
        return Ok(Promise::Waived);
    }
    let (name, hex) = text.trim().split_once(':').ok_or_else(bad)?;
    let (algorithm, length) = match name {
        "sha256" => (Algorithm::Sha256, 64),
        "sha512" => (Algorithm::Sha512, 128),
        _ => return Err(bad()),
    };
    if hex.len() != length || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    Ok(Promise::Checked(Checksum { algorithm, hex: hex.to_ascii_lowercase() }))
}

impl Checksum {
    /// Begins to hash.
    pub fn hasher(&self) -> Hasher {
        match self.algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{name}:{}", self.hex)
    }
}

/// A digest in the making.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// What it came to.
    pub fn finish(self) -> Checksum {
        match self {
            Self::Sha256(hash) => Checksum { algorithm: Algorithm::Sha256, hex: hex(&hash.finalize()) },
            Self::Sha512(hash) => Checksum { algorithm: Algorithm::Sha512, hex: hex(&hash.finalize()) },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_found_again_in_any_case() {
        let text = "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let Promise::Checked(promised) = parse(text).unwrap() else { panic!() };
        let mut hasher = promised.hasher();
        hasher.update(b"abc");
        assert_eq!(hasher.finish(), promised);
        assert_eq!(promised.to_string(), text.to_ascii_lowercase());
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "sha256:", "md5:00", "None", &format!("sha256:{}", "g".repeat(64)), &"a".repeat(64)] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("none"), Ok(Promise::Waived));
    }
}
