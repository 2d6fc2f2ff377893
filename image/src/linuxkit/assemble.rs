//! From YAML and images to the finished tree: kernel, init, bundles, files, in LinuxKit's order.
//! Reads images and the files the YAML names; writes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::bundle::{self, Bundles};
use super::model::{Container, Document, File};
use crate::oci::read::{self, Image, Layout};
use crate::oci::reference;
use crate::tree::{self, Kind, Node, Tree};
use crate::{output, tar, yaml};

/// An image that cannot be assembled.
#[derive(Debug, Error)]
pub enum Error {
    /// An image cannot be read.
    #[error(transparent)]
    Image(Box<read::Error>),
    /// The YAML is malformed.
    #[error(transparent)]
    Yaml(#[from] yaml::Error),
    /// A file the YAML names.
    #[error("files entry `{path}` cannot be added")]
    Source {
        /// Its path in the image.
        path: String,
        /// Why.
        #[source]
        source: output::Error,
    },
    /// Two things want the same path.
    #[error("{what} cannot be added")]
    Place {
        /// An image, or an entry of `files`.
        what: String,
        /// Why.
        #[source]
        source: tree::Error,
    },
    /// A container cannot be laid out.
    #[error("image `{image}` cannot become a container")]
    Bundle {
        /// Its reference.
        image: String,
        /// Why.
        #[source]
        source: bundle::Error,
    },
    /// A container entry is incomplete.
    #[error(transparent)]
    Entry(bundle::Error),
    /// The kernel image lacks a file.
    #[error("kernel image `{image}` has no file `{file}`")]
    KernelFile {
        /// Its reference.
        image: String,
        /// The file.
        file: String,
    },
    /// The module archive is damaged.
    #[error("the modules of kernel image `{image}` cannot be unpacked")]
    Modules {
        /// Its reference.
        image: String,
        /// Why.
        #[source]
        source: tar::Error,
    },
    /// Nothing to start.
    #[error("none of the init images ({images}) has a program /init")]
    NoInit {
        /// As the YAML lists them.
        images: String,
    },
    /// An entry of `files` that says nothing or two things, or has a bad mode.
    #[error("files entry `{path}`: {problem}")]
    File {
        /// Its path in the image.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
}

impl From<read::Error> for Error {
    fn from(error: read::Error) -> Self {
        Self::Image(Box::new(error))
    }
}

/// What comes out.
pub struct Assembled {
    /// The kernel to boot.
    pub kernel: Vec<u8>,
    /// What the YAML wants on its command line.
    pub cmdline: String,
    /// Everything in the initramfs but its end marker.
    pub tree: Tree,
}

/// Assembles what a YAML file describes from the images of a layout.
pub fn assemble(file: &Path, layout: &Layout, architecture: &str) -> Result<Assembled, Error> {
    let (document, _): (Document, _) = yaml::read(file)?;
    let mut images = Images { layout, architecture, read: HashMap::new() };
    let mut tree = Tree::default();
    let kernel = add_kernel(&mut tree, &document, &mut images)?;
    for name in &document.init {
        let image = images.get(name)?;
        let place = |source| Error::Place { what: format!("init image `{name}`"), source };
        let mut cleaned = bundle::cleaned(&image.tree).map_err(place)?;
        cleaned.insert("etc/resolv.conf", Node::symlink("/run/resolvconf/resolv.conf")).map_err(place)?;
        tree.merge("", &cleaned).map_err(place)?;
    }
    let executable = |node: &Node| matches!(node.kind, Kind::File(_)) && node.mode & 0o111 != 0;
    if !tree.resolve("init").is_some_and(executable) {
        return Err(Error::NoInit { images: document.init.join(", ") });
    }
    let mut bundles = Bundles::default();
    let sections =
        [("onboot", &document.onboot), ("onshutdown", &document.onshutdown), ("services", &document.services)];
    for (section, containers) in sections {
        for (index, container) in containers.iter().enumerate() {
            let prefix = bundle_path(section, index, container, &tree).map_err(Error::Entry)?;
            let image = images.get(container.image.as_deref().unwrap_or_default())?;
            let bundle = |source| Error::Bundle { image: container.image.clone().unwrap_or_default(), source };
            bundles.add(&mut tree, &prefix, container, image).map_err(bundle)?;
        }
    }
    for entry in &document.files {
        add_file(&mut tree, file, entry)?;
    }
    Ok(Assembled { kernel, cmdline: document.kernel.cmdline, tree })
}

struct Images<'a> {
    layout: &'a Layout,
    architecture: &'a str,
    read: HashMap<String, Image>,
}

impl Images<'_> {
    fn get(&mut self, name: &str) -> Result<&Image, Error> {
        let full = reference::expand(name);
        if !self.read.contains_key(&full) {
            let image = self.layout.image(&full, self.architecture)?;
            self.read.insert(full.clone(), image);
        }
        Ok(&self.read[&full])
    }
}

