//! Component images: `component.yaml` plus locked packages plus our programs give an image in the layout,
//! only when something it is made of has changed.

pub mod elf;
mod export;
mod inputs;
pub mod kernel;
mod model;
mod packages;
mod root;

pub use export::export;
pub use model::{Component, Description, read_all};

use std::collections::BTreeMap;
use std::path::Path;

use thiserror::Error;

use crate::debs::lock::{self, Lock};
use crate::debs::store::{self, Store};
use crate::linuxkit::files;
use crate::oci::types::RunConfig;
use crate::oci::write::{self, NewImage};
use crate::oci::{CONTENTS, reference};
use crate::sbom::{Contents, Package};
use crate::{output, tree, yaml};

/// A component that cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// Its description is malformed.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] output::Error),
    /// A package is not locked.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// A package cannot be had.
    #[error(transparent)]
    Package(Box<store::Error>),
    /// Files clash.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// A pattern names nothing: a package has changed, or there is a typing mistake.
    #[error("pattern `{pattern}` in `{key}` matches no file of the packages")]
    NoMatch {
        /// Which list.
        key: &'static str,
        /// The pattern.
        pattern: String,
    },
    /// Two packages bring different files of one path.
    #[error("two packages hold different files `{path}`; drop one")]
    Conflict {
        /// The path.
        path: String,
    },
    /// A program of ours is not built.
    #[error("program {path} is missing; build it first (cargo build -p {program})")]
    Program {
        /// Its name.
        program: String,
        /// Where it should be.
        path: String,
    },
    /// An entry of `files`.
    #[error(transparent)]
    OwnFile(#[from] files::Error),
    /// Libraries or loaders are missing.
    #[error(transparent)]
    Elf(#[from] elf::Error),
    /// The modules cannot be selected.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A file entry is unusable.
    #[error("file `{path}`: {problem}")]
    Entry {
        /// Its path in the image.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tool failed.
    #[error("{program} failed on {path}")]
    Tool {
        /// The tool.
        program: &'static str,
        /// What it worked on.
        path: String,
    },
    /// The layout cannot take the image.
    #[error(transparent)]
    Store(Box<write::Error>),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Package(Box::new(error))
    }
}

impl From<write::Error> for Error {
    fn from(error: write::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl Error {
    /// Whether it is the mirror that no longer has what is locked.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Package(error) if matches!(**error, store::Error::Gone { .. }))
    }
}

/// Where things are.
pub struct Workshop<'a> {
    /// Our built programs.
    pub programs: &'a Path,
    /// The locked packages.
    pub lock: &'a Lock,
    /// Package files.
    pub store: &'a Store,
    /// The layout for the images.
    pub layout: &'a Path,
    /// Go's name of the machine.
    pub architecture: &'a str,
}

/// What [`make`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Made {
    /// Nothing had changed.
    Unchanged,
    /// The images are new.
    Built,
}

/// Has the packages of a component at hand, so that one which is gone shows before any image is made.
pub fn fetch(component: &Component, workshop: &Workshop) -> Result<(), Error> {
    for asked in &component.description.packages {
        workshop.store.file(workshop.lock.get(asked)?)?;
    }
    Ok(())
}

/// Brings the images of a component up to date.
pub fn make(component: &Component, workshop: &Workshop) -> Result<Made, Error> {
    let inputs = inputs::digest(component, workshop)?;
    let mut current = true;
    for image in &component.description.images {
        current &= write::is_current(workshop.layout, &reference::expand(&image.reference), &inputs)?;
    }
    if current {
        return Ok(Made::Unchanged);
    }
    let mut tree = root::tree(component, workshop)?;
    if let Some(kernel) = &component.description.kernel {
        tree = kernel::image(component, kernel, &tree)?;
    } else {
        elf::check(&tree)?;
    }
    let layer = write::layer(workshop.layout, &tree)?;
    for image in &component.description.images {
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let run = RunConfig {
            entrypoint: list(&image.entrypoint),
            cmd: list(&image.command),
            env: list(&image.env),
            working_dir: None,
            labels: Some(labels(component, image, workshop)?),
        };
        let reference = reference::expand(&image.reference);
        let new = NewImage { reference: &reference, architecture: workshop.architecture, run, inputs: &inputs };
        write::image(workshop.layout, &layer, new)?;
    }
    Ok(Made::Built)
}

/// The image's own labels, and what is in it, for the bill of materials.
fn labels(component: &Component, image: &model::Image, workshop: &Workshop) -> Result<BTreeMap<String, String>, Error> {
    let mut packages = Vec::new();
    for asked in &component.description.packages {
        let package = workshop.lock.get(asked)?;
        packages.push(Package {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256.clone(),
        });
    }
    let programs = component.description.programs.iter().map(|program| program.program.clone()).collect();
    let contents = serde_json::to_string(&Contents { packages, programs }).map_err(write::Error::Encode)?;
    let mut labels = image.labels.clone();
    labels.insert(CONTENTS.to_owned(), contents);
    Ok(labels)
}
