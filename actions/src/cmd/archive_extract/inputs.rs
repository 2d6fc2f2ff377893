//! The inputs of `archive-extract`, as its help and the manual show them, and what an operator wants by them.

use std::path::PathBuf;
use std::time::Duration;

use fetch::Options as Fetch;
use fetch::registry::{Access, Credential, Reference};
use serde::Deserialize;
use spec::Secret;

use crate::archive::extract::Preserve;
use crate::archive::rules;
use crate::cmd::transfer::{
    self, CA_BUNDLE, FETCH_STREAMS, HTTP_HEADERS, MIRRORS, RETRIES, RETRY_BUDGET_SECONDS, STALL_TIMEOUT_SECONDS,
};
use crate::image::checksum::{self, Promise};
use crate::image::format::Packing;
use crate::image::proof::{self, Proof, Signed};
use crate::image::published::Place;
use crate::input::{self, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS, optional, or};
use crate::select::Selector;

/// All of them.
pub const INPUTS: &[Input] = &[
    optional("ARCHIVE_URL", "The archive: an http or https URL, or the path of a file. This or OCI_IMAGE is required."),
    optional(
        "OCI_IMAGE",
        "A container image (<registry>/<name>[:<tag>][@<digest>]) whose layers are extracted in order.",
    ),
    optional(
        "ARCHIVE_TYPE",
        "tar, targz, tarzst, tarxz, tarbz2 or tarlz4; recognised by the first bytes when not set.",
    ),
    optional(
        "TARFILE_CHECKSUM",
        "sha256:<hex> or sha512:<hex> of the unpacked tar: of all of it, or of it up to its end mark.",
    ),
    optional("ARCHIVE_CHECKSUM", "sha256:<hex> or sha512:<hex> of the file as published; none waives the check."),
    or("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "false", "true extracts what nothing proves to be right."),
    optional("IMG_SIGNATURE", "A minisign signature (the content of the .minisig file) of the file as published."),
    optional("IMG_PUBKEY", "The minisign public key that IMG_SIGNATURE has to be made with."),
    Input {
        name: "DEST_DISK",
        also: &["DISK", "BLOCK_DEVICE"],
        presence: Presence::Optional,
        doc: "The partition to extract to: a path below /dev, or a selector with partition=. This or MOUNTS is required.",
    },
    optional("FS_TYPE", "Its kind of file system; recognised by itself when it is ext2/3/4, xfs, btrfs or vfat."),
    optional(
        "MOUNTS",
        "JSON list of {\"disk\", \"path\", \"fs_type\"?}: several file systems that make one tree, one of them at /.",
    ),
    or("DEST_PATH", "/", "The directory on the target that becomes the root of the archive."),
    or(
        "PRESERVE",
        "owner,xattr,acl,caps,times",
        "What is restored besides data and modes, separated by commas; none for nothing.",
    ),
    optional("REGISTRY_USERNAME", "Who asks a registry; only together with REGISTRY_PASSWORD."),
    optional("REGISTRY_PASSWORD", "His password or token."),
    or("PLAIN_HTTP", "false", "The registry speaks HTTP without TLS."),
    MIRRORS,
    CA_BUNDLE,
    HTTP_HEADERS,
    FETCH_STREAMS,
    STALL_TIMEOUT_SECONDS,
    or(
        "HTTP_CLIENT_TIMEOUT_MINUTES",
        "5",
        "How long to try again without any progress; the transfer as a whole may take longer.",
    ),
    RETRY_BUDGET_SECONDS,
    RETRIES,
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];

/// What is extracted.
#[allow(clippy::large_enum_variant)] // There is one of it.
pub enum What {
    /// One archive.
    Archive {
        /// Where it is.
        place: Place,
        /// What the published file must be.
        proof: Proof,
        /// What the unpacked tar must be.
        content: Promise,
        /// How it has to be packed.
        packing: Option<Packing>,
    },
    /// The layers of a container image.
    Image {
        /// Its name.
        reference: Reference,
        /// Who asks.
        access: Box<Access>,
    },
}

/// One file system of the target.
pub struct Target {
    /// The partition.
    pub disk: Selector,
    /// Where in the tree; empty for the root.
    pub path: PathBuf,
    /// Its kind.
    pub fs_type: Option<String>,
}

/// The environment.
pub struct Wish {
    pub what: What,
    pub fetch: Fetch,
    pub targets: Vec<Target>,
    pub base: PathBuf,
    pub preserve: Preserve,
    pub is_unproven: bool,
    pub wait: Duration,
    pub dry_run: bool,
}

/// Reads it.
pub fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let patience = r.value("HTTP_CLIENT_TIMEOUT_MINUTES", input::minutes);
    let fetch = transfer::options(&mut r, patience);
    let (what, is_unproven) = what(&mut r, &fetch);
    let targets = targets(&mut r);
    let base = r.value("DEST_PATH", below);
    let preserve = r.optional("PRESERVE", preserve).unwrap_or(Preserve::ALL);
    let wait = r.value("WAIT_DEVICE_SECONDS", input::seconds);
    let dry_run = r.value("DRY_RUN", input::boolean);
    match what {
        Some(what) => {
            r.finish()?;
            Ok(Wish { what, fetch, targets, base, preserve, is_unproven, wait, dry_run })
        }
        None => Err(r.finish().err().unwrap_or_else(|| Problems(vec!["ARCHIVE_URL or OCI_IMAGE is required".into()]))),
    }
}

