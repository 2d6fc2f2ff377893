//! What depmod(8) wrote about the modules of this kernel: files, needs, aliases, soft needs, and what is built in.
//! Reads text; loads nothing.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::normalised;
use super::pattern::Patterns;

/// The index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A file of it.
    #[error("read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of modules.dep.
    #[error("{}:{line}: no colon after the module's path; run depmod again", path.display())]
    Dep {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

/// One module.
#[derive(PartialEq, Eq, Debug)]
pub struct Module {
    /// Normalised.
    pub name: String,
    /// Below the directory of the index.
    pub file: String,
    /// Files of the modules that have to be there first, in the order to load them.
    pub needs: Vec<String>,
}

/// Everything that is known about the modules of a kernel.
#[derive(Default, Debug)]
pub struct Index {
    directory: PathBuf,
    modules: Vec<Module>,
    by_name: HashMap<String, u32>,
    by_file: HashMap<String, u32>,
    patterns: Patterns,
    /// Names or aliases to try first, by module.
    before: HashMap<String, Vec<String>>,
    built_in: HashSet<String>,
}

impl Index {
    /// Reads the index of the directory. Only modules.dep has to be there.
    pub fn read(directory: &Path) -> Result<Self, IndexError> {
        let path = directory.join("modules.dep");
        let text = std::fs::read_to_string(&path).map_err(|source| IndexError::Read { path: path.clone(), source })?;
        let mut index = Self { directory: directory.to_owned(), ..Self::default() };
        index.set_modules(parse_dep(&text).map_err(|line| IndexError::Dep { path, line })?);
        index.set_aliases(&optional(&directory.join("modules.alias"))?);
        index.before = parse_softdep(&optional(&directory.join("modules.softdep"))?);
        let built_in = optional(&directory.join("modules.builtin"))?;
        index.built_in = built_in.lines().map(|line| name_of(line.trim())).collect();
        Ok(index)
    }

    fn set_modules(&mut self, modules: Vec<Module>) {
        for (i, module) in (0..).zip(&modules) {
            self.by_name.insert(module.name.clone(), i);
            self.by_file.insert(module.file.clone(), i);
        }
        self.modules = modules;
    }

    /// Aliases of modules that are not in the image are left out.
    fn set_aliases(&mut self, text: &str) {
        let pairs = text.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) else {
                return None;
            };
            Some((pattern.to_owned(), *self.by_name.get(&normalised(module))?))
        });
        self.patterns = Patterns::new(pairs);
    }

    /// The modules that a name or an alias stands for; none if there is none, or it is built in.
    pub fn resolve(&self, name: &str) -> Vec<&Module> {
        let normalised = normalised(name);
        match self.by_name.get(&normalised) {
            Some(i) => vec![&self.modules[*i as usize]],
            None if self.built_in.contains(&normalised) => Vec::new(),
            None => self.patterns.matches(name).into_iter().map(|i| &self.modules[i as usize]).collect(),
        }
    }

    /// The module of a file that modules.dep names.
    pub fn by_file(&self, file: &str) -> Option<&Module> {
        self.by_file.get(file).map(|i| &self.modules[*i as usize])
    }

    /// Names or aliases that are better loaded before the module.
    pub fn before(&self, module: &Module) -> &[String] {
        self.before.get(&module.name).map_or(&[], Vec::as_slice)
    }

    /// Whether the kernel itself has what is asked for.
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.contains(&normalised(name))
    }

    /// The module's file.
    pub fn path(&self, module: &Module) -> PathBuf {
        self.directory.join(&module.file)
    }
}

/// A file that may be missing, for an image without a single alias is a fine one.
fn optional(path: &Path) -> Result<String, IndexError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| IndexError::Read { path: path.to_owned(), source }),
    }
}

/// Lines of `file: needed needed`, the nearest need first. An error is the number of a malformed line.
fn parse_dep(text: &str) -> Result<Vec<Module>, usize> {
    let lines = (1usize..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let (file, needs) = line.split_once(':').ok_or(number)?;
            let needs = needs.split_ascii_whitespace().rev().map(str::to_owned).collect();
            Ok(Module { name: name_of(file), file: file.to_owned(), needs })
        })
        .collect()
}

/// Lines of `softdep module pre: a b post: c`; what may come after is of no use to an installer.
fn parse_softdep(text: &str) -> HashMap<String, Vec<String>> {
    let mut before: HashMap<String, Vec<String>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
        let first = words.skip_while(|word| *word != "pre:").skip(1).take_while(|word| *word != "post:");
        before.entry(normalised(module)).or_default().extend(first.map(str::to_owned));
    }
    before
}

/// `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normalised(base.split_once(".ko").map_or(base, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> (tempfile::TempDir, Index) {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write(
            "modules.dep",
            "kernel/a/virtio-net.ko.xz: kernel/a/failover.ko.xz kernel/b/base.ko.xz\nkernel/a/failover.ko.xz:\nkernel/b/base.ko.xz:\n",
        );
        write("modules.alias", "# comment\nalias virtio:d00000001v* virtio_net\nalias gone:* not_here\n");
        write("modules.softdep", "# comment\nsoftdep virtio-net pre: crc32 base post: late\n");
        write("modules.builtin", "kernel/fs/ext-4.ko\n");
        let index = Index::read(directory.path()).unwrap();
        (directory, index)
    }

    #[test]
    fn names_aliases_and_built_ins_are_told_apart() {
        let (_directory, index) = index();
        assert_eq!(index.resolve("virtio-net")[0].name, "virtio_net");
        assert_eq!(index.resolve("virtio:d00000001v00001AF4")[0].name, "virtio_net");
        assert!(index.resolve("gone:1").is_empty() && index.resolve("ext_4").is_empty());
        assert!(index.is_built_in("ext-4") && !index.is_built_in("base"));
    }

    #[test]
    fn needs_come_in_the_order_to_load_them() {
        let (_directory, index) = index();
        let module = index.resolve("virtio_net")[0];
        assert_eq!(module.needs, ["kernel/b/base.ko.xz", "kernel/a/failover.ko.xz"]);
        assert_eq!(index.before(module), ["crc32", "base"]);
        assert_eq!(index.by_file("kernel/b/base.ko.xz").unwrap().name, "base");
    }

    #[test]
    fn a_malformed_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("modules.dep"), "a.ko:\n\nb.ko\n").unwrap();
        let error = Index::read(directory.path()).unwrap_err();
        assert!(error.to_string().contains("modules.dep:3:"), "{error}");
    }
}
