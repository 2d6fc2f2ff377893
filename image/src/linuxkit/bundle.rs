//! A container's directory in the image: config.json, runtime.json and its root file system, as LinuxKit lays it out.
//! An image used twice is stored once; later bundles point into the first.

use std::collections::HashMap;

use thiserror::Error;

use super::ids::Ids;
use super::merge::{self, LABEL};
use super::model::{Container, Mount, Runtime, Volume};
use super::stage::{self, Places};
use super::{runtime_spec, volumes};
use crate::oci::read::Image;
use crate::oci::reference;
use crate::tree::{self, Node, Tree};
use crate::yaml;

/// A container that cannot be laid out.
#[derive(Debug, Error)]
pub enum Error {
    /// An entry without a name or an image.
    #[error("an entry of `{section}` has no `{key}`")]
    Incomplete {
        /// `onboot`, `onshutdown` or `services`.
        section: &'static str,
        /// What is missing.
        key: &'static str,
    },
    /// A name that is no file name, or used twice.
    #[error("`{name}` in `{section}` is {problem}")]
    Name {
        /// `onboot`, `onshutdown` or `services`.
        section: &'static str,
        /// As given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The label of the image is malformed.
    #[error("the label {LABEL} of the image is malformed")]
    Label(#[from] yaml::Error),
    /// The label of the image says what only the YAML may say.
    #[error("the label {LABEL} of the image has a `{key}`, which only the YAML can give")]
    LabelKey {
        /// `name` or `image`.
        key: &'static str,
    },
    /// A volume is used wrongly.
    #[error(transparent)]
    Volume(#[from] volumes::Error),
    /// A stage that does not exist.
    #[error(transparent)]
    Stage(#[from] stage::Error),
    /// A key has a value without meaning.
    #[error(transparent)]
    Value(#[from] runtime_spec::Error),
    /// The files clash.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// JSON cannot be written.
    #[error("cannot encode the bundle's documents")]
    Encode(#[source] serde_json::Error),
}

/// A container with everything merged, on its way into the tree.
pub struct Prepared {
    /// Its directory.
    pub prefix: String,
    /// Full reference of its image.
    pub reference: String,
    /// Whether it can wait for stage two.
    pub second: bool,
    container: Container,
}

/// Merges what the YAML, the label and the image say of a container.
pub fn prepare(prefix: String, container: &Container, image: &Image, volumes: &[Volume]) -> Result<Prepared, Error> {
    let run = &image.config.config;
    let short = container.image.as_deref().unwrap_or_default();
    let label: Container = match run.labels.as_ref().and_then(|labels| labels.get(LABEL)) {
        Some(text) => yaml::parse(&format!("label {LABEL} of {short}"), text)?,
        None => Container::default(),
    };
    for (key, given) in [("name", &label.name), ("image", &label.image)] {
        if given.is_some() {
            return Err(Error::LabelKey { key });
        }
    }
    let merged = merge::merge(&volumes::resolved(container, volumes)?, &label, run);
    let second = stage::is_second(&merged, run.labels.as_ref())?;
    Ok(Prepared { prefix, reference: reference::expand(short), second, container: merged })
}

/// Lays out bundles into a tree.
#[derive(Default)]
pub struct Bundles {
    /// Where the files of an image already lie, as init will see them.
    roots: HashMap<String, String>,
}

/// Where the resolver's file of the machine is.
pub const RESOLVER: &str = "/run/resolvconf/resolv.conf";

/// The text LinuxKit gives every container.
const HOSTS: &str = "127.0.0.1       localhost\n::1     localhost ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\n\
    ff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n";

impl Bundles {
    /// Adds a container; its files go where `places` has room for its stage.
    pub fn add(&mut self, places: &mut Places, prepared: &Prepared, image: &Image, ids: &Ids) -> Result<(), Error> {
        let Prepared { prefix, reference, container, .. } = prepared;
        let mut container = container.clone();
        stage::mark(&mut container, places.holds(prepared));
        let name = container.name.clone().unwrap_or_default();
        let config = runtime_spec::config_json(&name, &container, ids)?;
        let read_only = container.readonly == Some(true);

        places.tree.ensure_directory(prefix)?;
        let own = format!("{prefix}/{}", if read_only { "rootfs" } else { "lower" });
        let root = match self.roots.get(reference) {
            Some(elsewhere) => elsewhere.clone(),
            None => {
                let root = places.put(prepared, &own, &container_root(&image.tree)?)?;
                self.roots.insert(reference.clone(), root.clone());
                root
            }
        };
        places.tree.ensure_directory(&format!("{prefix}/rootfs"))?;
        if !read_only {
            places.tree.ensure_directory(&format!("{prefix}/tmp"))?;
        }
        let mut runtime = container.runtime.take().unwrap_or_default();
        let mut mounts = root_mounts(prefix, &root, read_only);
        mounts.extend(runtime.mounts.take().unwrap_or_default());
        let runtime = Runtime { mounts: Some(mounts), ..runtime };
        for (file, document) in [("config.json", Ok(config)), ("runtime.json", serde_json::to_value(&runtime))] {
            let document = document.and_then(|document| serde_json::to_vec_pretty(&document)).map_err(Error::Encode)?;
            places.tree.insert(&format!("{prefix}/{file}"), Node::file(document, 0o644))?;
        }
        Ok(())
    }
}

/// What init mounts so that `rootfs` is the container's root.
fn root_mounts(prefix: &str, root: &str, read_only: bool) -> Vec<Mount> {
    let mount = |kind: &str, source: &str, destination: &str, options: &[&str]| Mount {
        destination: format!("/{prefix}/{destination}"),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    };
    if read_only {
        return vec![mount("", root, "rootfs", &["bind"])];
    }
    let lower = format!("lowerdir={root}");
    let (upper, work) = (format!("upperdir=/{prefix}/tmp/upper"), format!("workdir=/{prefix}/tmp/work"));
    vec![
        mount("tmpfs", "tmpfs", "tmp", &[]),
        // Nothing else shall see the layers.
        mount("", "", "tmp", &["remount", "private"]),
        mount("overlay", "overlay", "rootfs", &[&lower, &upper, &work]),
    ]
}

/// What LinuxKit does to every image: container tools' leavings go, directories a runtime mounts on come.
pub fn cleaned(image: &Tree) -> Result<Tree, tree::Error> {
    let mut tree = image.clone();
    for path in [".dockerenv", "Dockerfile", "dev/console", "etc/hostname"] {
        tree.remove(path);
    }
    for path in ["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"] {
        tree.ensure_directory(path)?;
    }
    tree.insert("etc/mtab", Node::symlink("/proc/mounts"))?;
    tree.insert("etc/hosts", Node::file(HOSTS, 0o644))?;
    Ok(tree)
}

fn container_root(image: &Tree) -> Result<Tree, tree::Error> {
    let mut tree = cleaned(image)?;
    tree.insert("etc/resolv.conf", Node::file("\n# no resolv.conf configured\n", 0o644))?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::types::{ImageConfig, RootFs, RunConfig};
    use crate::tree::Kind;
    use serde_json::Value;

    fn image(label: &str) -> Image {
        let mut tree = Tree::default();
        tree.insert("usr/bin/x", Node::file("x", 0o755)).unwrap();
        let labels = Some([(LABEL.to_owned(), label.to_owned())].into());
        let config = RunConfig { entrypoint: Some(vec!["/usr/bin/x".into()]), labels, ..RunConfig::default() };
        let rootfs = RootFs { kind: "layers".into(), diff_ids: vec![] };
        let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), config, rootfs };
        Image { digest: String::new(), config, tree }
    }

    fn container(yaml: &str) -> Container {
        yaml::parse("test", yaml).unwrap()
    }

    fn add(bundles: &mut Bundles, places: &mut Places, prefix: &str, entry: &str, image: &Image) -> Result<(), Error> {
        let prepared = prepare(prefix.into(), &container(entry), image, &[])?;
        bundles.add(places, &prepared, image, &Ids::default())
    }

    fn json(tree: &Tree, path: &str) -> Value {
        match &tree.get(path).unwrap().kind {
            Kind::File(content) => serde_json::from_slice(content).unwrap(),
            other => panic!("{path} is a {}", other.name()),
        }
    }

    #[test]
    fn an_image_used_twice_is_stored_once() {
        let (mut places, mut bundles) = (Places::default(), Bundles::default());
        let image = image("net: host");
        add(&mut bundles, &mut places, "containers/onboot/000-a", "{name: a, image: x}", &image).unwrap();
        let second = "{name: b, image: x, runtime: {mkdir: [/run/x], mounts: [{destination: /m, source: /n}]}}";
        add(&mut bundles, &mut places, "containers/services/b", second, &image).unwrap();
        let tree = &places.tree;
        assert!(tree.get("containers/onboot/000-a/lower/usr/bin/x").is_some());
        assert!(tree.get("containers/services/b/lower").is_none());
        let runtime = json(tree, "containers/services/b/runtime.json");
        assert_eq!(runtime["mounts"][2]["options"][0], "lowerdir=/containers/onboot/000-a/lower");
        assert_eq!(runtime["mounts"][2]["destination"], "/containers/services/b/rootfs");
        assert_eq!(runtime["mounts"][3]["destination"], "/m");
        assert_eq!(runtime["mkdir"][0], "/run/x");
    }

    #[test]
    fn a_read_only_root_is_bound_onto_itself() {
        let (mut places, mut bundles) = (Places::default(), Bundles::default());
        let entry = "{name: a, image: x, readonly: true}";
        add(&mut bundles, &mut places, "containers/services/a", entry, &image("{}")).unwrap();
        let tree = &places.tree;
        let runtime = json(tree, "containers/services/a/runtime.json");
        assert_eq!(runtime["mounts"][0]["source"], "/containers/services/a/rootfs");
        assert_eq!(json(tree, "containers/services/a/config.json")["root"]["readonly"], true);
        assert!(tree.get("containers/services/a/rootfs/usr/bin/x").is_some());
        assert!(tree.get("containers/services/a/tmp").is_none());
    }

    #[test]
    fn a_bad_label_is_an_error() {
        for (label, expected) in [
            ("nett: host", "docker.io/x/y:1:1: "),
            ("name: x", "the label org.mobyproject.config of the image has a `name`"),
        ] {
            let entry = "{name: a, image: docker.io/x/y:1}";
            let image = image(label);
            let error = add(&mut Bundles::default(), &mut Places::default(), "containers/services/a", entry, &image);
            let error = anyhow::Error::new(error.unwrap_err());
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
