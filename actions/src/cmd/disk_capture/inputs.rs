//! The inputs of `disk-capture`, as its help and the manual show them, and what an operator wants by them.

use std::path::PathBuf;
use std::time::Duration;

use fetch::Options as Fetch;

use crate::input::{self, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS, optional, or};
use crate::pack::Packing;
use crate::select::Selector;

/// The name under which an image is posted as a form.
const UPSTREAM: &str = "slurp";

/// All of them.
pub const INPUTS: &[Input] = &[
    Input {
        name: "SOURCE_DISK",
        also: &["DISK", "BLOCK_DEVICE"],
        presence: Presence::Required,
        doc: "The disk or partition to read: a path below /dev, or a selector.",
    },
    Input {
        name: "DEST_URL",
        also: &[],
        presence: Presence::Required,
        doc: "Where the image goes: an http or https URL, or the path of a file.",
    },
    optional(
        "UPLOAD",
        "put, or multipart: a form with the field BootyImage, which is the default under the name slurp.",
    ),
    or("IMG_NAME", "disk", "Name of the image in a form; .img, and .gz or .zst where it is packed, is added."),
    or("COMPRESSED", "false", "As in slurp: pack it by gzip."),
    optional("COMPRESSION", "none, gz or zst (in frames that can be unpacked at once); instead of COMPRESSED."),
    or("FORCE", "false", "Capture a disk that is mounted or held, whose image may be inconsistent."),
    optional("CA_BUNDLE", "PEM file of certificate authorities to trust besides the well-known ones."),
    or("STALL_TIMEOUT_SECONDS", "60", "How long the server may take nothing and say nothing."),
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];

/// Where the image goes.
#[derive(Debug)]
pub enum Destination {
    /// A file, with a `.bmap` beside it.
    File(PathBuf),
    /// A URL, with a `.bmap` beside it.
    Put(String),
    /// A form, with the map as its second part.
    Multipart(String),
}

/// The environment.
pub struct Wish {
    pub disk: Selector,
    pub destination: Destination,
    pub packing: Packing,
    pub force: bool,
    pub fetch: Fetch,
    pub wait: Duration,
    pub dry_run: bool,
    name: String,
}

impl Wish {
    /// Of the image in a form.
    pub fn name(&self) -> String {
        let suffix = match self.packing {
            Packing::None => "",
            Packing::Gzip => ".gz",
            Packing::Zstd => ".zst",
        };
        format!("{}.img{suffix}", self.name)
    }

    /// Whether the image is as long as the disk.
    pub fn is_plain(&self) -> bool {
        self.packing == Packing::None
    }
}

/// Reads it.
pub fn read(called: &str, lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let disk = r.value("SOURCE_DISK", input::disk);
    let destination = r.optional("DEST_URL", destination);
    let is_form = r.optional("UPLOAD", input::one_of(&[("put", false), ("multipart", true)]));
    if is_form.is_some() && matches!(destination, Some(Destination::File(_))) {
        r.problem("UPLOAD is about servers, and DEST_URL is a file");
    }
    let destination = match (destination, is_form.unwrap_or(called == UPSTREAM)) {
        (Some(Destination::Put(url)), true) => Some(Destination::Multipart(url)),
        (destination, _) => destination,
    };
    let name = r.value("IMG_NAME", name);
    let is_gzip = r.value("COMPRESSED", input::boolean);
    let packings = [("none", Packing::None), ("gz", Packing::Gzip), ("zst", Packing::Zstd)];
    let packing = r.optional("COMPRESSION", input::one_of(&packings));
    if is_gzip && packing.is_some_and(|packing| packing != Packing::Gzip) {
        r.problem("COMPRESSED=true means gzip, and COMPRESSION says otherwise");
    }
    let packing = packing.unwrap_or(if is_gzip { Packing::Gzip } else { Packing::None });
    let force = r.value("FORCE", input::boolean);
    let ca_file = r.optional("CA_BUNDLE", input::path);
    let stall = r.value("STALL_TIMEOUT_SECONDS", input::seconds);
    if stall.is_zero() {
        r.problem("STALL_TIMEOUT_SECONDS must be at least 1");
    }
    let fetch = Fetch { ca_file, stall, ..Fetch::default() };
    let wait = r.value("WAIT_DEVICE_SECONDS", input::seconds);
    let dry_run = r.value("DRY_RUN", input::boolean);
    r.finish()?;
    let destination = destination.unwrap_or(Destination::Put(String::new()));
    Ok(Wish { disk, destination, packing, force, fetch, wait, dry_run, name })
}

fn destination(text: &str) -> Result<Destination, String> {
    match text.strip_prefix("file://").unwrap_or(text) {
        path if path.starts_with('/') => Ok(Destination::File(path.into())),
        _ => input::url(text).map(Destination::Put).map_err(|problem| format!("{problem}, and no absolute path")),
    }
}

/// It stands in a header between quotes.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    if !text.is_empty() && text.len() <= 200 && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a name of letters, digits, '.', '-', '_' and '+'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(called: &str, pairs: &[(&str, &str)]) -> Result<Wish, Problems> {
        let base = [("SOURCE_DISK", "/dev/sda"), ("DEST_URL", "http://h/x")];
        let lookup = |name: &str| pairs.iter().chain(&base).find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        read(called, &lookup)
    }

    #[test]
    fn the_names_of_slurp_mean_what_they_did() {
        let wish = with(UPSTREAM, &[("IMG_NAME", "ubuntu"), ("COMPRESSED", "true")]).unwrap();
        assert!(matches!(wish.destination, Destination::Multipart(_)));
        assert_eq!(wish.name(), "ubuntu.img.gz");
        assert!(matches!(with("disk-capture", &[]).unwrap().destination, Destination::Put(_)));
    }

    #[test]
    fn contradictions_are_problems() {
        for (pairs, hint) in [
            (&[("COMPRESSED", "true"), ("COMPRESSION", "zst")][..], "says otherwise"),
            (&[("DEST_URL", "/x"), ("UPLOAD", "put")], "is a file"),
            (&[("DEST_URL", "ftp://h/x")], "http or https"),
            (&[("IMG_NAME", "a\"b\r\n")], "letters"),
            (&[("STALL_TIMEOUT_SECONDS", "0")], "at least 1"),
        ] {
            let problem = with("disk-capture", pairs).err().map(|p| p.to_string()).unwrap_or_default();
            assert!(problem.contains(hint), "{hint}: {problem}");
        }
    }
}
