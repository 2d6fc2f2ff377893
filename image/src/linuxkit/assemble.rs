//! From YAML and images to the finished tree: kernel, init, bundles, files, in LinuxKit's order.
//! Reads images and the files the YAML names; writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use spec::stage::MOUNT;
use thiserror::Error;

use super::bundle::{self, Bundles, Prepared};
use super::ids::Ids;
use super::model::{Container, Document, Format};
use super::stage::Places;
use super::volumes::{self, Content};
use super::{files, load};
use crate::oci::read::{self, Image, Layout};
use crate::oci::reference;
use crate::progress::Progress;
use crate::tar;
use crate::tree::{self, Kind, Node, Tree};

/// An image that cannot be assembled.
#[derive(Debug, Error)]
pub enum Error {
    /// An image cannot be read.
    #[error(transparent)]
    Image(Box<read::Error>),
    /// The YAML is malformed.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// An entry of `files`.
    #[error(transparent)]
    File(#[from] files::Error),
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
    /// The YAML names no kernel.
    #[error("none of the files names a kernel: key `image` of `kernel`")]
    NoKernel,
}

impl From<read::Error> for Error {
    fn from(error: read::Error) -> Self {
        Self::Image(Box::new(error))
    }
}

/// What comes out.
pub struct Assembled {
    /// The kernel, when the YAML has one.
    pub kernel: Option<Kernel>,
    /// Everything in the initramfs but what is counted at its end.
    pub tree: Tree,
    /// What stage two brings; empty when the image has one stage.
    pub layer: Tree,
    /// Images that lie in the layer, by full reference.
    pub late: BTreeSet<String>,
    /// The images it was made of, by full reference.
    pub images: BTreeMap<String, Image>,
}

/// The kernel's files that do not lie in the initramfs.
pub struct Kernel {
    /// To boot.
    pub image: Vec<u8>,
    /// What the YAML wants on its command line.
    pub cmdline: String,
    /// Microcode, a cpio archive that must come first and uncompressed.
    pub ucode: Option<Vec<u8>>,
}

impl Assembled {
    /// The kernel, which a bootable image needs.
    pub fn take_kernel(&mut self) -> Result<Kernel, Error> {
        self.kernel.take().ok_or(Error::NoKernel)
    }
}

/// Assembles what YAML files describe from the images of a layout.
pub fn assemble(
    files: &[PathBuf],
    layout: &Layout,
    architecture: &str,
    two_stages: bool,
    progress: &mut Progress,
) -> Result<Assembled, Error> {
    let document = load::load(files)?;
    let mut images = Images { layout, architecture, read: BTreeMap::new() };
    for name in image_names(&document) {
        progress.step(&format!("reading {name}"));
        images.read(name)?;
    }
    let mut tree = Tree::default();
    let kernel = add_kernel(&mut tree, &document, &images)?;
    add_init(&mut tree, &document, &images)?;
    add_volumes(&mut tree, &document, &images)?;
    let prepared = prepare(&document, &images)?;
    let ids = Ids::of(&document);
    let mut places = Places::new(tree, &prepared, two_stages);
    let mut bundles = Bundles::default();
    for one in &prepared {
        let bundle = |source| Error::Bundle { image: one.reference.clone(), source };
        bundles.add(&mut places, one, &images.read[&one.reference], &ids).map_err(bundle)?;
    }
    for entry in &document.files {
        if let Some(node) = files::node(entry, &ids, Some(&document))? {
            let what = format!("files entry `{}`", entry.path);
            places.insert(&entry.path, node).map_err(|source| Error::Place { what, source })?;
        }
    }
    let Places { mut tree, layer, late, .. } = places;
    if layer.iter().next().is_some() {
        tree.ensure_directory(MOUNT).map_err(|source| Error::Place { what: MOUNT.into(), source })?;
    }
    Ok(Assembled { kernel, tree, layer, late, images: images.read })
}

/// Every image a document needs, as it names them.
pub fn image_names(document: &Document) -> impl Iterator<Item = &str> {
    let containers = [&document.onboot, &document.onshutdown, &document.services].into_iter().flatten();
    Some(document.kernel.image.as_str())
        .filter(|name| !name.is_empty())
        .into_iter()
        .chain(document.init.iter().map(String::as_str))
        .chain(document.volumes.iter().filter_map(|volume| volume.image.as_deref()))
        .chain(containers.filter_map(|container| container.image.as_deref()))
}

struct Images<'a> {
    layout: &'a Layout,
    architecture: &'a str,
    read: BTreeMap<String, Image>,
}

