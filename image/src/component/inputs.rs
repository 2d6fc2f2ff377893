//! One digest of everything a component is made of: its description, packages, programs, files, and our recipe.

use sha2::{Digest, Sha256};

use super::{Component, Error, Workshop};
use crate::{hex, output, yaml};

/// Raised when the same inputs make other bytes than before; a test of the bytes says when (image/tests/recipe.rs).
const RECIPE: &str = "1";

/// The digest, hex.
pub fn digest(component: &Component, workshop: &Workshop) -> Result<String, Error> {
    let description = &component.description;
    let mut all = Sha256::new();
    let mut add = |what: &str, bytes: &[u8]| {
        all.update((what.len() as u64).to_be_bytes());
        all.update(what);
        all.update((bytes.len() as u64).to_be_bytes());
        all.update(bytes);
    };
    add("recipe", RECIPE.as_bytes());
    add("architecture", workshop.architecture.as_bytes());
    add("description", &component.text);
    for asked in &description.packages {
        add(asked, workshop.lock.get(asked)?.sha256.as_bytes());
    }
    for program in &description.programs {
        let path = workshop.programs.join(&program.program);
        if !path.exists() {
            return Err(Error::Program { program: program.program.clone(), path: path.display().to_string() });
        }
        add(&program.program, &Sha256::digest(output::read(&path)?));
    }
    let sources = description.files.iter().filter_map(|file| file.source.as_ref());
    for source in sources.chain(description.kernel.iter().map(|kernel| &kernel.modules)) {
        add(source, &output::read(&yaml::beside(&component.path, source))?);
    }
    Ok(hex(&all.finalize()))
}
