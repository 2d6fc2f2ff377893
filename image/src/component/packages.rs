//! The files of a component's packages, all of them, before anything is kept or dropped.

use super::{Component, Error, Workshop};
use crate::glob;
use crate::tree::{Kind, Node, Tree};

/// One tree of all packages; two different files of one path are an error.
pub fn unpack(component: &Component, workshop: &Workshop) -> Result<Tree, Error> {
    let mut all = Tree::default();
    for asked in &component.description.packages {
        let package = workshop.store.tree(workshop.lock.get(asked)?)?;
        for (path, node) in package.iter() {
            match all.get(path) {
                Some(Node { kind: Kind::Directory, .. }) if node.kind == Kind::Directory => {}
                Some(old) if old.kind != node.kind => return Err(Error::Conflict { path: path.to_owned() }),
                _ => all.insert(path, node.clone())?,
            }
        }
    }
    Ok(all)
}

/// The paths a pattern matches, directories apart; none is an error.
pub fn matching<'a>(tree: &'a Tree, key: &'static str, pattern: &str) -> Result<Vec<&'a str>, Error> {
    let files = tree.iter().filter(|(_, node)| node.kind != Kind::Directory);
    let paths: Vec<&str> = files.map(|(path, _)| path).filter(|path| glob::matches(pattern, path)).collect();
    if paths.is_empty() { Err(Error::NoMatch { key, pattern: pattern.to_owned() }) } else { Ok(paths) }
}
