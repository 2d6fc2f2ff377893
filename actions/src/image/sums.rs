//! Digests in a file of their own, as sha256sum(1), sha512sum(1) and the BSD tools write it: the one for our image. Bounded.
//! Must not decide whether a file that says nothing is all right: it is an error.

use std::io::{self, Read};

use fetch::Options;
use spec::Code;

use crate::failed::Coded;
use crate::image::checksum::{self, Checksum, Promise};
use crate::image::published::{self, Place};

/// Bytes of the longest such file.
const LONGEST: u64 = 1 << 20;

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be fetched.
    #[error("cannot get the digests {url}")]
    Open {
        /// As it may be shown.
        url: String,
        /// What is wrong.
        source: published::Error,
    },
    /// It cannot be read.
    #[error("cannot read the digests {url}")]
    Read {
        /// As it may be shown.
        url: String,
        /// What is wrong.
        source: io::Error,
    },
    /// It says nothing about our image, or two things.
    #[error("{url} has {found} SHA-256 or SHA-512 digests of {name:?}, it has to be one")]
    Number {
        /// As it may be shown.
        url: String,
        /// The image.
        name: String,
        /// How many different ones.
        found: usize,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Open { source, .. } => source.code(),
            Self::Read { source, .. } => published::code_within(source).unwrap_or(Code::Fetch),
            Self::Number { .. } => Code::BadInput,
        }
    }
}

/// Fetches the file and finds the digest of the image at `image`.
pub fn fetch(url: &str, image: &Place, options: &Options) -> Result<Promise, Error> {
    let place = Place::Web(vec![url.to_owned()]);
    let shown = place.shown();
    let file = published::open(&place, options).map_err(|source| Error::Open { url: shown.clone(), source })?;
    let mut text = Vec::new();
    let read = file.reader.take(LONGEST).read_to_end(&mut text);
    read.map_err(|source| Error::Read { url: shown.clone(), source })?;
    let path = image.name();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut found = find(&String::from_utf8_lossy(&text), name);
    match found.len() {
        1 => Ok(Promise::Checked(found.remove(0))),
        found => Err(Error::Number { url: shown, name: name.to_owned(), found }),
    }
}

/// Different digests of one kind that lines give for `name`; the longer kind counts where there are both. A file of one
/// digest alone is about whatever it lies beside.
fn find(text: &str, name: &str) -> Vec<Checksum> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if let [line] = lines.as_slice()
        && let Some(sum) = sum(line)
    {
        return vec![sum];
    }
    let mut found: Vec<Checksum> = Vec::new();
    for line in lines {
        let pair = match (line.split_once(") = "), line.split_once(' ')) {
            // SHA256 (name) = hex
            (Some((head, hex)), _) => head.split_once(" (").map(|(_, name)| (name, hex)),
            (None, Some((hex, name))) => Some((name.trim_start().trim_start_matches('*'), hex)),
            (None, None) => None,
        };
        let Some((_, hex)) = pair.filter(|(of, _)| of.trim_start_matches("./") == name) else { continue };
        found.extend(sum(hex).filter(|sum| !found.contains(sum)));
    }
    let longest = found.iter().map(|sum| sum.to_string().len()).max();
    found.retain(|sum| Some(sum.to_string().len()) == longest);
    found
}

fn sum(hex: &str) -> Option<Checksum> {
    let kind = match hex.len() {
        64 => "sha256",
        128 => "sha512",
        _ => return None,
    };
    match checksum::parse(&format!("{kind}:{hex}")) {
        Ok(Promise::Checked(sum)) => Some(sum),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_it_down_is_read() {
        let (a, b, c) = ("a".repeat(64), "b".repeat(64), "c".repeat(128));
        let of = |text: &str| find(text, "os.img").iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [format!("sha256:{a}")];
        for text in [
            format!("{a}  os.img\n{b}  os.img.zst\n"),
            format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{b} *other\n{a} *./os.img\n-----BEGIN PGP SIGNATURE-----\n"),
            format!("SHA256 (os.img) = {a}\nSHA256 (x) = {b}\n"),
            format!("{a}\n"),
            format!("{a}  os.img\n{a}  ./os.img\n"),
        ] {
            assert_eq!(of(&text), expected, "{text}");
        }
        assert_eq!(of(&format!("SHA256 (os.img) = {a}\nSHA512 (os.img) = {c}\n")), [format!("sha512:{c}")]);
        assert_eq!(of(&format!("{a}  os.img\n{b}  os.img\n")).len(), 2);
        for text in ["", "hello", &format!("{b}  other\n{a}  os.img.gz"), &format!("{}  os.img\n{b}  x", &a[1..])] {
            assert!(of(text).is_empty(), "{text}");
        }
    }
}
