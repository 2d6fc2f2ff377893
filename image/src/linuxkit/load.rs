//! One document of one or several files: lists are joined in order, the kernel's keys are taken from the last file that
//! has them. Paths of host files become relative to where we stand. Reads only the YAML.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::model::{Document, Volume};
use crate::yaml;

/// Files that make no document.
#[derive(Debug, Error)]
pub enum Error {
    /// A file is malformed.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// Two things of one name.
    #[error("{}: `{name}` stands in `{section}` a second time", path.display())]
    Twice {
        /// The file with the second one.
        path: PathBuf,
        /// `services` or `volumes`.
        section: &'static str,
        /// The name.
        name: String,
    },
    /// A volume that cannot be.
    #[error("{}: volume `{name}` {problem}", path.display())]
    Volume {
        /// The file.
        path: PathBuf,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Reads and merges.
pub fn load(files: &[PathBuf]) -> Result<Document, Error> {
    let mut all = Document::default();
    for path in files {
        let (mut document, _): (Document, _) = yaml::read(path)?;
        for file in &mut document.files {
            file.source = file.source.take().map(|source| host_path(path, &source));
        }
        for volume in &document.volumes {
            check_volume(path, volume)?;
        }
        append(&mut all, document);
        let services = all.services.iter().filter_map(|service| service.name.as_deref());
        let volumes = all.volumes.iter().map(|volume| volume.name.as_str());
        for (section, name) in [("services", twice(services)), ("volumes", twice(volumes))] {
            if let Some(name) = name {
                return Err(Error::Twice { path: path.clone(), section, name });
            }
        }
    }
    Ok(all)
}

fn append(all: &mut Document, document: Document) {
    let Document { kernel, init, volumes, onboot, onshutdown, services, files, trust: _ } = document;
    for (ours, theirs) in [(&mut all.kernel.image, kernel.image), (&mut all.kernel.cmdline, kernel.cmdline)] {
        if !theirs.is_empty() {
            *ours = theirs;
        }
    }
    for (ours, theirs) in [
        (&mut all.kernel.binary, kernel.binary),
        (&mut all.kernel.tar, kernel.tar),
        (&mut all.kernel.ucode, kernel.ucode),
    ] {
        *ours = theirs.or(ours.take());
    }
    all.init.extend(init);
    all.volumes.extend(volumes);
    all.onboot.extend(onboot);
    all.onshutdown.extend(onshutdown);
    all.services.extend(services);
    all.files.extend(files);
}

fn host_path(yaml: &Path, source: &str) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match (source.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below).display().to_string(),
        _ => yaml::beside(yaml, source).display().to_string(),
    }
}

fn check_volume(path: &Path, volume: &Volume) -> Result<(), Error> {
    let fail = |problem| Err(Error::Volume { path: path.to_owned(), name: volume.name.clone(), problem });
    if volume.name.is_empty() || !volume.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return fail("has no name of letters, digits, `_` and `-`");
    }
    match (volume.format, &volume.image) {
        (super::model::Format::Oci, None) => fail("has `format: oci` but no `image`"),
        (super::model::Format::Filesystem, _) if !volume.platforms.is_empty() => {
            fail("has `platforms`, which only `format: oci` knows")
        }
        _ => Ok(()),
    }
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_texts(texts: &[&str]) -> Result<Document, String> {
        let directory = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            paths.push(directory.path().join(format!("{index}.yaml")));
            std::fs::write(&paths[index], text).unwrap();
        }
        load(&paths).map_err(|error| error.to_string().replace(&directory.path().display().to_string(), "dir"))
    }

    #[test]
    fn lists_are_joined_and_the_last_kernel_key_counts() {
        let merged = load_texts(&[
            "kernel: {image: k:1, cmdline: a}\ninit: [i]\nservices: [{name: x, image: x}]\ntrust: {org: [linuxkit]}\n",
            "kernel: {cmdline: b, tar: none}\ninit: [j]\nservices: [{name: y, image: x}]\nfiles: [{path: a, source: b}]\n",
        ])
        .unwrap();
        assert_eq!((merged.kernel.image.as_str(), merged.kernel.cmdline.as_str()), ("k:1", "b"));
        assert_eq!((merged.init, merged.services.len()), (vec!["i".to_owned(), "j".to_owned()], 2));
        assert!(merged.files[0].source.as_deref().unwrap().ends_with("/b"));
    }

    #[test]
    fn what_clashes_or_is_unknown_is_told_with_its_file() {
        for (first, second, expected) in [
            (
                "services: [{name: x}]\n",
                "services: [{name: x}]\n",
                "dir/1.yaml: `x` stands in `services` a second time",
            ),
            ("volumes: [{name: x}]\n", "volumes: [{name: x}]\n", "dir/1.yaml: `x` stands in `volumes`"),
            ("init: [a]\n", "init: [b]\nkernel:\n  imag: k\n", "dir/1.yaml:3: "),
            ("init: [a]\n", "volumes: [{name: x, format: oci}]\n", "dir/1.yaml: volume `x` has `format: oci` but"),
            ("init: [a]\n", "volumes: [{name: a b}]\n", "dir/1.yaml: volume `a b` has no name"),
            ("volumes: [{name: x, platforms: [linux/amd64]}]\n", "", "dir/0.yaml: volume `x` has `platforms`"),
            ("services:\n- name: x\n  resources:\n    memory: {limits: 1}\n", "", "dir/0.yaml:4: "),
            ("services:\n- name: x\n  runtime:\n    bindNS: {nett: x}\n", "", "dir/0.yaml:4: "),
        ] {
            let error = load_texts(&[first, second]).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
