//! The kernel image: the kernel itself and the modules that the rules name, with all they depend on.
//! Which modules is the rules' business; this only follows dependencies and lets depmod write the indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use thiserror::Error;

use super::model::Kernel;
use super::packages::matching;
use super::{Component, Error as ComponentError};
use crate::tree::{self, Kind, Node, Tree};
use crate::{glob, output, tar, yaml};

/// Modules that cannot be chosen.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] output::Error),
    /// Rules name nothing.
    #[error("these rules match no module of {version}: {}", rules.join(", "))]
    NoMatch {
        /// Each as file, line and pattern.
        rules: Vec<String>,
        /// The kernel.
        version: String,
    },
    /// The packages hold no modules, or those of several kernels.
    #[error("the packages hold modules of {found} kernels instead of one")]
    Versions {
        /// How many.
        found: usize,
    },
    /// depmod cannot be run or failed.
    #[error("depmod failed; `make deps` installs it (package kmod)")]
    Depmod(#[source] std::io::Error),
    /// The modules cannot be packed.
    #[error("cannot pack the modules")]
    Pack(#[source] tar::Error),
    /// A path clashes.
    #[error(transparent)]
    Tree(#[from] tree::Error),
}

/// Indexes that init and modprobe read, and the lists of what is built in.
const INDEXES: [&str; 8] = [
    "modules.alias",
    "modules.builtin",
    "modules.builtin.modinfo",
    "modules.dep",
    "modules.devname",
    "modules.order",
    "modules.softdep",
    "modules.symbols",
];

/// The image of a kernel component: `kernel` and `kernel.tar`.
pub fn image(component: &Component, kernel: &Kernel, packages: &Tree) -> Result<Tree, ComponentError> {
    let paths = matching(packages, "kernel", &kernel.kernel)?;
    let [path] = paths[..] else {
        return Err(ComponentError::Entry { path: kernel.kernel.clone(), problem: "matches more than one kernel" });
    };
    let mut image = Tree::default();
    if let Some(node) = packages.get(path) {
        image.insert("kernel", Node { mode: 0o644, ..node.clone() })?;
    }
    let rules = yaml::beside(&component.path, &kernel.modules);
    let modules = modules(packages, &rules)?;
    let mut archive = Vec::new();
    tar::write(&modules, &mut archive).map_err(Error::Pack)?;
    image.insert("kernel.tar", Node::file(archive, 0o644))?;
    Ok(image)
}

fn modules(packages: &Tree, rules: &Path) -> Result<Tree, Error> {
    let versions: BTreeSet<&str> =
        packages.children("usr/lib/modules").filter_map(|path| path.split('/').nth(3)).collect();
    let [version] = versions.iter().copied().collect::<Vec<_>>()[..] else {
        return Err(Error::Versions { found: versions.len() });
    };
    let home = format!("usr/lib/modules/{version}");
    let everything = depmod(packages, &home, version)?;
    let dependencies = parse_dependencies(&text(&everything, &format!("{home}/modules.dep")));
    let soft = parse_soft_dependencies(&text(&everything, &format!("{home}/modules.softdep")));
    let rules_text = output::read(rules)?;
    let rules_text = String::from_utf8_lossy(&rules_text);
    let wanted = select(&rules_text, dependencies.keys().map(String::as_str)).map_err(|idle| {
        let named = |(line, pattern)| format!("{}:{line} `{pattern}`", rules.display());
        Error::NoMatch { rules: idle.into_iter().map(named).collect(), version: version.to_owned() }
    })?;
    let mut chosen = Tree::default();
    for module in closure(wanted, &dependencies, &soft) {
        let path = format!("{home}/{module}");
        if let Some(node) = packages.get(&path) {
            chosen.insert(&path, node.clone())?;
        }
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        if let Some(node) = packages.get(&format!("{home}/{list}")) {
            chosen.insert(&format!("{home}/{list}"), node.clone())?;
        }
    }
    let indexed = depmod(&chosen, &home, version)?;
    chosen.merge("", &indexed)?;
    Ok(chosen)
}

/// Runs depmod over the modules of a tree; returns the indexes.
fn depmod(tree: &Tree, home: &str, version: &str) -> Result<Tree, Error> {
    let temporary = tempfile::tempdir().map_err(Error::Depmod)?;
    // depmod looks below lib/modules; where it looks does not show in what it writes.
    let base = temporary.path().join("lib/modules").join(version);
    for path in tree.children(home) {
        if let (Some(Node { kind: Kind::File(content), .. }), Some(below)) = (tree.get(path), path.strip_prefix(home)) {
            let file = base.join(below.trim_start_matches('/'));
            output::make_directory(file.parent().unwrap_or(&base))?;
            std::fs::write(&file, content.as_slice()).map_err(|source| output::Error::new("write", &file, source))?;
        }
    }
    let mut command = Command::new("depmod");
    command.env("PATH", search_path(std::env::var_os("PATH"))).arg("-b").arg(temporary.path()).arg(version);
    let status = command.status().map_err(Error::Depmod)?;
    if !status.success() {
        return Err(Error::Depmod(std::io::Error::other(status.to_string())));
    }
    let mut indexes = Tree::default();
    for name in INDEXES {
        let path = base.join(name);
        if path.exists() {
            indexes.insert(&format!("{home}/{name}"), Node::file(output::read(&path)?, 0o644))?;
        }
    }
    Ok(indexes)
}

/// Where depmod is looked for: a plain user's PATH on Debian lacks what administrators use.
fn search_path(user: Option<OsString>) -> OsString {
    let mut path = user.filter(|path| !path.is_empty()).unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/sbin:/sbin");
    path
}

fn text(tree: &Tree, path: &str) -> String {
    match tree.get(path) {
        Some(Node { kind: Kind::File(content), .. }) => String::from_utf8_lossy(content).into_owned(),
        _ => String::new(),
    }
}

fn parse_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let line = |line: &str| {
        let (module, needs) = line.split_once(':')?;
        Some((module.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// `softdep name pre: a b post: c`: what a module likes to have before or after itself, by name.
fn parse_soft_dependencies(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let Some((module, needs)) = line.strip_prefix("softdep ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let needs = needs.split_whitespace().filter(|need| !need.ends_with(':')).map(str::to_owned);
        all.entry(module.to_owned()).or_default().extend(needs);
    }
    all
}

/// The modules that the rules name: a pattern a line, `!` takes away again. Else all rules without effect.
fn select<'a>(
    rules: &str,
    modules: impl Iterator<Item = &'a str> + Clone,
) -> Result<BTreeSet<String>, Vec<(usize, String)>> {
    let mut chosen = BTreeSet::new();
    let mut idle = Vec::new();
    for (index, line) in rules.lines().enumerate() {
        let rule = line.split('#').next().unwrap_or_default().trim();
        if rule.is_empty() {
            continue;
        }
        let (takes, pattern) = match rule.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, rule),
        };
        let pattern = format!("kernel/{pattern}.ko.xz");
        let matching: Vec<&str> = modules.clone().filter(|module| glob::matches(&pattern, module)).collect();
        if matching.is_empty() {
            idle.push((index + 1, rule.to_owned()));
        }
        for module in matching {
            if takes {
                chosen.remove(module);
            } else {
                chosen.insert(module.to_owned());
            }
        }
    }
    if idle.is_empty() { Ok(chosen) } else { Err(idle) }
}

fn closure(
    wanted: BTreeSet<String>,
    dependencies: &BTreeMap<String, Vec<String>>,
    soft: &BTreeMap<String, Vec<String>>,
) -> BTreeSet<String> {
    let name = |path: &str| {
        path.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default().replace('-', "_")
    };
    let by_name: BTreeMap<String, &String> = dependencies.keys().map(|path| (name(path), path)).collect();
    let mut open: Vec<String> = wanted.into_iter().collect();
    let mut closed = BTreeSet::new();
    while let Some(module) = open.pop() {
        let hard = dependencies.get(&module).into_iter().flatten().cloned();
        let soft = soft.get(&name(&module)).into_iter().flatten();
        let soft = soft.filter_map(|need| by_name.get(&need.replace('-', "_")).map(|path| (*path).clone()));
        let needs: Vec<String> = hard.chain(soft).collect();
        if closed.insert(module) {
            open.extend(needs);
        }
    }
    closed
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
        kernel/fs/jbd2/jbd2.ko.xz:\nkernel/lib/crc16.ko.xz:\nkernel/crypto/crc32c-generic.ko.xz:\n\
        kernel/drivers/net/a/a.ko.xz: kernel/drivers/net/libphy.ko.xz\nkernel/drivers/net/libphy.ko.xz:\n\
        kernel/drivers/net/b/b.ko.xz:\n";

    #[test]
    fn depmod_is_found_where_administrators_have_it_and_never_in_the_working_directory() {
        assert_eq!(search_path(Some("/home/a/bin:/bin".into())), "/home/a/bin:/bin:/usr/sbin:/sbin");
        for none in [None, Some(OsString::new())] {
            assert_eq!(search_path(none), "/usr/bin:/bin:/usr/sbin:/sbin");
        }
    }

    #[test]
    fn hard_and_soft_dependencies_come_along() {
        let dependencies = parse_dependencies(DEP);
        let soft = parse_soft_dependencies("# x\nsoftdep ext4 pre: crc32c_generic missing\n");
        let wanted = select("fs/ext4/*", dependencies.keys().map(String::as_str)).unwrap();
        let all = closure(wanted, &dependencies, &soft);
        let names: Vec<_> = all.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, ["crc32c-generic.ko.xz", "ext4.ko.xz", "jbd2.ko.xz", "crc16.ko.xz"]);
    }

    #[test]
    fn an_exclusion_yields_to_a_dependency_and_a_rule_without_effect_is_told() {
        let dependencies = parse_dependencies(DEP);
        let modules = || dependencies.keys().map(String::as_str);
        let wanted =
            select("# cards\ndrivers/net/**\n!drivers/net/b/*  # not this\n!drivers/net/libphy", modules()).unwrap();
        let all = closure(wanted, &dependencies, &BTreeMap::new());
        assert_eq!(all.iter().collect::<Vec<_>>(), ["kernel/drivers/net/a/a.ko.xz", "kernel/drivers/net/libphy.ko.xz"]);
        assert_eq!(select("fs/ext4/*\nfs/zfs/*\n!x", modules()), Err(vec![(2, "fs/zfs/*".into()), (3, "!x".into())]));
    }
}
