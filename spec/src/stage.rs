//! Stage two: components whose files stay out of the initramfs, in one read-only layer file beside it.
//! The initramfs names the layer by its digest ([`FILE`]); init mounts it at [`MOUNT`] before the first container that
//! needs it, and the paths in that container's `runtime.json` lead there. Must not know how the file is fetched.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Annotation of a LinuxKit entry, or label of an image; the value [`SECOND`] lets the files of the image move into the
/// layer when the image is built with two stages. In `config.json` it is there only when they did: so init knows who needs
/// the layer. An image without [`FILE`] has none, whatever annotations say.
pub const ANNOTATION: &str = "dev.ironhook.stage";
/// The one value of [`ANNOTATION`] that means something.
pub const SECOND: &str = "2";
/// In the initramfs: a [`Layer`] as JSON. Not there when the image has one stage.
pub const FILE: &str = "/etc/ironhook/stage2";
/// Where the layer file lies when it came as a second initramfs: `/stage2/<file>`.
pub const DIRECTORY: &str = "/stage2";
/// Where the layer file is put when it came over the network, by rename; a link there says that init has found it by
/// itself.
pub const FETCHED: &str = "/run/ironhook/stage2";
/// Where init mounts the layer, a squashfs, read-only. The directory is in the initramfs.
/// In the layer, files lie at their path below `/containers`: `services/docker/lower/...`.
pub const MOUNT: &str = "/containers/stage2";

/// The longest [`FILE`] that is read.
pub const MAX_FILE: usize = 4096;

/// Which file is the layer. It is served beside the initramfs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Its name, to be appended to the directory of the initramfs's URL.
    pub file: String,
    /// Digest of its bytes, 64 lower-case hex digits.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

/// A description that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// Not the JSON of a [`Layer`].
    #[error("{FILE} is malformed; build the image again")]
    Parse(#[source] serde_json::Error),
    /// A value that no assembler writes.
    #[error("{FILE}: `{key}` is {problem}; build the image again")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Layer {
    /// Reads and checks a description.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let layer: Self = serde_json::from_slice(bytes).map_err(Error::Parse)?;
        let bad = |key, problem| Err(Error::Value { key, problem });
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if layer.file.is_empty() || layer.file.starts_with('.') || !layer.file.bytes().all(plain) {
            return bad("file", "no plain file name");
        }
        if layer.sha256.len() != 64 || !layer.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return bad("sha256", "no digest of 64 lower-case hex digits");
        }
        if layer.size == 0 {
            return bad("size", "zero");
        }
        Ok(layer)
    }

    /// The content of [`FILE`].
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer() -> Layer {
        Layer { file: "stage2-x86_64".into(), sha256: "0a".repeat(32), size: 7 }
    }

    #[test]
    fn reads_what_it_writes() {
        assert_eq!(Layer::parse(layer().to_json().as_bytes()).unwrap(), layer());
    }

    #[test]
    fn what_could_lead_elsewhere_or_prove_nothing_is_refused() {
        for (bad, key) in [
            (Layer { file: "../x".into(), ..layer() }, "file"),
            (Layer { file: ".".into(), ..layer() }, "file"),
            (Layer { file: "a b".into(), ..layer() }, "file"),
            (Layer { sha256: "0A".repeat(32), ..layer() }, "sha256"),
            (Layer { sha256: String::new(), ..layer() }, "sha256"),
            (Layer { size: 0, ..layer() }, "size"),
        ] {
            let error = Layer::parse(bad.to_json().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}` is ")), "{error}");
        }
        assert!(matches!(Layer::parse(b"{}"), Err(Error::Parse(_))));
    }
}
