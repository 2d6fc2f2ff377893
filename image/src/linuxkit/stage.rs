//! Which files go where when the image has two stages: an image whose containers can all wait lies in the layer, at its
//! path below `/containers`; everything else, and every container's description, is in the initramfs.

use std::collections::{BTreeMap, BTreeSet};

use spec::stage::{ANNOTATION, MOUNT, SECOND};
use thiserror::Error;

use super::bundle::Prepared;
use super::model::Container;
use crate::tree::{self, Node, Tree};

/// A stage that does not exist.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("container `{container}`: annotation {ANNOTATION} is `{value}`; only \"{SECOND}\" has a meaning")]
pub struct Error {
    container: String,
    value: String,
}

/// What the layer mirrors.
const HOME: &str = "containers/";

/// The trees of both stages.
#[derive(Default)]
pub struct Places {
    /// The initramfs.
    pub tree: Tree,
    /// The layer.
    pub layer: Tree,
    /// Images that lie in the layer, by full reference.
    pub late: BTreeSet<String>,
    /// Directories that moved to the layer.
    moved: BTreeSet<String>,
}

impl Places {
    /// Places for these containers; with `two_stages`, images that only second-stage containers use go to the layer.
    pub fn new(tree: Tree, prepared: &[Prepared], two_stages: bool) -> Self {
        let of =
            |second: bool| prepared.iter().filter(move |one| one.second == second).map(|one| one.reference.clone());
        let early: BTreeSet<String> = of(false).collect();
        let late = of(true).filter(|reference| two_stages && !early.contains(reference)).collect();
        Self { tree, late, ..Self::default() }
    }

    /// Whether the container's files lie in the layer.
    pub fn holds(&self, prepared: &Prepared) -> bool {
        self.late.contains(&prepared.reference)
    }

    /// Puts the files of an image at `path` of its stage; returns where init will see them.
    pub fn put(&mut self, prepared: &Prepared, path: &str, files: &Tree) -> Result<String, tree::Error> {
        if !self.holds(prepared) {
            self.tree.ensure_directory(path)?;
            self.tree.merge(path, files)?;
            return Ok(format!("/{path}"));
        }
        let below = path.strip_prefix(HOME).unwrap_or(path);
        self.layer.ensure_directory(below)?;
        self.layer.merge(below, files)?;
        self.moved.insert(format!("{path}/"));
        Ok(format!("{MOUNT}/{below}"))
    }

    /// Adds an entry of `files`, also to a directory that moved.
    pub fn insert(&mut self, path: &str, node: Node) -> Result<(), tree::Error> {
        let path = tree::normalise(path)?;
        match path.strip_prefix(HOME).filter(|_| self.moved.iter().any(|moved| path.starts_with(moved))) {
            Some(below) => self.layer.insert(below, node),
            None => self.tree.insert(&path, node),
        }
    }
}

/// Whether a container, or else its image by a label of the same name, says that it can wait.
pub fn is_second(container: &Container, labels: Option<&BTreeMap<String, String>>) -> Result<bool, Error> {
    let annotation = container.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
    match annotation.or_else(|| labels.and_then(|labels| labels.get(ANNOTATION))) {
        None => Ok(false),
        Some(value) if value == SECOND => Ok(true),
        Some(value) => Err(Error { container: container.name.clone().unwrap_or_default(), value: value.clone() }),
    }
}

/// Makes the annotation say where the files really are: that is what init reads.
pub fn mark(container: &mut Container, late: bool) {
    if late {
        container.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), SECOND.to_owned());
    } else if let Some(annotations) = &mut container.annotations {
        annotations.remove(ANNOTATION);
    }
}