impl Images<'_> {
    fn read(&mut self, name: &str) -> Result<(), Error> {
        let full = reference::expand(name);
        if !self.read.contains_key(&full) {
            let image = self.layout.image(&full, self.architecture)?;
            self.read.insert(full, image);
        }
        Ok(())
    }

    /// One that [`image_names`] named.
    fn get(&self, name: &str) -> &Image {
        &self.read[&reference::expand(name)]
    }
}

fn add_kernel(tree: &mut Tree, document: &Document, images: &Images) -> Result<Option<Kernel>, Error> {
    let kernel = &document.kernel;
    if kernel.image.is_empty() {
        return Ok(None);
    }
    let image = images.get(&kernel.image);
    let file = |file: &str| match image.tree.resolve(file).map(|node| &node.kind) {
        Some(Kind::File(content)) => Ok(content.clone()),
        _ => Err(Error::KernelFile { image: kernel.image.clone(), file: file.to_owned() }),
    };
    let modules = kernel.tar.as_deref().unwrap_or("kernel.tar");
    if modules != "none" {
        let bytes = file(modules)?;
        let failed = |source| Error::Modules { image: kernel.image.clone(), source };
        tar::read_into(tree, bytes.as_slice(), |path| path).map_err(failed)?;
    }
    let ucode = kernel.ucode.as_deref().map(file).transpose()?.map(|content| content.to_vec());
    let binary = file(kernel.binary.as_deref().unwrap_or("kernel"))?.to_vec();
    Ok(Some(Kernel { image: binary, cmdline: kernel.cmdline.clone(), ucode }))
}

fn add_init(tree: &mut Tree, document: &Document, images: &Images) -> Result<(), Error> {
    for name in &document.init {
        let place = |source| Error::Place { what: format!("init image `{name}`"), source };
        let mut cleaned = bundle::cleaned(&images.get(name).tree).map_err(place)?;
        cleaned.insert("etc/resolv.conf", Node::symlink(bundle::RESOLVER)).map_err(place)?;
        tree.merge("", &cleaned).map_err(place)?;
    }
    let executable = |node: &Node| matches!(node.kind, Kind::File(_)) && node.mode & 0o111 != 0;
    if tree.resolve("init").is_some_and(executable) {
        return Ok(());
    }
    Err(Error::NoInit { images: document.init.join(", ") })
}

fn add_volumes(tree: &mut Tree, document: &Document, images: &Images) -> Result<(), Error> {
    for volume in &document.volumes {
        let content = match (&volume.image, volume.format) {
            (None, _) => Content::Empty,
            (Some(image), Format::Filesystem) => Content::Files(images.get(image)),
            (Some(image), Format::Oci) => {
                Content::Layout(images.layout.subset(&reference::expand(image), &volume.platforms)?)
            }
        };
        let place = |source| Error::Place { what: format!("volume `{}`", volume.name), source };
        volumes::add(tree, volume, &content).map_err(place)?;
    }
    Ok(())
}

fn prepare(document: &Document, images: &Images) -> Result<Vec<Prepared>, Error> {
    let sections =
        [("onboot", &document.onboot), ("onshutdown", &document.onshutdown), ("services", &document.services)];
    let mut all: Vec<Prepared> = Vec::new();
    for (section, containers) in sections {
        for (index, container) in containers.iter().enumerate() {
            let prefix = bundle_path(section, index, container).map_err(Error::Entry)?;
            let name = container.image.as_deref().unwrap_or_default();
            let failed = |source| Error::Bundle { image: name.to_owned(), source };
            all.push(bundle::prepare(prefix, container, images.get(name), &document.volumes).map_err(failed)?);
        }
    }
    Ok(all)
}

fn bundle_path(section: &'static str, index: usize, container: &Container) -> Result<String, bundle::Error> {
    let missing = |key| bundle::Error::Incomplete { section, key };
    let name = container.name.as_deref().ok_or_else(|| missing("name"))?;
    if container.image.is_none() {
        return Err(missing("image"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        let problem = "no name of letters, digits, `.`, `_` and `-`";
        return Err(bundle::Error::Name { section, name: name.to_owned(), problem });
    }
    Ok(match section {
        "services" => format!("containers/services/{name}"),
        section => format!("containers/{section}/{index:03}-{name}"),
    })
}
