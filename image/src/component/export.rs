//! Files of packages that are served beside the image, not inside it: iPXE loaders.

use std::path::Path;

use super::packages::{matching, unpack};
use super::{Component, Error, Workshop};
use crate::output;
use crate::tree::{Kind, Node};

/// Copies what the component exports; returns the file names.
pub fn export(component: &Component, workshop: &Workshop, directory: &Path) -> Result<Vec<String>, Error> {
    let exports = &component.description.export;
    if exports.is_empty() {
        return Ok(Vec::new());
    }
    let packages = unpack(component, workshop)?;
    for export in exports {
        let paths = matching(&packages, "export", &export.from)?;
        let [path] = paths[..] else {
            return Err(Error::Entry { path: export.from.clone(), problem: "matches more than one file" });
        };
        let Some(Node { kind: Kind::File(content), .. }) = packages.resolve(path) else {
            return Err(Error::Entry { path: path.to_owned(), problem: "is no file" });
        };
        output::write(&directory.join(&export.to), content)?;
    }
    Ok(exports.iter().map(|export| export.to.clone()).collect())
}
