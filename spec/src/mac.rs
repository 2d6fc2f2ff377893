//! A MAC address: one canonical form (lower case, colons), many accepted spellings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// The text is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: {0:?} (expected six pairs of hexadecimal digits, as in 52:54:00:12:34:56)")]
pub struct ParseMacError(String);

impl Mac {
    /// From the six octets in the order of the wire.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The six octets in the order of the wire.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// As pxelinux names its files and as BOOTIF carries it: `52-54-00-12-34-56`.
    pub fn with_dashes(self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    /// Accepts colons, dashes, Cisco's dotted quads and no separator; either case; and BOOTIF's `01-` prefix.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseMacError(text.to_owned());
        let bare = match text.strip_prefix("01-") {
            Some(rest) if rest.len() == 17 => rest,
            _ => text,
        };
        let separators = bare.chars().filter(|c| matches!(c, ':' | '-' | '.')).count();
        let uniform = [(0, 12), (5, 17), (2, 14)].contains(&(separators, bare.len()));
        let digits: String = bare.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
        if !uniform || digits.len() != 12 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let mut octets = [0; 6];
        for (i, octet) in octets.iter_mut().enumerate() {
            *octet = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| refuse())?;
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_one_canonical_form() {
        for text in ["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "5254.00ab.cdef", "525400ABCDEF", "01-52-54-00-ab-cd-ef"]
        {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "52:54:00:ab:cd:ef", "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:eg", "52:54:00:ab:cd:ef:00", "é2:54:00:ab:cd:e"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