fn what(r: &mut Reader<'_>, fetch: &Fetch) -> (Option<What>, bool) {
    let url = r.optional("ARCHIVE_URL", input::text);
    let image = r.optional("OCI_IMAGE", |text| Reference::parse(text).map_err(|e| e.to_string()));
    let packing = r.optional("ARCHIVE_TYPE", archive_type);
    let content = r.optional("TARFILE_CHECKSUM", checksum::parse);
    let published = r.optional("ARCHIVE_CHECKSUM", checksum::parse);
    let is_waived = r.value("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", input::boolean)
        || published == Some(Promise::Waived)
        || content == Some(Promise::Waived);
    let signature = signature(r);
    let access = access(r, fetch, image.as_ref());
    match (url, image) {
        (Some(_), Some(_)) => r.problem("ARCHIVE_URL and OCI_IMAGE exclude each other"),
        (None, None) if !r.has_problems() => r.problem("ARCHIVE_URL or OCI_IMAGE is required"),
        (None, None) => {}
        (None, Some(reference)) => {
            transfer::no_mirrors(r);
            if content.is_some() || published.is_some() || signature.is_some() || packing.is_some() {
                r.problem(
                    "an OCI_IMAGE is proven by its digests: name it as <name>@sha256:<hex> instead of a checksum",
                );
            }
            return (Some(What::Image { reference, access: Box::new(access) }), false);
        }
        (Some(url), None) => {
            let is_proven = [&content, &published].iter().any(|p| matches!(p, Some(Promise::Checked(_))));
            let is_unproven = !is_proven && signature.is_none();
            if is_unproven && !is_waived && !r.has_problems() {
                r.problem("TARFILE_CHECKSUM or ARCHIVE_CHECKSUM is required, or INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION=true");
            }
            let place = transfer::place(r, url);
            let proof = Proof { checksum: published.unwrap_or_default(), signature };
            return (Some(What::Archive { place, proof, content: content.unwrap_or_default(), packing }), is_unproven);
        }
    }
    (None, false)
}

fn signature(r: &mut Reader<'_>) -> Option<Signed> {
    let key = r.optional("IMG_PUBKEY", input::text);
    let text = r.optional("IMG_SIGNATURE", input::text);
    let signed = match (key, text) {
        (Some(key), Some(text)) => proof::signed(&key, &text),
        (None, None) => return None,
        _ => Err("IMG_SIGNATURE and IMG_PUBKEY must be set together".into()),
    };
    signed.map_err(|problem| r.problem(problem)).ok()
}

