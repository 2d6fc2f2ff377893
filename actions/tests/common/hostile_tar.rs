//! What has to hold of any bytes taken for a tar archive; for the fuzz target `tar` and for its seeds as stable tests.

use std::io::Cursor;
use std::path::{Component, Path};

use actions::archive::reader::{Archive, What};
use actions::archive::rules::{self, Whiteout};

/// No panic, no name that leaves the target, no file with more data than bytes, an end in the bytes' own length.
pub fn check(bytes: &[u8]) {
    let mut archive = Archive::new(Cursor::new(bytes));
    let mut buffer = [0; 4096];
    while let Ok(Some(entry)) = archive.next() {
        assert_below(&entry.path);
        if let Ok(Some(Whiteout::Gone(path) | Whiteout::Opaque(path))) = rules::whiteout(&entry.path) {
            assert_below(&path);
        }
        match &entry.what {
            What::HardLink(existing) => assert_below(existing),
            What::File { size, map: Some(map) } => {
                let mut end = 0;
                for piece in map {
                    assert!(piece.offset >= end, "pieces overlap");
                    end = piece.offset + piece.len;
                }
                assert!(end <= *size, "data beyond the end");
            }
            _ => {}
        }
        let mut got = 0u64;
        while let Ok(n @ 1..) = archive.read_data(&mut buffer) {
            got += n as u64;
        }
        assert!(got <= bytes.len() as u64, "more data than bytes");
        if let What::File { size, .. } = entry.what {
            assert!(got <= size, "more data than the file has");
        }
    }
    assert!(archive.position() <= bytes.len() as u64);
}

fn assert_below(path: &Path) {
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
}
