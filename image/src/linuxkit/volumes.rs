//! Volumes: directories below `/containers/volumes` that containers name in `binds` and `mounts`. Lays them out and
//! turns names into paths; mounting `merged` is init's.

use thiserror::Error;

use super::bundle;
use super::model::{Container, Volume};
use crate::oci::read::Image;
use crate::tree::{self, Node, Tree};

/// A container's use of a volume that cannot be.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("container `{container}`, key `{key}`: volume `{volume}` {problem}")]
pub struct Error {
    container: String,
    key: &'static str,
    volume: String,
    problem: &'static str,
}

/// What goes into a volume at first.
pub enum Content<'a> {
    /// Nothing.
    Empty,
    /// The files of an image.
    Files(&'a Image),
    /// An OCI layout.
    Layout(Tree),
}

/// Where a volume lies.
fn path(name: &str) -> String {
    format!("containers/volumes/{name}")
}

/// Lays a volume out.
pub fn add(tree: &mut Tree, volume: &Volume, content: &Content) -> Result<(), tree::Error> {
    let path = path(&volume.name);
    for below in ["lower", "tmp", "merged"] {
        tree.ensure_directory(&format!("{path}/{below}"))?;
    }
    let lower = format!("{path}/lower");
    match content {
        Content::Empty => Ok(()),
        Content::Layout(layout) => tree.merge(&lower, layout),
        Content::Files(image) => {
            let mut files = bundle::cleaned(&image.tree)?;
            files.insert("etc/resolv.conf", Node::symlink(bundle::RESOLVER))?;
            tree.merge(&lower, &files)
        }
    }
}

/// The container with paths in place of names.
pub fn resolved(container: &Container, volumes: &[Volume]) -> Result<Container, Error> {
    let mut container = container.clone();
    let name = container.name.clone().unwrap_or_default();
    let find = |key, source: &str, read_only: bool| {
        let fail = |problem| Error { container: name.clone(), key, volume: source.to_owned(), problem };
        match volumes.iter().find(|volume| volume.name == source) {
            None => Err(fail("is not in `volumes`, and no absolute path either")),
            Some(volume) if volume.readonly && !read_only => Err(fail("is read-only: add the option `ro`")),
            Some(volume) => Ok(format!("/{}/merged", path(&volume.name))),
        }
    };
    for (key, binds) in [("binds", &mut container.binds), ("binds.add", &mut container.binds_add)] {
        for bind in binds.iter_mut().flatten() {
            let Some((source, rest)) = bind.split_once(':').filter(|(source, _)| !source.starts_with('/')) else {
                continue;
            };
            let options = rest.split_once(':').map_or("", |(_, options)| options);
            let found = find(key, source, options.split(',').any(|option| option == "ro"))?;
            *bind = format!("{found}:{rest}");
        }
    }
    for mount in container.mounts.iter_mut().flatten() {
        if mount.kind == "bind" && !mount.source.starts_with('/') {
            let read_only = mount.options.iter().any(|option| option == "ro");
            mount.source = find("mounts", &mount.source, read_only)?;
        }
    }
    Ok(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(container: &str) -> Result<Container, String> {
        let volumes = [("rw", false), ("fixed", true)].map(|(name, readonly)| Volume {
            name: name.into(),
            image: None,
            readonly,
            format: super::super::model::Format::Filesystem,
            platforms: Vec::new(),
        });
        resolved(&crate::yaml::parse("test", container).unwrap(), &volumes).map_err(|error| error.to_string())
    }

    #[test]
    fn names_become_paths_and_paths_stay() {
        let container = resolve(
            "{name: x, binds: ['rw:/a', 'fixed:/b:ro', '/c:/c'], binds.add: ['rw:/d:rw'],
              mounts: [{type: bind, source: rw, destination: /e}, {type: tmpfs, source: tmpfs, destination: /f}]}",
        )
        .unwrap();
        let merged = "/containers/volumes/rw/merged";
        assert_eq!(
            container.binds.unwrap()[..],
            [format!("{merged}:/a"), "/containers/volumes/fixed/merged:/b:ro".into(), "/c:/c".into()]
        );
        assert_eq!(container.binds_add.unwrap(), [format!("{merged}:/d:rw")]);
        assert_eq!(container.mounts.unwrap()[0].source, merged);
    }

    #[test]
    fn an_unknown_volume_and_a_write_to_a_fixed_one_are_named() {
        for (container, expected) in [
            ("{name: x, binds: ['gone:/a']}", "container `x`, key `binds`: volume `gone` is not in"),
            ("{name: x, binds: ['fixed:/a']}", "container `x`, key `binds`: volume `fixed` is read-only"),
            (
                "{name: x, mounts: [{type: bind, source: fixed, destination: /a}]}",
                "container `x`, key `mounts`: volume",
            ),
        ] {
            let error = resolve(container).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_volume_has_linuxkits_three_directories() {
        let mut tree = Tree::default();
        let volume = crate::yaml::parse("test", "{name: v}").unwrap();
        add(&mut tree, &volume, &Content::Empty).unwrap();
        let found: Vec<_> = tree.children("containers/volumes/v").collect();
        assert_eq!(found, ["containers/volumes/v/lower", "containers/volumes/v/merged", "containers/volumes/v/tmp"]);
    }
}