fn access(r: &mut Reader<'_>, fetch: &Fetch, image: Option<&Reference>) -> Access {
    let user = r.optional("REGISTRY_USERNAME", input::text);
    let password = r.optional("REGISTRY_PASSWORD", input::text);
    if user.is_some() != password.is_some() {
        r.problem("REGISTRY_USERNAME and REGISTRY_PASSWORD must be set together");
    }
    let is_plain = r.value("PLAIN_HTTP", input::boolean);
    let host = image.map(|image| image.host().to_owned()).unwrap_or_default();
    let credential = user.zip(password).map(|(user, password)| Credential {
        host: host.clone(),
        user,
        password: Secret::new(password),
    });
    Access {
        fetch: fetch.clone(),
        credentials: credential.into_iter().collect(),
        plain_http: if is_plain { vec![host] } else { Vec::new() },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    disk: String,
    path: String,
    fs_type: Option<String>,
}

fn targets(r: &mut Reader<'_>) -> Vec<Target> {
    let disk = r.optional("DEST_DISK", input::disk);
    let fs_type = r.optional("FS_TYPE", input::text);
    let listed = r.optional("MOUNTS", mounts);
    match (disk, listed) {
        (Some(disk), None) => vec![Target { disk, path: PathBuf::new(), fs_type }],
        (None, Some(listed)) if fs_type.is_none() => listed,
        (None, None) => {
            if !r.has_problems() {
                r.problem("DEST_DISK or MOUNTS is required");
            }
            Vec::new()
        }
        _ => {
            r.problem("MOUNTS excludes DEST_DISK and FS_TYPE");
            Vec::new()
        }
    }
}

/// In the order in which they have to be mounted.
fn mounts(text: &str) -> Result<Vec<Target>, String> {
    let listed: Vec<Listed> = serde_json::from_str(text).map_err(|e| format!("is not a list of mounts: {e}"))?;
    let target = |(index, entry): (usize, Listed)| -> Result<Target, String> {
        let of_entry = |problem| format!("entry {index}: {problem}");
        let disk = input::disk(&entry.disk).map_err(of_entry)?;
        Ok(Target { disk, path: below(&entry.path).map_err(of_entry)?, fs_type: entry.fs_type })
    };
    let mut targets = listed.into_iter().enumerate().map(target).collect::<Result<Vec<_>, _>>()?;
    targets.sort_by(|a, b| a.path.cmp(&b.path));
    if targets.first().is_none_or(|first| !first.path.as_os_str().is_empty()) {
        return Err("has no entry with path /".into());
    }
    if let Some(pair) = targets.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(format!("has two entries with path /{}", pair[0].path.display()));
    }
    Ok(targets)
}

/// An absolute path of the target, without its slash.
fn below(text: &str) -> Result<PathBuf, String> {
    let path = input::path(text)?;
    rules::member(path.as_os_str().as_encoded_bytes()).map_err(|why| format!("{text:?}: {why}"))
}

fn archive_type(text: &str) -> Result<Packing, String> {
    let plain = text.trim().to_lowercase().replace(['.', '+', '-'], "");
    match plain.strip_prefix("tar").unwrap_or(&plain) {
        "" if plain == "tar" => Ok(Packing::Plain),
        "gz" | "gzip" | "tgz" => Ok(Packing::Gzip),
        "zst" | "zstd" => Ok(Packing::Zstd),
        "xz" => Ok(Packing::Xz),
        "bz2" | "bzip2" => Ok(Packing::Bzip2),
        "lz4" => Ok(Packing::Lz4),
        _ => Err(format!("{text:?} is none of tar, targz, tarzst, tarxz, tarbz2, tarlz4")),
    }
}

