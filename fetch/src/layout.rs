//! Where OCI layouts lie on a machine. Must not read them.

use std::fs;
use std::path::{Path, PathBuf};

/// The places that are layouts, and what is directly below them: a volume of LinuxKit is a layout with one image, and
/// several are bound beside each other.
pub fn layouts(places: &[impl AsRef<Path>]) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| path.join("index.json").exists();
    let mut found = Vec::new();
    for place in places {
        let place = place.as_ref();
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let mut below: Vec<_> = entries.map(|entry| entry.path()).filter(is_one).collect();
        below.sort();
        found.extend(Some(place.to_owned()).filter(is_one));
        found.extend(below);
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_found_at_a_place_and_directly_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let (site, volumes) = (dir.path().join("site"), dir.path().join("volumes"));
        for layout in [site.clone(), volumes.join("b"), volumes.join("a")] {
            fs::create_dir_all(&layout).unwrap();
            fs::write(layout.join("index.json"), "{}").unwrap();
        }
        fs::create_dir_all(volumes.join("none")).unwrap();
        let found = layouts(&[volumes.clone(), site.clone(), dir.path().join("absent")]);
        assert_eq!(found, [volumes.join("a"), volumes.join("b"), site]);
    }
}
