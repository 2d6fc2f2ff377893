//! The network boot programs, held in memory and looked up by base name only: no path leads out of the table.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use axum::body::Bytes;

/// Where TFTP and HTTP find what firmware loads.
pub trait Loaders: Send + Sync + 'static {
    /// The file of this base name.
    fn get(&self, name: &str) -> Option<Bytes>;
}

/// The regular files of one directory, as they were when it was read.
#[derive(Clone, Debug, Default)]
pub struct LoaderTable(BTreeMap<String, Bytes>);

/// The loaders cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadersError {
    /// The directory.
    #[error("cannot list the directory of loaders {dir}")]
    List {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in it.
    #[error("cannot read the loader {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LoaderTable {
    /// Reads every regular file of a directory; links are followed, links to nothing are left out.
    pub fn read(dir: &Path) -> Result<Self, LoadersError> {
        let list = |source| LoadersError::List { dir: dir.into(), source };
        let mut table = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(list)? {
            let entry = entry.map_err(list)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = entry.path();
            if path.is_file() {
                let content = std::fs::read(&path).map_err(|source| LoadersError::Read { path, source })?;
                table.insert(name, content.into());
            }
        }
        Ok(Self(table))
    }

    /// Those of the loaders that DHCP may name and that are not here, for a warning at start.
    pub fn missing(&self) -> Vec<&'static str> {
        crate::dhcp::LOADERS.into_iter().filter(|name| !self.0.contains_key(*name)).collect()
    }
}

impl Loaders for LoaderTable {
    fn get(&self, name: &str) -> Option<Bytes> {
        self.0.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("undionly.kpxe"), "bios").unwrap();
        std::fs::create_dir(dir.path().join("qemu")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("ipxe.efi")).unwrap();
        let table = LoaderTable::read(dir.path()).unwrap();
        assert_eq!(table.get("undionly.kpxe").unwrap(), "bios");
        assert!(table.get("qemu").is_none() && table.get("ipxe.efi").is_none());
        assert_eq!(table.missing(), ["snponly.efi", "ipxe-arm64.efi"]);
        assert!(LoaderTable::read(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