fn preserve(text: &str) -> Result<Preserve, String> {
    let mut preserve = Preserve::NONE;
    for word in text.split(',').map(str::trim).filter(|word| *word != "none") {
        match word {
            "owner" => preserve.owner = true,
            "xattr" => preserve.xattr = true,
            "acl" => preserve.acl = true,
            "caps" => preserve.caps = true,
            "times" => preserve.times = true,
            _ => return Err(format!("{word:?} is none of owner, xattr, acl, caps, times, none")),
        }
    }
    Ok(preserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Wish, Problems> {
        let lookup = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        read(&lookup)
    }

    fn problem(pairs: &[(&str, &str)]) -> String {
        with(pairs).err().map(|p| p.to_string()).unwrap_or_default()
    }

    const URL: (&str, &str) = ("ARCHIVE_URL", "http://h/x.tar.gz");
    const DISK: (&str, &str) = ("DEST_DISK", "/dev/sda1");
    const WAIVED: (&str, &str) = ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true");

    #[test]
    fn the_names_of_archive2disk_mean_what_they_did() {
        let sum = format!("sha256:{}", "a".repeat(64));
        let wish =
            with(&[URL, DISK, ("TARFILE_CHECKSUM", &sum), ("ARCHIVE_TYPE", "TarGZ"), ("DEST_PATH", "/srv/")]).unwrap();
        assert_eq!(wish.base, PathBuf::from("srv"));
        assert!(!wish.is_unproven && wish.preserve == Preserve::ALL);
        let What::Archive { packing, content, .. } = wish.what else { panic!("no archive") };
        assert!(packing == Some(Packing::Gzip) && matches!(content, Promise::Checked(_)));
    }

    #[test]
    fn a_proof_is_required_or_waived_in_words() {
        assert!(problem(&[URL, DISK]).contains("TARFILE_CHECKSUM or ARCHIVE_CHECKSUM is required"));
        assert!(with(&[URL, DISK, WAIVED]).unwrap().is_unproven);
        assert!(with(&[URL, DISK, ("ARCHIVE_CHECKSUM", "none")]).unwrap().is_unproven);
        assert!(
            problem(&[URL, DISK, ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "maybe")]).contains("not a boolean")
        );
        assert!(!with(&[("OCI_IMAGE", "h/x:1"), DISK]).unwrap().is_unproven);
    }

    #[test]
    fn contradictions_are_problems() {
        for (pairs, hint) in [
            (&[URL, DISK, WAIVED, ("OCI_IMAGE", "h/x")][..], "exclude each other"),
            (&[DISK], "ARCHIVE_URL or OCI_IMAGE is required"),
            (&[URL, WAIVED], "DEST_DISK or MOUNTS is required"),
            (&[URL, WAIVED, DISK, ("MOUNTS", r#"[{"disk":"/dev/sda1","path":"/"}]"#)], "MOUNTS excludes"),
            (&[URL, WAIVED, ("MOUNTS", r#"[{"disk":"/dev/sda1","path":"/boot"}]"#)], "no entry with path /"),
            (&[URL, WAIVED, ("MOUNTS", r#"[{"disk":"sda1","path":"/"}]"#)], "entry 0"),
            (&[URL, WAIVED, DISK, ("DEST_PATH", "/a/../..")], "climbs"),
            (&[URL, WAIVED, DISK, ("PRESERVE", "owner,luck")], "luck"),
            (&[URL, WAIVED, DISK, ("ARCHIVE_TYPE", "cpio")], "cpio"),
            (&[("OCI_IMAGE", "h/x"), DISK, ("ARCHIVE_CHECKSUM", "none")], "proven by its digests"),
            (&[URL, WAIVED, DISK, ("REGISTRY_USERNAME", "me")], "must be set together"),
        ] {
            assert!(problem(pairs).contains(hint), "{hint}: {}", problem(pairs));
        }
    }

    #[test]
    fn mounts_come_in_the_order_of_mounting() {
        let list = r#"[{"disk":"/dev/a3","path":"/boot/efi"},{"disk":"/dev/a1","path":"/"},{"disk":"serial=x,partition=2","path":"/boot"}]"#;
        let wish = with(&[URL, WAIVED, ("MOUNTS", list)]).unwrap();
        let paths: Vec<_> = wish.targets.iter().map(|t| t.path.display().to_string()).collect();
        assert_eq!(paths, ["", "boot", "boot/efi"]);
    }
}
