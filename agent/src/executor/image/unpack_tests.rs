//! Layers as builders make them, and as nobody should.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        // Written as they are: the crate's own way would clean the names that are to be refused.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        let data = if is_link { "" } else { content };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn budget() -> Budget {
    Budget { most: 1 << 20, bytes: 1 << 20, entries: 1000 }
}

fn apply(root: &Path, entries: &[(&str, EntryType, &str)]) -> Result<(), UnpackError> {
    layer(&mut archive(entries).as_slice(), root, &mut budget())
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;

#[test]
fn a_later_layer_takes_away_what_it_says_and_nothing_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    apply(root, &[("a", DIR, ""), ("a/old", FILE, "1"), ("b", FILE, "2"), ("keep", FILE, "3")]).unwrap();
    let second = [("a/new", FILE, "4"), ("a/.wh..wh..opq", FILE, ""), (".wh.b", FILE, ""), ("keep", FILE, "5")];
    apply(root, &second).unwrap();
    assert!(!root.join("a/old").exists() && !root.join("b").exists());
    assert_eq!(fs::read_to_string(root.join("a/new")).unwrap(), "4");
    assert_eq!(fs::read_to_string(root.join("keep")).unwrap(), "5");
    assert_eq!(fs::metadata(root.join("keep")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn nothing_leaves_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let escape = outside.path().display().to_string();
    for entries in [
        vec![("../x", FILE, "bad")],
        vec![("a/../../x", FILE, "bad")],
        vec![("h", EntryType::Link, "../../etc/passwd")],
    ] {
        let error = apply(dir.path(), &entries).unwrap_err();
        assert!(matches!(error, UnpackError::Outside(_)), "{entries:?}: {error}");
    }
    // A link that leads out is made, as it may be right in the container; what goes through it stays inside.
    let _ = apply(dir.path(), &[("link", EntryType::Symlink, &escape), ("link/x", FILE, "inside")]);
    let _ = apply(dir.path(), &[("up", EntryType::Symlink, "../../../../../../.."), ("up/ironhook-escaped", FILE, "")]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(!Path::new("/ironhook-escaped").exists());
}

#[test]
fn a_layer_may_be_compressed_and_one_cut_short_is_an_error() {
    let plain = archive(&[("f", FILE, "content")]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let gz = gz.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [&plain, &gz, &zstd] {
        let dir = tempfile::tempdir().unwrap();
        layer(&mut bytes.as_slice(), dir.path(), &mut budget()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "content");
    }
    for bytes in [&plain[..520], &gz[..gz.len() - 4], &zstd[..zstd.len() - 4]] {
        let dir = tempfile::tempdir().unwrap();
        assert!(layer(&mut &*bytes, dir.path(), &mut budget()).is_err());
    }
}

#[test]
fn a_layer_larger_than_its_budget_is_refused_by_what_it_claims() {
    let dir = tempfile::tempdir().unwrap();
    let mut header = Header::new_gnu();
    header.set_path("huge").unwrap();
    header.set_size(10 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let error = layer(&mut header.as_bytes().as_slice(), dir.path(), &mut budget()).unwrap_err();
    assert!(matches!(error, UnpackError::Budget { what: "bytes", .. }), "{error}");
    let many: Vec<_> = (0..1001).map(|_| ("same", FILE, "")).collect();
    let error = apply(dir.path(), &many).unwrap_err();
    assert!(matches!(error, UnpackError::Budget { what: "entries", .. }), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_get_out(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let dir = tempfile::tempdir().unwrap();
        let _ = layer(&mut bytes.as_slice(), dir.path(), &mut budget());
    }
}