fn add_kernel(tree: &mut Tree, document: &Document, images: &mut Images) -> Result<Vec<u8>, Error> {
    let name = &document.kernel.image;
    let image = images.get(name)?;
    let file = |file: &str| match image.tree.resolve(file).map(|node| &node.kind) {
        Some(Kind::File(content)) => Ok(content.clone()),
        _ => Err(Error::KernelFile { image: name.clone(), file: file.to_owned() }),
    };
    let modules = document.kernel.tar.as_deref().unwrap_or("kernel.tar");
    if modules != "none" {
        let bytes = file(modules)?;
        let modules = |source| Error::Modules { image: name.clone(), source };
        tar::read_into(tree, bytes.as_slice(), |path| path).map_err(modules)?;
    }
    Ok(file(document.kernel.binary.as_deref().unwrap_or("kernel"))?.to_vec())
}

fn bundle_path(
    section: &'static str,
    index: usize,
    container: &Container,
    tree: &Tree,
) -> Result<String, bundle::Error> {
    let missing = |key| bundle::Error::Incomplete { section, key };
    let name = container.name.as_deref().ok_or_else(|| missing("name"))?;
    if container.image.is_none() {
        return Err(missing("image"));
    }
    let bad = |problem| bundle::Error::Name { section, name: name.to_owned(), problem };
    if name.is_empty()
        || name.starts_with('.')
        || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        return Err(bad("no name of letters, digits, `.`, `_` and `-`"));
    }
    let path = match section {
        "services" => format!("containers/services/{name}"),
        section => format!("containers/{section}/{index:03}-{name}"),
    };
    if tree.get(&path).is_some() { Err(bad("there twice")) } else { Ok(path) }
}

fn add_file(tree: &mut Tree, yaml: &Path, file: &File) -> Result<(), Error> {
    let bad = |problem| Error::File { path: file.path.clone(), problem };
    let default = if file.directory { 0o755 } else { 0o644 };
    let mode = match &file.mode {
        Some(text) => u32::from_str_radix(text, 8).map_err(|_| bad("`mode` is not octal; write it in quotes"))?,
        None => default,
    };
    let kind = match (file.directory, &file.contents, &file.source, &file.symlink) {
        (true, None, None, None) => Kind::Directory,
        (false, Some(text), None, None) => Kind::File(text.clone().into_bytes().into()),
        (false, None, None, Some(target)) => Kind::Symlink(target.clone()),
        (false, None, Some(source), None) => {
            let path: PathBuf = yaml::beside(yaml, source);
            if file.optional && !path.exists() {
                return Ok(());
            }
            let read = output::read(&path).map_err(|source| Error::Source { path: file.path.clone(), source })?;
            Kind::File(read.into())
        }
        _ => return Err(bad("needs exactly one of `contents`, `source`, `symlink`, `directory: true`")),
    };
    let node = Node { kind, mode: mode & 0o7777, uid: file.uid, gid: file.gid };
    let what = format!("files entry `{}`", file.path);
    tree.insert(&file.path, node).map_err(|source| Error::Place { what, source })
}
