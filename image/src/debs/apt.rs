//! Asks apt, with a configuration of our own, which package files Debian trixie offers now.
//! The host's suites are never touched; where the mirrors are comes from its environment or its apt.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use thiserror::Error;

use super::lock::{Archive, Package};
use crate::{glob, output};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt did not do what we need.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the private configuration.
    #[error(transparent)]
    File(#[from] output::Error),
    /// A program cannot be started.
    #[error("cannot run {program}; `make deps` installs what is missing")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("{what} failed: {message}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// The end of what the program said.
        message: String,
    },
    /// The host's apt does not tell a mirror.
    #[error("apt knows no repository labelled {label}; run `apt-get update`, or set {variable}")]
    NoMirror {
        /// `Debian` or `Debian-Security`.
        label: &'static str,
        /// The environment variable that names it.
        variable: &'static str,
    },
    /// No package has the name, or matches the pattern.
    #[error("Debian trixie has no package `{asked}`")]
    NoPackage {
        /// As the component names it.
        asked: String,
    },
    /// A kernel's metapackage names no kernel.
    #[error("package `{meta}` depends on no linux-image-<version>; name the kernel's own package in component.yaml")]
    NoKernel {
        /// The metapackage.
        meta: String,
    },
}

/// Where Debian's archives are for this host.
pub struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// From the environment, else from the repositories the host's apt uses.
    pub fn find() -> Result<Self, Error> {
        Ok(Self {
            main: mirror("IRONHOOK_DEBIAN_MIRROR", "Debian")?,
            security: mirror("IRONHOOK_DEBIAN_SECURITY_MIRROR", "Debian-Security")?,
        })
    }

    /// The address of a locked package file.
    pub fn url(&self, package: &Package) -> String {
        let base = match package.archive {
            Archive::Main => &self.main,
            Archive::Security => &self.security,
        };
        // A version's plus and tilde are legal in a path, but some mirrors read a bare plus as a space.
        format!("{base}/{}", package.path.replace('+', "%2b"))
    }
}

fn mirror(variable: &'static str, label: &'static str) -> Result<String, Error> {
    let found = match std::env::var(variable) {
        Ok(set) if !set.is_empty() => set,
        _ => {
            let mut apt = Command::new("apt-get");
            apt.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
                .arg(format!("Label: {label}"));
            let text = run("apt-get", "asking apt for its mirrors", &mut apt)?;
            text.lines().next().ok_or(Error::NoMirror { label, variable })?.to_owned()
        }
    };
    Ok(found.trim_end_matches('/').to_owned())
}

fn run(program: &'static str, what: &'static str, command: &mut Command) -> Result<String, Error> {
    let Output { status, stdout, stderr } = command.output().map_err(|source| Error::Start { program, source })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(Error::Failed { what, message: lines[lines.len().saturating_sub(3)..].join("; ") })
}

/// Makes the package lists of trixie current and finds the newest file for each name or pattern.
pub fn resolve(directory: &Path, asked: &[String]) -> Result<BTreeMap<String, Package>, Error> {
    let directory = fs::canonicalize(directory).or_else(|_| {
        fs::create_dir_all(directory)?;
        fs::canonicalize(directory)
    });
    let directory = directory.map_err(|source| output::Error::new("make directory", Path::new("apt"), source))?;
    let configuration = configure(&directory, &Mirrors::find()?)?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", &configuration);
        command
    };
    run("apt-get", "apt-get update for trixie", apt().args(["-q", "update", "-o", "APT::Update::Error-Mode=any"]))?;
    let indexes = run(
        "apt-get",
        "listing the package lists of trixie",
        apt().args(["indextargets", "--format", "$(CODENAME) $(FILENAME)", "Created-By: Packages"]),
    )?;
    let mut lists = Vec::new();
    for line in indexes.lines() {
        let Some((suite, file)) = line.split_once(' ') else { continue };
        let archive = if suite.ends_with("-security") { Archive::Security } else { Archive::Main };
        let mut cat = Command::new("/usr/lib/apt/apt-helper");
        let text = run("apt-helper", "reading a package list", cat.arg("cat-file").arg(file))?;
        lists.push((archive, text));
    }
    choose(&lists, asked)
}

fn configure(directory: &Path, mirrors: &Mirrors) -> Result<PathBuf, Error> {
    for part in ["lists/partial", "cache/archives/partial", "state", "etc/apt.conf.d", "etc/preferences.d"] {
        output::make_directory(&directory.join(part))?;
    }
    let here = directory.display();
    let text = format!(
        r#"Dir::State "{here}/state";
Dir::State::lists "{here}/lists";
Dir::State::status "{here}/state/status";
Dir::Cache "{here}/cache";
Dir::Etc::sourcelist "{here}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
"#
    );
    let configuration = directory.join("apt.conf");
    output::write(&configuration, text.as_bytes())?;
    output::write(&directory.join("state/status"), b"")?;
    let (main, security) = (&mirrors.main, &mirrors.security);
    let sources = format!(
        "deb [signed-by={KEYRING}] {main} trixie main\n\
         deb [signed-by={KEYRING}] {main} trixie-updates main\n\
         deb [signed-by={KEYRING}] {security} trixie-security main\n"
    );
    output::write(&directory.join("sources.list"), sources.as_bytes())?;
    Ok(configuration)
}

/// What stands for each name or pattern: the newest, and for a kernel's metapackage the kernel it depends on.
fn choose(lists: &[(Archive, String)], asked: &[String]) -> Result<BTreeMap<String, Package>, Error> {
    let mut chosen = BTreeMap::new();
    for (asked, (package, stanza)) in newest(lists, asked)? {
        let package = match kernel_behind(&package.name, stanza)? {
            None => Some(package),
            Some(kernel) => newest(lists, std::slice::from_ref(&kernel))?.remove(&kernel).map(|(kernel, _)| kernel),
        };
        chosen.extend(package.map(|package| (asked, package)));
    }
    Ok(chosen)
}

