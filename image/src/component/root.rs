//! The root file system of a component: what is kept of its packages, then joined files, programs and own files.

use std::path::Path;
use std::process::Command;

use super::packages::{matching, unpack};
use super::{Component, Error, Workshop};
use crate::linuxkit::files;
use crate::linuxkit::ids::Ids;
use crate::linuxkit::model::File;
use crate::tree::{Kind, Node, Tree};
use crate::{output, yaml};

/// Makes the tree.
pub fn tree(component: &Component, workshop: &Workshop) -> Result<Tree, Error> {
    let description = &component.description;
    let packages = unpack(component, workshop)?;
    let mut tree = Tree::default();
    for pattern in &description.keep {
        for path in matching(&packages, "keep", pattern)? {
            if let Some(node) = packages.get(path) {
                tree.insert(path, node.clone())?;
            }
        }
    }
    for pattern in &description.drop {
        let paths: Vec<String> = matching(&tree, "drop", pattern)?.into_iter().map(str::to_owned).collect();
        paths.iter().for_each(|path| tree.remove(path));
    }
    for concat in &description.concat {
        let mut joined = Vec::new();
        for pattern in &concat.from {
            for path in matching(&packages, "concat", pattern)? {
                if let Some(Node { kind: Kind::File(content), .. }) = packages.get(path) {
                    joined.extend_from_slice(content);
                }
            }
        }
        tree.insert(&concat.path, Node::file(joined, 0o644))?;
    }
    for program in &description.programs {
        let path = workshop.programs.join(&program.program);
        tree.insert(&program.path, Node::file(stripped(&program.program, &path)?, 0o755))?;
    }
    for file in &description.files {
        let file = File { source: file.source.as_ref().map(|source| beside(component, source)), ..file.clone() };
        if let Some(node) = files::node(&file, &Ids::default(), None)? {
            tree.insert(&file.path, node)?;
        }
    }
    Ok(tree)
}

/// The program without its symbols: they would fill memory on every machine and are kept beside it on the host.
fn stripped(program: &str, path: &Path) -> Result<Vec<u8>, Error> {
    if !path.exists() {
        return Err(Error::Program { program: program.to_owned(), path: path.display().to_string() });
    }
    let fail = |source| output::Error::new("strip", path, source);
    let temporary = tempfile::NamedTempFile::new().map_err(fail)?;
    let status = Command::new("strip").arg("--strip-all").arg("-o").arg(temporary.path()).arg(path).status();
    if !status.map_err(fail)?.success() {
        return Err(Error::Tool { program: "strip", path: path.display().to_string() });
    }
    Ok(output::read(temporary.path())?)
}

fn beside(component: &Component, source: &str) -> String {
    yaml::beside(&component.path, source).display().to_string()
}
