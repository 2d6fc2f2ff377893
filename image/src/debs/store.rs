//! Package files by their digest: fetched when first needed through apt's own downloader (so the host's
//! proxies hold), verified, kept; and read as trees without being installed.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::apt::{self, Mirrors};
use super::lock::Package;
use crate::tree::Tree;
use crate::{hex, output, tar};

/// A package that cannot be had or read.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the cache.
    #[error(transparent)]
    File(#[from] output::Error),
    /// The mirrors are unknown.
    #[error(transparent)]
    Mirrors(#[from] apt::Error),
    /// A program cannot be started.
    #[error("cannot run {program}; `make deps` installs what is missing")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The mirror no longer has the version of the lock.
    #[error("{name} {version} is gone from the mirror ({url})")]
    Gone {
        /// Package name.
        name: String,
        /// Locked version.
        version: String,
        /// Where it was.
        url: String,
    },
    /// The download failed for another reason.
    #[error("cannot download {url}: {message}")]
    Download {
        /// From where.
        url: String,
        /// What the downloader said.
        message: String,
    },
    /// The bytes are not those of the lock.
    #[error("{} has sha256 {actual} instead of {expected}; delete it and try again", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Of the lock.
        expected: String,
        /// Of the file.
        actual: String,
    },
    /// The package cannot be read.
    #[error("cannot read the package {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: tar::Error,
    },
    /// dpkg-deb refused the package.
    #[error("dpkg-deb cannot unpack {}", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
    },
}

/// The cache of package files.
pub struct Store {
    directory: PathBuf,
    mirrors: OnceLock<Mirrors>,
}

impl Store {
    /// A cache in a directory that need not exist yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), mirrors: OnceLock::new() }
    }

    /// The files of a package, with the pre-merge top directories moved below `usr`.
    pub fn tree(&self, package: &Package) -> Result<Tree, Error> {
        let path = self.file(package)?;
        let start = |source| Error::Start { program: "dpkg-deb", source };
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let mut tree = Tree::default();
        let read = match child.stdout.take() {
            Some(stdout) => tar::read_into(&mut tree, BufReader::with_capacity(1 << 20, stdout), merged_usr),
            None => Ok(()),
        };
        let status = child.wait().map_err(start)?;
        read.map_err(|source| Error::Read { path: path.clone(), source })?;
        if status.success() { Ok(tree) } else { Err(Error::Unpack { path }) }
    }

    /// The package file itself, fetched if need be and verified.
    pub fn file(&self, package: &Package) -> Result<PathBuf, Error> {
        let path = self.directory.join(format!("{}.deb", package.sha256));
        if !path.exists() {
            self.download(package, &path)?;
        }
        let actual = hex(&Sha256::digest(output::read(&path)?));
        if actual == package.sha256 {
            return Ok(path);
        }
        Err(Error::Digest { path, expected: package.sha256.clone(), actual })
    }

    fn download(&self, package: &Package, path: &Path) -> Result<(), Error> {
        output::make_directory(&self.directory)?;
        let mirrors = match self.mirrors.get() {
            Some(mirrors) => mirrors,
            None => {
                let found = Mirrors::find()?;
                self.mirrors.get_or_init(|| found)
            }
        };
        let url = mirrors.url(package);
        let partial = path.with_extension("partial");
        tracing::info!(package = package.name, version = package.version, bytes = package.size, "downloading");
        let output = Command::new("/usr/lib/apt/apt-helper")
            .args(["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "download-file", &url])
            .arg(&partial)
            .arg(format!("SHA256:{}", package.sha256))
            .output()
            .map_err(|source| Error::Start { program: "apt-helper", source })?;
        if output.status.success() {
            return Ok(std::fs::rename(&partial, path).map_err(|source| output::Error::new("rename to", path, source))?);
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if says_gone(&said) {
            let (name, version) = (package.name.clone(), package.version.clone());
            return Err(Error::Gone { name, version, url });
        }
        let message = said.lines().rfind(|line| line.starts_with("E:")).unwrap_or("no reason given").to_owned();
        Err(Error::Download { url, message })
    }
}

/// Whether the downloader was told that there is no such file. Not merely those digits: versions hold them too.
fn says_gone(said: &str) -> bool {
    said.split_whitespace().any(|word| matches!(word, "404" | "410"))
}

fn merged_usr(path: String) -> String {
    let top = path.split('/').next().unwrap_or_default();
    if matches!(top, "bin" | "sbin" | "lib" | "lib64") { format!("usr/{path}") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debs::lock::Archive;

    #[test]
    fn a_damaged_file_of_the_cache_is_named_with_both_digests() {
        let directory = tempfile::tempdir().unwrap();
        let sha256 = "a".repeat(64);
        std::fs::write(directory.path().join(format!("{sha256}.deb")), "not it").unwrap();
        let package = Package {
            name: "x".into(),
            version: "1".into(),
            architecture: "all".into(),
            archive: Archive::Main,
            sha256: sha256.clone(),
            size: 6,
            path: "pool/x.deb".into(),
        };
        let error = Store::new(directory.path()).tree(&package).unwrap_err().to_string();
        assert!(error.contains(&format!("instead of {sha256}")), "{error}");
    }

    #[test]
    fn gone_is_what_the_mirror_says_not_what_the_version_looks_like() {
        assert!(says_gone(
            "Err:1 http://deb/x.deb\n  404  Not Found [IP: ::1 80]\nE: Failed to fetch http://deb/x.deb"
        ));
        assert!(!says_gone("E: Failed to fetch http://deb/x_1.404-1_all.deb  Could not connect to deb:404"));
    }

    #[test]
    fn only_the_old_top_directories_move() {
        assert_eq!(merged_usr("lib64/ld.so".into()), "usr/lib64/ld.so");
        assert_eq!(merged_usr("library/x".into()), "library/x");
    }
}