fn newest<'a>(lists: &'a [(Archive, String)], asked: &[String]) -> Result<BTreeMap<String, (Package, &'a str)>, Error> {
    let mut newest: BTreeMap<String, (Package, &str)> = BTreeMap::new();
    let stanzas = lists.iter().flat_map(|(archive, list)| list.split("\n\n").map(|stanza| (*archive, stanza)));
    for (archive, stanza) in stanzas {
        let Some(name) = field(stanza, "Package") else { continue };
        for asked in asked.iter().filter(|asked| glob::matches(asked, name)) {
            let Some(package) = package(stanza, archive) else { continue };
            let replace = match newest.get(asked) {
                None => true,
                Some((old, _)) => compare_versions(&package.version, &old.version)? == Ordering::Greater,
            };
            if replace {
                newest.insert(asked.clone(), (package, stanza));
            }
        }
    }
    match asked.iter().find(|asked| !newest.contains_key(*asked)) {
        Some(missing) => Err(Error::NoPackage { asked: missing.clone() }),
        None => Ok(newest),
    }
}

/// `linux-image-amd64` holds no kernel but depends on the current one, whose name bears its version.
fn kernel_behind(name: &str, stanza: &str) -> Result<Option<String>, Error> {
    let is_kernel = |flavour: &str| flavour.starts_with(|first: char| first.is_ascii_digit());
    if name.strip_prefix("linux-image-").is_none_or(is_kernel) {
        return Ok(None);
    }
    let depends = field(stanza, "Depends").unwrap_or_default();
    let mut names = depends.split(',').filter_map(|dependency| dependency.split_whitespace().next());
    match names.find(|name| name.strip_prefix("linux-image-").is_some_and(is_kernel)) {
        Some(kernel) => Ok(Some(kernel.to_owned())),
        None => Err(Error::NoKernel { meta: name.to_owned() }),
    }
}

fn package(stanza: &str, archive: Archive) -> Option<Package> {
    let get = |name| field(stanza, name).map(str::to_owned);
    Some(Package {
        name: get("Package")?,
        version: get("Version")?,
        architecture: get("Architecture")?,
        archive,
        sha256: get("SHA256")?,
        size: get("Size")?.parse().ok()?,
        path: get("Filename")?,
    })
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn compare_versions(a: &str, b: &str) -> Result<Ordering, Error> {
    if a == b {
        return Ok(Ordering::Equal);
    }
    let newer = Command::new("dpkg").args(["--compare-versions", a, "gt", b]).status();
    let newer = newer.map_err(|source| Error::Start { program: "dpkg", source })?;
    Ok(if newer.success() { Ordering::Greater } else { Ordering::Less })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "Package: linux-image-6.12.9+deb13-amd64\nVersion: 6.12.9-1\nArchitecture: amd64\nSize: 5\n\
        SHA256: aa\nFilename: pool/a.deb\n\nPackage: linux-image-6.12.10+deb13-amd64\nVersion: 6.12.10-1\n\
        Architecture: amd64\nSize: 6\nSHA256: bb\nFilename: pool/b.deb\n\n\
        Package: linux-image-6.12.10+deb13-rt-amd64\nVersion: 6.12.10-1\nArchitecture: amd64\nSize: 7\nSHA256: cc\nFilename: pool/c.deb\n";

    #[test]
    fn a_pattern_takes_the_newest_version_by_debians_order() {
        let asked = ["linux-image-6.12.*+deb13-amd64".to_owned()];
        let chosen = choose(&[(Archive::Security, LIST.to_owned())], &asked).unwrap();
        let package = &chosen[&asked[0]];
        assert_eq!((package.name.as_str(), package.size), ("linux-image-6.12.10+deb13-amd64", 6));
    }

    fn meta(version: &str, depends: &str) -> String {
        format!(
            "Package: linux-image-amd64\nVersion: {version}\nArchitecture: amd64\nDepends: {depends}\nSize: 1\n\
            SHA256: dd\nFilename: pool/m.deb\n\n"
        )
    }

    #[test]
    fn a_metapackage_stands_for_the_kernel_of_its_newest_version_in_whichever_archive() {
        let asked = ["linux-image-amd64".to_owned()];
        let old = meta("6.12.9-1", "linux-image-6.12.9+deb13-amd64 (= 6.12.9-1)");
        let new = meta("6.12.10-1", "linux-base, linux-image-6.12.10+deb13-amd64 (= 6.12.10-1)");
        for order in [[&old, &new], [&new, &old]] {
            let lists = [(Archive::Main, order[0].clone()), (Archive::Security, format!("{}{LIST}", order[1]))];
            let package = &choose(&lists, &asked).unwrap()[&asked[0]];
            assert_eq!((package.name.as_str(), package.size), ("linux-image-6.12.10+deb13-amd64", 6));
            assert_eq!(package.archive, Archive::Security);
        }
    }

    #[test]
    fn a_metapackage_whose_kernel_is_not_there_is_an_error_that_names_it() {
        let asked = ["linux-image-amd64".to_owned()];
        for (depends, expected) in [
            ("linux-image-6.12.11+deb13-amd64 (= 6.12.11-1)", "no package `linux-image-6.12.11+deb13-amd64`"),
            ("linux-image-generic", "`linux-image-amd64` depends on no"),
        ] {
            let lists = [(Archive::Main, format!("{}{LIST}", meta("6.12.11-1", depends)))];
            let error = choose(&lists, &asked).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
