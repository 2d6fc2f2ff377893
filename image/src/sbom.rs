//! The bill of materials beside an initramfs: SPDX 2.3 in JSON, the same bytes for the same image. Names the component
//! images by digest, the Debian packages by version and sha256, and our own programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spec::stage::Layer;
use thiserror::Error;

use crate::linuxkit::assemble::Assembled;
use crate::oci::CONTENTS;
use crate::oci::read::Image;
use crate::output::{self, Pending};
use crate::{hex, tree};

/// A bill that cannot be written.
#[derive(Debug, Error)]
pub enum Error {
    /// The initramfs cannot be read back.
    #[error(transparent)]
    File(#[from] output::Error),
    /// The label of an image is malformed.
    #[error("label {CONTENTS} of image `{image}` is malformed")]
    Label {
        /// Its reference.
        image: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// JSON cannot be written.
    #[error("cannot encode the bill of materials")]
    Encode(#[source] serde_json::Error),
}

/// What our own builder put into an image: the value of its label [`CONTENTS`].
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contents {
    /// Debian packages, of which at least a part is in it.
    pub packages: Vec<Package>,
    /// Programs of this workspace.
    pub programs: Vec<String>,
}

/// A Debian package.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Of the package file.
    pub sha256: String,
}

/// Where the bill of an initramfs lies.
pub fn beside(initramfs: &Path) -> PathBuf {
    let name = initramfs.file_name().unwrap_or_default().to_string_lossy();
    initramfs.with_file_name(format!("{name}.spdx.json"))
}

/// The bill of what was assembled into the initramfs that is about to take its place, and into its layer.
pub fn document(
    assembled: &Assembled,
    initramfs: &Pending,
    kernel: &[u8],
    layer: Option<&Layer>,
) -> Result<Vec<u8>, Error> {
    let digest = hex(&Sha256::digest(output::read(initramfs.path())?));
    let name = initramfs.place().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut bill = Bill::default();
    bill.describe(&name, &digest, kernel);
    if let Some(layer) = layer {
        bill.add_file(LAYER, &layer.file, &layer.sha256, "ARCHIVE");
    }
    for (reference, image) in &assembled.images {
        bill.add_image(if assembled.late.contains(reference) { LAYER } else { INITRAMFS }, reference, image)?;
    }
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://ironhook.dev/spdx/{digest}"),
        "creationInfo": {
            "created": tree::MTIME_TEXT,
            "creators": [format!("Tool: ironhook-image-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": bill.packages.into_values().collect::<Vec<_>>(),
        "relationships": bill.relations.into_iter().map(|(from, kind, to)| {
            json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
        }).collect::<Vec<_>>(),
    });
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(Error::Encode)?;
    bytes.push(b'\n');
    Ok(bytes)
}

const INITRAMFS: &str = "SPDXRef-initramfs";
const LAYER: &str = "SPDXRef-layer";

#[derive(Default)]
struct Bill {
    packages: BTreeMap<String, Value>,
    relations: BTreeSet<(String, &'static str, String)>,
}

impl Bill {
    fn describe(&mut self, initramfs: &str, digest: &str, kernel: &[u8]) {
        self.add_file(INITRAMFS, initramfs, digest, "ARCHIVE");
        self.add_file("SPDXRef-kernel", "vmlinuz", &hex(&Sha256::digest(kernel)), "OPERATING-SYSTEM");
    }

    fn add_file(&mut self, id: &str, name: &str, sha256: &str, purpose: &str) {
        let checksums = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
        let more = json!({"checksums": checksums, "primaryPackagePurpose": purpose});
        self.add(id.to_owned(), name, env!("CARGO_PKG_VERSION"), more);
        self.relations.insert(("SPDXRef-DOCUMENT".into(), "DESCRIBES", id.to_owned()));
    }

    fn add_image(&mut self, place: &str, reference: &str, image: &Image) -> Result<(), Error> {
        let name = reference.split('@').next().unwrap_or(reference);
        let id = id("image", reference);
        let digest = image.digest.trim_start_matches("sha256:");
        let locator =
            format!("pkg:oci/{}@sha256%3A{digest}", name.rsplit('/').next().unwrap_or(name).replace(':', "?tag="));
        // The tag is a qualifier: it comes last.
        let locator = match locator.split_once("?tag=") {
            Some((name, rest)) => match rest.split_once('@') {
                Some((tag, digest)) => format!("{name}@{digest}?tag={tag}"),
                None => locator,
            },
            None => locator,
        };
        let checksums = json!([{"algorithm": "SHA256", "checksumValue": digest}]);
        self.add(
            id.clone(),
            name,
            &image.digest,
            json!({
                "checksums": checksums, "externalRefs": purl(&locator), "primaryPackagePurpose": "CONTAINER",
            }),
        );
        self.relations.insert((place.to_owned(), "CONTAINS", id.clone()));
        for package in contents(reference, image)?.packages {
            let Package { name, version, architecture, sha256 } = package;
            let deb = self::id("deb", &format!("{name}-{version}-{architecture}"));
            let locator = format!("pkg:deb/debian/{}@{}?arch={architecture}", quoted(&name), quoted(&version));
            let checksums = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
            self.add(deb.clone(), &name, &version, json!({"checksums": checksums, "externalRefs": purl(&locator)}));
            self.relations.insert((id.clone(), "CONTAINS", deb));
        }
        for program in contents(reference, image)?.programs {
            let own = self::id("program", &program);
            self.add(own.clone(), &program, env!("CARGO_PKG_VERSION"), json!({"primaryPackagePurpose": "APPLICATION"}));
            self.relations.insert((id.clone(), "CONTAINS", own));
        }
        Ok(())
    }

    fn add(&mut self, id: String, name: &str, version: &str, more: Value) {
        let mut package = json!({
            "SPDXID": id, "name": name, "versionInfo": version, "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false, "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        });
        if let (Some(package), Value::Object(more)) = (package.as_object_mut(), more) {
            package.extend(more);
        }
        self.packages.insert(id, package);
    }
}

/// What an image says of itself; nothing when others made it.
pub fn contents(reference: &str, image: &Image) -> Result<Contents, Error> {
    let label = image.config.config.labels.as_ref().and_then(|labels| labels.get(CONTENTS));
    let source = |source| Error::Label { image: reference.to_owned(), source };
    label.map_or(Ok(Contents::default()), |text| serde_json::from_str(text).map_err(source))
}

fn purl(locator: &str) -> Value {
    json!([{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}])
}

/// Letters, digits, `.` and `-` are all that an id may hold; what differs only elsewhere is told apart by a digest.
fn id(kind: &str, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let digest = hex(&Sha256::digest(name));
    format!("SPDXRef-{kind}-{}-{}", name.chars().map(plain).collect::<String>(), &digest[..8])
}

/// As a part of a package URL.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_package_urls_hold_only_what_they_may() {
        assert!(id("deb", "libc6-2.41-12+deb13u1-amd64").starts_with("SPDXRef-deb-libc6-2.41-12-deb13u1-amd64-"));
        assert_ne!(id("deb", "a+b"), id("deb", "a-b"));
        assert_eq!(quoted("2:1.0+x~y"), "2%3A1.0%2Bx~y");
    }
}
