//! Which names an archive may use. Nothing that these rules let through can name a place outside of the target, as long
//! as links are resolved within it (`sys::tree` does). Pure; fuzzed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// As long as a path may be (PATH_MAX, with its NUL).
const LONGEST: usize = 4095;
/// As long as a name may be (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing.
    #[error("it has no name")]
    Empty,
    /// It climbs.
    #[error("its name climbs with '..'")]
    Climbs,
    /// It holds a NUL.
    #[error("its name holds a NUL")]
    Nul,
    /// The kernel would not take it.
    #[error("its name is too long")]
    Long,
}

/// The name of an entry, relative to the target: leading slashes and `.` are dropped, as GNU tar does. The empty path is
/// the target itself.
pub fn member(name: &[u8]) -> Result<PathBuf, Refusal> {
    if name.is_empty() {
        return Err(Refusal::Empty);
    }
    bounded(name)?;
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::Climbs),
            part if part.len() > LONGEST_NAME => return Err(Refusal::Long),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

/// What a symbolic link says. It may say anything: whoever follows it stays within the target.
pub fn target(text: &[u8]) -> Result<&Path, Refusal> {
    if text.is_empty() {
        return Err(Refusal::Empty);
    }
    bounded(text)?;
    Ok(Path::new(OsStr::from_bytes(text)))
}

fn bounded(text: &[u8]) -> Result<(), Refusal> {
    if text.len() > LONGEST {
        return Err(Refusal::Long);
    }
    if text.contains(&0) { Err(Refusal::Nul) } else { Ok(()) }
}

/// What a layer of a container image says about layers below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whiteout {
    /// This path is gone.
    Gone(PathBuf),
    /// What lower layers have in this directory is gone.
    Opaque(PathBuf),
}

/// The whiteout that a name is (OCI image specification, layers).
pub fn whiteout(path: &Path) -> Result<Option<Whiteout>, Refusal> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let parent = path.parent().unwrap_or(Path::new(""));
    match name.as_bytes() {
        b".wh..wh..opq" => Ok(Some(Whiteout::Opaque(parent.to_owned()))),
        // Bookkeeping of aufs, which is no file of anyone.
        name if name.starts_with(b".wh..wh.") => Ok(Some(Whiteout::Gone(path.to_owned()))),
        name => match name.strip_prefix(b".wh.") {
            None => Ok(None),
            Some(b"" | b".") => Err(Refusal::Empty),
            Some(b"..") => Err(Refusal::Climbs),
            Some(rest) => Ok(Some(Whiteout::Gone(parent.join(OsStr::from_bytes(rest))))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn names_are_relative_and_never_climb() {
        for (name, path) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            (".", ""),
            ("/", ""),
            ("a/...", "a/..."),
        ] {
            assert_eq!(member(name.as_bytes()), Ok(path.into()), "{name}");
        }
        for (name, refusal) in [
            (&b"../x"[..], Refusal::Climbs),
            (b"a/../b", Refusal::Climbs),
            (b"a/..", Refusal::Climbs),
            (b"", Refusal::Empty),
            (b"a\0b", Refusal::Nul),
            (&[b'a'; 256], Refusal::Long),
            (&[b'/'; 5000], Refusal::Long),
        ] {
            assert_eq!(member(name), Err(refusal));
        }
    }

    #[test]
    fn whiteouts_are_told_from_files() {
        let of = |path: &str| whiteout(Path::new(path));
        assert_eq!(of("a/.wh.b"), Ok(Some(Whiteout::Gone("a/b".into()))));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Some(Whiteout::Opaque("a".into()))));
        assert_eq!(of(".wh..wh..opq"), Ok(Some(Whiteout::Opaque("".into()))));
        assert_eq!(of("a/b.wh.c"), Ok(None));
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("a/.wh..."), Err(Refusal::Climbs));
    }

    proptest! {
        #[test]
        fn what_is_let_through_stays_below(name in proptest::collection::vec(prop_oneof![
            3 => Just(b'/'), 3 => Just(b'.'), 1 => any::<u8>()], 0..40))
        {
            if let Ok(path) = member(&name) {
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
                if let Ok(Some(Whiteout::Gone(gone) | Whiteout::Opaque(gone))) = whiteout(&path) {
                    prop_assert!(gone.components().all(|c| matches!(c, Component::Normal(_))));
                }
            }
        }
    }
}
