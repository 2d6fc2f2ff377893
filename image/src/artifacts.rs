//! From an assembled image to the files that are booted. All are written whole before the first takes its place, so a
//! failure leaves what was there before.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use spec::paths::{END_MARKER, ENTRIES};
use spec::stage::{self, Layer};
use thiserror::Error;

use crate::cli::{Build, Format};
use crate::compress::{self, Recipe};
use crate::linuxkit::assemble::{self, Assembled, Kernel};
use crate::linuxkit::load;
use crate::oci::read::Layout;
use crate::oci::reference;
use crate::output::{self, Pending};
use crate::progress::Progress;
use crate::pull::{self, Ways};
use crate::tree::{self, Node, Tree};
use crate::{ARCHITECTURE, cpio, hex, sbom, squashfs, tar};

/// Files that cannot be made.
#[derive(Debug, Error)]
pub enum Error {
    /// YAML or images.
    #[error(transparent)]
    Assemble(#[from] assemble::Error),
    /// The YAML.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// Registries.
    #[error(transparent)]
    Pull(#[from] pull::Error),
    /// A file of the output.
    #[error(transparent)]
    File(#[from] output::Error),
    /// The archive.
    #[error(transparent)]
    Cpio(#[from] cpio::Error),
    /// Its compression.
    #[error(transparent)]
    Compress(#[from] compress::Error),
    /// The plain tree.
    #[error(transparent)]
    Tar(#[from] tar::Error),
    /// The layer of stage two.
    #[error(transparent)]
    Layer(#[from] squashfs::Error),
    /// An image wants a place that is ours.
    #[error("{what} cannot be added")]
    Place {
        /// Our entry.
        what: &'static str,
        /// Why.
        #[source]
        source: tree::Error,
    },
    /// The bill of materials.
    #[error(transparent)]
    Sbom(#[from] sbom::Error),
    /// A file cannot be written.
    #[error("cannot write {what}")]
    Write {
        /// The file.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A file that was made.
#[derive(Debug)]
pub struct Built {
    /// Where.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// More about it, for a person.
    pub what: String,
}

/// Makes the files.
pub fn build(layout: &Path, request: &Build, progress: &mut Progress) -> Result<Vec<Built>, Error> {
    let recipe = Recipe::new(request.compression, request.level, request.threads)?;
    if request.pull {
        fetch(layout, request, progress)?;
    }
    let layout = Layout::new(layout);
    let assembled = assemble::assemble(&request.files, &layout, ARCHITECTURE.0, request.two_stages, progress)?;
    match request.format {
        Format::Tar => plain_tree(assembled, &request.out),
        Format::KernelInitramfs => bootable(assembled, request, recipe, progress),
    }
}

fn fetch(layout: &Path, request: &Build, progress: &mut Progress) -> Result<(), Error> {
    let document = load::load(&request.files)?;
    let mut references: Vec<String> = assemble::image_names(&document).map(reference::expand).collect();
    references.sort();
    references.dedup();
    let (authfile, ca_file) = (request.authfile.clone(), request.ca_file.clone());
    let ways = Ways { authfile, ca_file, plain_http: request.insecure_registry.clone() };
    for reference in pull::pull(layout, &references, ARCHITECTURE.0, &ways, progress)? {
        println!("pulled {reference}");
    }
    Ok(())
}

/// The tree of the stock CLI's `tar`: with kernel, command line and microcode in /boot.
fn plain_tree(assembled: Assembled, out: &Path) -> Result<Vec<Built>, Error> {
    let Assembled { kernel, mut tree, .. } = assembled;
    if let Some(Kernel { image, cmdline, ucode }) = kernel {
        let place = |source| Error::Place { what: "boot", source };
        tree.insert("boot/kernel", Node::file(image, 0o644)).map_err(place)?;
        tree.insert("boot/cmdline", Node::file(cmdline, 0o644)).map_err(place)?;
        if let Some(ucode) = ucode {
            tree.insert("boot/ucode.cpio", Node::file(ucode, 0o644)).map_err(place)?;
        }
    }
    let path = out.join(format!("image-{}.tar", ARCHITECTURE.1));
    let pending = Pending::with(&path, |out| tar::write(&tree, out).map_err(Error::from))?;
    commit(vec![(pending, format!("{} entries, ", tree.iter().count()))])
}

fn bootable(
    mut assembled: Assembled,
    request: &Build,
    recipe: Recipe,
    progress: &mut Progress,
) -> Result<Vec<Built>, Error> {
    let name = |what: &str| request.out.join(format!("{what}-{}", ARCHITECTURE.1));
    let kernel = assembled.take_kernel()?;
    let mut files = Vec::new();
    let mut description = None;
    if assembled.layer.iter().next().is_some() {
        progress.step("packing the layer of stage two");
        let (layer, second, described) = layer(&assembled.layer, &mut assembled.tree, request, &recipe)?;
        description = Some(described);
        files.push((layer, "layer of stage two, ".to_owned()));
        files.push((second, "the layer as a second initramfs, ".to_owned()));
    }
    progress.step("packing the initramfs");
    let place = |what| move |source| Error::Place { what, source };
    count(&mut assembled.tree).map_err(place(END_MARKER))?;
    let mut entries = 0;
    let initramfs = Pending::with(&name("initramfs"), |out| {
        let write = |source| Error::Write { what: "the microcode", source };
        out.write_all(kernel.ucode.as_deref().unwrap_or_default()).map_err(write)?;
        entries = recipe.run(out, |out| cpio::write(&assembled.tree, END_MARKER, out).map_err(Error::from))?;
        Ok::<_, Error>(())
    })?;
    progress.step("writing the bill of materials");
    let bill = sbom::document(&assembled, &initramfs, &kernel.image, description.as_ref())?;
    let bytes = |place: &Path, bytes: &[u8]| {
        let write = |source| Error::Write { what: "a file of the output", source };
        Pending::with(place, |out| out.write_all(bytes).map_err(write))
    };
    files.push((bytes(&sbom::beside(initramfs.place()), &bill)?, "bill of materials, ".to_owned()));
    files.push((bytes(&name("vmlinuz"), &kernel.image)?, String::new()));
    if !kernel.cmdline.is_empty() {
        files.push((bytes(&name("cmdline"), kernel.cmdline.as_bytes())?, String::new()));
    }
    files.push((initramfs, format!("{entries} entries, ")));
    let built = commit(files)?;
    if description.is_none() {
        // Those of an earlier build would be of another image.
        for stale in [name("stage2"), name("stage2").with_extension("cpio")] {
            let _ = std::fs::remove_file(stale);
        }
    }
    Ok(built)
}

/// Our own entries, made here so that they are counted.
fn count(tree: &mut Tree) -> Result<(), tree::Error> {
    for path in [END_MARKER, ENTRIES] {
        tree.remove(path.trim_start_matches('/'));
    }
    tree.ensure_directory("etc/ironhook")?;
    let total = tree.iter().count() + 1;
    tree.insert(ENTRIES, Node::file(format!("{total}\n"), 0o644))
}

/// The layer file, and the same as a cpio archive; its description goes into the initramfs.
fn layer(layer: &Tree, tree: &mut Tree, request: &Build, recipe: &Recipe) -> Result<(Pending, Pending, Layer), Error> {
    let place = request.out.join(format!("stage2-{}", ARCHITECTURE.1));
    let file = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let pending = Pending::new(&place)?;
    squashfs::write(layer, request.level, recipe.threads(), pending.path())?;
    let bytes = output::read(pending.path())?;
    let description = Layer { file, sha256: hex(&Sha256::digest(&bytes)), size: bytes.len() as u64 };
    let own = |source| Error::Place { what: stage::FILE, source };
    tree.insert(stage::FILE, Node::file(description.to_json(), 0o644)).map_err(own)?;
    let mut second = Tree::default();
    let path = format!("{}/{}", stage::DIRECTORY, description.file);
    second.insert(&path, Node::file(bytes, 0o644)).map_err(own)?;
    let second =
        Pending::with(&place.with_extension("cpio"), |out| cpio::write_plain(&second, out).map_err(Error::from))?;
    Ok((pending, second, description))
}

fn commit(files: Vec<(Pending, String)>) -> Result<Vec<Built>, Error> {
    let mut built = Vec::new();
    for (pending, what) in files {
        let path = pending.place().to_owned();
        pending.commit()?;
        let size = path.metadata().map_err(|source| output::Error::new("read", &path, source))?.len();
        built.push(Built { path, size, what });
    }
    Ok(built)
}
