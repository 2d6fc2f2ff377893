//! `debs.lock`: which exact package file stands for each name that components ask for.
//! One line a package, sorted, so that a change of lock reads as a list of updates.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::output;

/// A lock that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] output::Error),
    /// A line is not `asked name version architecture archive sha256 size path`.
    #[error("{}:{line}: {message}; run `make relock`", path.display())]
    Line {
        /// The lock.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A component asks for a package that nobody locked.
    #[error("{} has no package `{asked}`; run `make relock`", path.display())]
    Missing {
        /// The lock.
        path: PathBuf,
        /// As the component names it.
        asked: String,
    },
}

/// Which of Debian's two archives holds a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Archive {
    /// The main one, with point releases and updates.
    Main,
    /// Security updates.
    Security,
}

impl Archive {
    /// The word in the lock.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Security => "security",
        }
    }
}

/// One locked package file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// Its name; differs from what was asked for when that is a pattern.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Where its path starts.
    pub archive: Archive,
    /// Digest of the file, hex.
    pub sha256: String,
    /// Length of the file in bytes.
    pub size: u64,
    /// Path below the archive.
    pub path: String,
}

/// All locked packages by what components ask for.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Lock {
    path: PathBuf,
    packages: BTreeMap<String, Package>,
}

const HEAD: &str = "\
# The Debian packages of the image, written by `make relock`; do not edit.
# asked name version architecture archive sha256 size path
";

impl Lock {
    /// A lock of the given packages.
    pub fn new(path: &Path, packages: BTreeMap<String, Package>) -> Self {
        Self { path: path.to_owned(), packages }
    }

    /// Reads and checks a lock.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = output::read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut packages = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (asked, package) =
                parse_line(line).map_err(|message| Error::Line { path: path.to_owned(), line: index + 1, message })?;
            packages.insert(asked, package);
        }
        Ok(Self::new(path, packages))
    }

    /// Writes the lock to its place.
    pub fn write(&self) -> Result<(), Error> {
        Ok(output::write(&self.path, self.to_text().as_bytes())?)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (asked, package) in &self.packages {
            let Package { name, version, architecture, archive, sha256, size, path } = package;
            let archive = archive.as_str();
            text.push_str(&format!("{asked} {name} {version} {architecture} {archive} {sha256} {size} {path}\n"));
        }
        text
    }

    /// The package that stands for what a component asks for.
    pub fn get(&self, asked: &str) -> Result<&Package, Error> {
        self.packages.get(asked).ok_or_else(|| Error::Missing { path: self.path.clone(), asked: asked.to_owned() })
    }

    /// The packages that are not those of another lock, each with what that one has instead.
    pub fn since<'a>(&'a self, before: &'a Lock) -> impl Iterator<Item = (Option<&'a Package>, &'a Package)> {
        let both = self.packages.iter().map(|(asked, package)| (before.packages.get(asked), package));
        both.filter(|(old, new)| *old != Some(*new))
    }

    /// What components ask for.
    pub fn asked(&self) -> Vec<String> {
        self.packages.keys().cloned().collect()
    }
}

fn parse_line(line: &str) -> Result<(String, Package), String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [asked, name, version, architecture, archive, sha256, size, path] = fields[..] else {
        return Err(format!("{} fields instead of 8", fields.len()));
    };
    let archive = match archive {
        "main" => Archive::Main,
        "security" => Archive::Security,
        other => return Err(format!("`{other}` is neither `main` nor `security`")),
    };
    if sha256.len() != 64 || !sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("`{sha256}` is no sha256 in lower case"));
    }
    let size = size.parse().map_err(|_| format!("`{size}` is no size in bytes"))?;
    let package = Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        archive,
        sha256: sha256.to_owned(),
        size,
        path: path.to_owned(),
    };
    Ok((asked.to_owned(), package))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "crun crun 1.21-1 amd64 main \
        0000000000000000000000000000000000000000000000000000000000000001 368640 pool/main/c/crun/crun_1.21-1_amd64.deb";

    #[test]
    fn reads_what_it_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("debs.lock");
        let (asked, package) = parse_line(LINE).unwrap();
        let lock = Lock::new(&path, BTreeMap::from([(asked, package)]));
        lock.write().unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        let error = lock.get("runc").unwrap_err().to_string();
        assert!(error.contains("`runc`") && error.contains("make relock"), "{error}");
    }

    #[test]
    fn a_lock_tells_what_is_new_in_it() {
        let lock = |lines: &[&str]| {
            Lock::new(Path::new("debs.lock"), lines.iter().map(|line| parse_line(line).unwrap()).collect())
        };
        let (newer, added) = (LINE.replace("1.21-1", "1.22-1"), LINE.replace("crun", "runc"));
        let (before, after) = (lock(&[LINE]), lock(&[&newer, &added]));
        let versions = |(old, new): (Option<&Package>, &Package)| {
            (old.map(|old| old.version.clone()), new.name.clone(), new.version.clone())
        };
        let told: Vec<_> = after.since(&before).map(versions).collect();
        assert_eq!(
            told,
            [(Some("1.21-1".into()), "crun".into(), "1.22-1".into()), (None, "runc".into(), "1.21-1".into())]
        );
        assert_eq!(before.since(&before).count(), 0);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("debs.lock");
        for (line, expected) in [
            ("crun crun 1.21", "3 fields"),
            (&LINE.replace(" main ", " universe "), "`universe`"),
            (&LINE.replace("0001", "000G"), "no sha256"),
            (&LINE.replace("368640", "big"), "`big`"),
        ] {
            std::fs::write(&path, format!("{HEAD}{line}\n")).unwrap();
            let error = Lock::read(&path).unwrap_err().to_string();
            assert!(error.contains("debs.lock:3: ") && error.contains(expected), "{error}");
        }
    }
}
