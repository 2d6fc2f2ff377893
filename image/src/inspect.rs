//! What an initramfs holds, for people who ask where the memory goes: entries and bytes by component, then the packages
//! and versions that its bill of materials names. Unpacks nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use cpio::newc;
use serde_json::Value;
use sha2::{Digest, Sha256};
use spec::paths::END_MARKER;
use spec::stage::{self, Layer};
use thiserror::Error;

use crate::{hex, output, sbom};

/// An artifact that cannot be told about.
#[derive(Debug, Error)]
pub enum Error {
    /// The file, or an archive in it, cannot be read.
    #[error("cannot read the archive in {}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bill cannot be read.
    #[error(transparent)]
    Bill(#[from] output::Error),
    /// The bill is no bill.
    #[error("{} is no SPDX document", path.display())]
    Malformed {
        /// The bill.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Default)]
struct Found {
    groups: BTreeMap<String, (usize, u64)>,
    entries: usize,
    marker: Option<String>,
    layer: Option<Layer>,
}

/// The report: a line a component, the largest first, then a line a package.
pub fn report(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut found = Found::default();
    read(path, &mut found).map_err(failed)?;
    let mut groups: Vec<_> = found.groups.iter().collect();
    groups.sort_by(|a, b| b.1.1.cmp(&a.1.1).then_with(|| a.0.cmp(b.0)));
    let mut text = format!("{:>8} {:>12}  component\n", "entries", "bytes");
    for (name, (entries, bytes)) in groups {
        let _ = writeln!(text, "{entries:>8} {bytes:>12}  {name}");
    }
    let whole = found.marker.as_deref().and_then(|text| text.trim().parse().ok()) == Some(found.entries);
    let _ =
        writeln!(text, "\n{} entries, {}", found.entries, if whole { "complete" } else { "INCOMPLETE: no end marker" });
    if let Some(layer) = found.layer {
        let _ = writeln!(text, "stage two: {}, {} bytes, sha256 {}", layer.file, layer.size, layer.sha256);
    }
    text += &bill(path)?;
    Ok(text)
}

fn read(path: &Path, found: &mut Found) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 17, File::open(path)?);
    loop {
        // Padding between archives.
        while file.fill_buf()?.first() == Some(&0) {
            file.consume(1);
        }
        match file.fill_buf()? {
            [] => return Ok(()),
            [b'0', ..] => file = archive(file, found, true)?,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                archive(zstd::Decoder::with_buffer(file)?, found, false)?;
                return Ok(());
            }
            [0x1f, 0x8b, ..] => {
                archive(flate2::bufread::MultiGzDecoder::new(file), found, false)?;
                return Ok(());
            }
            _ => return Err(io::Error::other("neither cpio nor zstd nor gzip")),
        }
    }
}

fn archive<R: Read>(mut archive: R, found: &mut Found, early: bool) -> io::Result<R> {
    loop {
        let mut reader = newc::Reader::new(archive)?;
        if reader.entry().is_trailer() {
            return reader.finish();
        }
        let (name, size) = (reader.entry().name().to_owned(), u64::from(reader.entry().file_size()));
        let name = name.trim_start_matches('/');
        let mut content = Vec::new();
        let is = |path: &str| name == path.trim_start_matches('/');
        if (is(END_MARKER) || is(stage::FILE)) && size <= stage::MAX_FILE as u64 {
            reader.read_to_end(&mut content)?;
        }
        if is(END_MARKER) {
            found.marker = Some(String::from_utf8_lossy(&content).into_owned());
        } else if !early {
            found.entries += 1;
        }
        if is(stage::FILE) {
            found.layer = Layer::parse(&content).ok();
        }
        let group = if early { "before the initramfs (microcode)".to_owned() } else { group(name) };
        let group = found.groups.entry(group).or_default();
        group.0 += 1;
        group.1 += size;
        archive = reader.finish()?;
    }
}

fn group(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["containers", section, name, ..] => format!("{section}/{name}"),
        ["usr", "lib", "modules", ..] => "kernel modules".into(),
        ["usr", "lib", "firmware", ..] => "firmware".into(),
        _ => "init".into(),
    }
}

/// Packages and versions, when the bill beside the file is the bill of this file.
fn bill(path: &Path) -> Result<String, Error> {
    let bill = sbom::beside(path);
    if !bill.exists() {
        return Ok(format!("\nno bill of materials: {} is missing\n", bill.display()));
    }
    let malformed = |source| Error::Malformed { path: bill.clone(), source };
    let document: Value = serde_json::from_slice(&output::read(&bill)?).map_err(malformed)?;
    let empty = Vec::new();
    let packages = document["packages"].as_array().unwrap_or(&empty);
    let digest = hex(&Sha256::digest(output::read(path)?));
    let of_this = |package: &Value| package["checksums"][0]["checksumValue"] == digest.as_str();
    if !packages.iter().any(of_this) {
        return Ok(format!("\n{} is the bill of another initramfs\n", bill.display()));
    }
    let mut lines: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let kind = package["SPDXID"].as_str()?.strip_prefix("SPDXRef-")?.split_once('-')?.0;
            let (name, version) = (package["name"].as_str()?, package["versionInfo"].as_str()?);
            Some(format!("{kind:<8} {name:<40} {version}\n"))
        })
        .collect();
    lines.sort();
    Ok(format!("\n{:<8} {:<40} version\n{}", "kind", "name", lines.concat()))
}
