//! `component.yaml` as it is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::linuxkit::model::File;
use crate::{output, yaml};

/// What a component is made of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Images of the one root file system; none when the component is only exported.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Debian packages, every one that is needed; a pattern takes the newest that matches, a kernel's metapackage
    /// (`linux-image-amd64`) the kernel that it depends on.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Which of their files stay.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Which of those go after all.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Files of the packages joined into one.
    #[serde(default)]
    pub concat: Vec<Concat>,
    /// Our own programs.
    #[serde(default)]
    pub programs: Vec<Program>,
    /// Files, links and directories of our own.
    #[serde(default)]
    pub files: Vec<File>,
    /// Makes it a kernel image.
    #[serde(default)]
    pub kernel: Option<Kernel>,
    /// Files of the packages to be copied out of the image build.
    #[serde(default)]
    pub export: Vec<Export>,
}

/// How the root file system is run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name, as the LinuxKit YAML and the templates use it.
    pub reference: String,
    /// Program and first arguments.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Arguments that a command replaces.
    #[serde(default)]
    pub command: Vec<String>,
    /// `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// What it says of itself.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Files joined into one, in the order of their paths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The one.
    pub path: String,
    /// Patterns of the many.
    pub from: Vec<String>,
}

/// A program of this workspace.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name.
    pub program: String,
    /// Where it goes.
    pub path: String,
}

/// How kernel and modules are chosen from the packages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Pattern of the kernel's path.
    pub kernel: String,
    /// The rules for modules, relative to `component.yaml`.
    pub modules: String,
}

/// A file to be copied out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Pattern of its path in the packages.
    pub from: String,
    /// File name in the output directory.
    pub to: String,
}

/// A component where it was found.
#[derive(Clone, Debug)]
pub struct Component {
    /// The name of its folder.
    pub name: String,
    /// Its `component.yaml`.
    pub path: PathBuf,
    /// The bytes of it.
    pub text: Vec<u8>,
    /// What they say.
    pub description: Description,
}

/// Where components are when none is named.
const HOME: &str = "linuxkit/components";

/// Reads the components of the given folders, or all there are.
pub fn read_all(folders: &[PathBuf]) -> Result<Vec<Component>, yaml::Error> {
    if !folders.is_empty() {
        return folders.iter().map(|folder| read(folder)).collect();
    }
    let failed = |source| yaml::Error::Read(output::Error::new("list", Path::new(HOME), source));
    let entries = std::fs::read_dir(HOME).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut folders: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    folders.sort();
    folders.iter().map(|folder| read(folder)).collect()
}

fn read(folder: &Path) -> Result<Component, yaml::Error> {
    let path = folder.join("component.yaml");
    let (description, text) = yaml::read(&path)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Component { name, path, text, description })
}
