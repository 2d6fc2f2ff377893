//! The root file system of a component: what is kept of its packages, then joined files, programs and own files.

use std::path::Path;
use std::process::Command;

use super::packages::{matching, unpack};
use super::{Component, Error, Workshop};
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
        tree.insert(&file.path, own_file(component, file)?)?;
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

fn own_file(component: &Component, file: &File) -> Result<Node, Error> {
    let bad = |problem| Error::Entry { path: file.path.clone(), problem };
    let mode = match &file.mode {
        Some(text) => u32::from_str_radix(text, 8).map_err(|_| bad("`mode` is not octal; write it in quotes"))?,
        None if file.directory => 0o755,
        None => 0o644,
    };
    let kind = match (file.directory, &file.contents, &file.source, &file.symlink) {
        (true, None, None, None) => Kind::Directory,
        (false, Some(text), None, None) => Kind::File(text.clone().into_bytes().into()),
        (false, None, Some(source), None) => Kind::File(output::read(&yaml::beside(&component.path, source))?.into()),
        (false, None, None, Some(target)) => return Ok(Node::symlink(target.clone())),
        _ => return Err(bad("needs exactly one of `contents`, `source`, `symlink`, `directory: true`")),
    };
    Ok(Node { kind, mode, uid: file.uid, gid: file.gid })
}
