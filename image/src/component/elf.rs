//! Whether every program and library of a tree finds its loader and libraries inside the tree.
//! Packages are named one by one, so this is what notices a forgotten one.

use thiserror::Error;

use crate::tree::{Kind, Tree};

/// What a dynamic program needs is not there.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A library.
    #[error("{file} needs {library}, which no kept file of the component provides; add its package or keep it")]
    Library {
        /// Who needs it.
        file: String,
        /// Its name.
        library: String,
    },
    /// The dynamic loader.
    #[error("{file} needs the loader {loader}, which is not in the component")]
    Loader {
        /// Who needs it.
        file: String,
        /// Its path.
        loader: String,
    },
    /// The file begins like an ELF file and goes on like none.
    #[error("{file} is a damaged ELF file")]
    Damaged {
        /// The file.
        file: String,
    },
}

const DIRECTORIES: [&str; 4] = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib"];

/// Checks all ELF files of a tree.
pub fn check(tree: &Tree) -> Result<(), Error> {
    for (path, node) in tree.iter() {
        let Kind::File(content) = &node.kind else { continue };
        if !content.starts_with(b"\x7fELF") {
            continue;
        }
        let file = format!("/{path}");
        let needs = needs(content).ok_or_else(|| Error::Damaged { file: file.clone() })?;
        if let Some(loader) = needs.loader.filter(|loader| tree.resolve(loader).is_none()) {
            return Err(Error::Loader { file, loader });
        }
        for library in needs.libraries {
            let own = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let mut places = DIRECTORIES.iter().copied().chain([own]);
            if !places.any(|directory| tree.resolve(&format!("{directory}/{library}")).is_some()) {
                return Err(Error::Library { file, library });
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Needs {
    loader: Option<String>,
    libraries: Vec<String>,
}

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// Reads the program headers of a 64-bit little-endian file; other kinds need nothing we could check.
fn needs(elf: &[u8]) -> Option<Needs> {
    if elf.get(4..6)? != [2, 1] {
        return Some(Needs::default());
    }
    let (table, size, count) = (number(elf, 32, 8)?, number(elf, 54, 2)?, number(elf, 56, 2)?);
    let mut loads = Vec::new();
    let (mut dynamic, mut loader) = (None, None);
    for index in 0..count {
        let header = table.checked_add(index.checked_mul(size)?)?;
        let field = |offset: u64| number(elf, header.checked_add(offset)?, 8);
        let (offset, address, length) = (field(8)?, field(16)?, field(32)?);
        match number(elf, header, 4)? {
            PT_LOAD => loads.push((address, offset, length)),
            PT_DYNAMIC => dynamic = Some((offset, length)),
            PT_INTERP => loader = Some(text(elf, offset)?),
            _ => {}
        }
    }
    let mut names = Vec::new();
    let mut strings = None;
    if let Some((start, length)) = dynamic {
        for entry in (start..start.checked_add(length)?).step_by(16) {
            match (number(elf, entry, 8)?, number(elf, entry.checked_add(8)?, 8)?) {
                (0, _) => break,
                (DT_NEEDED, name) => names.push(name),
                (DT_STRTAB, address) => {
                    let load = loads
                        .iter()
                        .find(|(start, _, length)| (*start..start.saturating_add(*length)).contains(&address));
                    strings = load.map(|(start, offset, _)| address - start + offset);
                }
                _ => {}
            }
        }
    }
    let libraries = names.iter().map(|name| text(elf, strings?.checked_add(*name)?)).collect::<Option<_>>()?;
    Some(Needs { loader, libraries })
}

fn number(elf: &[u8], offset: u64, width: usize) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let bytes = elf.get(start..start.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn text(elf: &[u8], offset: u64) -> Option<String> {
    let bytes = elf.get(usize::try_from(offset).ok()?..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;
    use proptest::prelude::*;

    fn host_program() -> Vec<u8> {
        std::fs::read("/bin/sh").unwrap()
    }

    #[test]
    fn a_missing_loader_then_a_missing_library_are_named() {
        let mut tree = Tree::default();
        tree.insert("usr/bin/sh", Node::file(host_program(), 0o755)).unwrap();
        let Err(Error::Loader { file, loader }) = check(&tree) else { panic!("no loader, no error") };
        assert_eq!(file, "/usr/bin/sh");
        tree.insert(&loader, Node::file("", 0o755)).unwrap();
        let Err(Error::Library { library, .. }) = check(&tree) else { panic!("no library, no error") };
        assert_eq!(library, "libc.so.6");
        tree.insert("usr/lib/x86_64-linux-gnu/libc.so.6", Node::file("", 0o755)).unwrap();
        assert_eq!(check(&tree), Ok(()));
    }

    #[test]
    fn a_truncated_file_is_damaged() {
        let mut tree = Tree::default();
        tree.insert("usr/bin/sh", Node::file(&host_program()[..100], 0o755)).unwrap();
        assert_eq!(check(&tree), Err(Error::Damaged { file: "/usr/bin/sh".into() }));
    }

    proptest! {
        #[test]
        fn damage_never_panics(position in 0usize..4000, value: u8) {
            let mut elf = host_program();
            elf[position] = value;
            let _ = needs(&elf);
        }
    }
}
