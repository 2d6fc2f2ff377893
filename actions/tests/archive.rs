//! Archives that GNU tar made, extracted by us and by GNU tar itself; and archives that nobody should extract.
#![allow(clippy::unwrap_used)] // Also in what the tests share.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use actions::archive::extract::{self, Options, Preserve, extract};
use actions::archive::reader::{self, Archive};
use common::{root, tool};
use sys::tree::{Special, Tree, xattr};

const OPTIONS: Options = Options { base: PathBuf::new(), preserve: Preserve::ALL, is_layer: false };

fn unpack(tar: &[u8], to: &Path, options: &Options) -> Result<extract::Count, extract::Error> {
    let mut tree = Tree::open(to).unwrap();
    let mut archive = Archive::new(Cursor::new(tar));
    let count = extract(&mut archive, &mut tree, options, &mut |_| ())?;
    archive.drain()?;
    Ok(count)
}

/// Everything that can be seen of a tree, by path.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let below = path.strip_prefix(root).unwrap().to_owned();
        let content = match meta.file_type() {
            kind if kind.is_dir() => {
                let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
                names.sort();
                waiting.extend(names.into_iter().rev());
                String::new()
            }
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&path).unwrap()),
            kind if kind.is_file() => {
                let bytes = fs::read(&path).unwrap();
                let first = inodes.entry(meta.ino()).or_insert_with(|| below.clone());
                format!("{} bytes {}, first {first:?}", bytes.len(), common::sha256(&bytes))
            }
            _ => format!("device {}", meta.rdev()),
        };
        let names =
            ["user.one", "trusted.two", "security.capability", "system.posix_acl_access", "system.posix_acl_default"];
        let attributes: Vec<_> = names.iter().filter_map(|n| Some((n, xattr(&path, n).unwrap()?))).collect();
        // GNU tar does not restore the times of links in every format.
        let time = (meta.mtime(), meta.mtime_nsec());
        let line = format!("{:o} {}:{} {time:?} {content} {attributes:?}", meta.mode(), meta.uid(), meta.gid());
        all.insert(below, line);
    }
    all
}

/// A bit of everything.
fn sample(at: &Path) {
    fs::create_dir_all(at.join("dir/empty")).unwrap();
    fs::write(at.join("dir/file"), vec![7u8; 70_000]).unwrap();
    fs::write(at.join("zero"), "").unwrap();
    fs::write(at.join("dir/.hidden"), "x").unwrap();
    fs::hard_link(at.join("dir/file"), at.join("hard")).unwrap();
    symlink("dir/file", at.join("soft")).unwrap();
    symlink("/nowhere/../at/all", at.join("dangling")).unwrap();
    fs::create_dir(at.join("usr")).unwrap();
    symlink("usr", at.join("merged")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff\n\"name");
    fs::write(at.join(odd), "odd").unwrap();
    let mut tree = Tree::open(at).unwrap();
    for (path, mode, uid) in
        [("dir/file", 0o4711, 1000), ("zero", 0o000, 65534), ("dir", 0o1777, 3), ("dir/empty", 0o2555, 0)]
    {
        tree.set_owner(Path::new(path), uid, uid + 1).unwrap();
        tree.set_mode(Path::new(path), mode).unwrap();
    }
    tree.set_owner(Path::new("soft"), 5, 6).unwrap();
}

fn times(at: &Path) {
    let mut tree = Tree::open(at).unwrap();
    let mut paths: Vec<PathBuf> = seen(at).into_keys().collect();
    paths.reverse();
    for (n, path) in (1..).zip(paths) {
        tree.set_time(&path, (1_000_000_000 + n * 1000, 0)).unwrap();
    }
}

fn specials(at: &Path) {
    let mut tree = Tree::open(at).unwrap();
    tree.special(Path::new("fifo"), Special::Fifo).unwrap();
    tree.special(Path::new("null"), Special::Character(1, 3)).unwrap();
    tree.special(Path::new("disk"), Special::Block(259, 70_000)).unwrap();
}

fn long_names(at: &Path) {
    let deep: PathBuf = (0..6).map(|n| format!("{n}{}", "d".repeat(60))).collect();
    fs::create_dir_all(at.join(&deep)).unwrap();
    fs::write(at.join(&deep).join("n".repeat(200)), "deep").unwrap();
    symlink(deep.join("n".repeat(200)), at.join("far")).unwrap();
    fs::hard_link(at.join(&deep).join("n".repeat(200)), at.join(&deep).join("another")).unwrap();
}

fn holes(at: &Path) {
    let file = File::create(at.join("holes")).unwrap();
    file.set_len(50 << 20).unwrap();
    for n in 0..40 {
        file.write_at(&[n as u8 + 1; 5000], u64::from(n as u32) * (1 << 20) + 4096).unwrap();
    }
    File::create(at.join("only-a-hole")).unwrap().set_len(9 << 20).unwrap();
}

fn attributes(at: &Path) {
    let mut tree = Tree::open(at).unwrap();
    let list = |user: u32| {
        let mut bytes = vec![2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0];
        bytes.extend(user.to_le_bytes());
        bytes
            .extend([4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255]);
        bytes
    };
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (path, name, value) in [
        ("dir/file", "user.one", &b"1=\n2"[..]),
        ("dir/file", "security.capability", &capability),
        ("dir", "trusted.two", b""),
        ("zero", "system.posix_acl_access", &list(4321)),
        ("dir/empty", "system.posix_acl_default", &list(77)),
    ] {
        tree.set_xattr(Path::new(path), name.as_bytes(), value).unwrap();
    }
}

fn large_numbers(at: &Path) {
    let mut tree = Tree::open(at).unwrap();
    tree.set_owner(Path::new("zero"), 3_000_000_000, 2_500_000_000).unwrap();
    tree.set_time(Path::new("zero"), (-86_400, 0)).unwrap();
    tree.set_time(Path::new("usr"), (8_589_934_592 + 5, 0)).unwrap();
}

fn nanoseconds(at: &Path) {
    Tree::open(at).unwrap().set_time(Path::new("hard"), (1_700_000_000, 123_456_789)).unwrap();
}

type Make = fn(&Path);

/// Twenty ways to make an archive: what it holds besides the sample, and GNU tar's options.
const WAYS: &[(&str, &[Make], &str)] = &[
    ("default", &[], ""),
    ("gnu", &[specials, long_names], "--format=gnu"),
    ("oldgnu", &[specials, long_names], "--format=oldgnu"),
    ("ustar", &[specials], "--format=ustar"),
    ("posix", &[specials, long_names, nanoseconds], "--format=posix"),
    ("v7", &[], "--format=v7"),
    ("one block a record", &[], "-b1"),
    ("two hundred blocks a record", &[], "-b200"),
    ("holes, gnu", &[holes], "--sparse --format=gnu"),
    ("holes, posix 0.0", &[holes, long_names], "--sparse --format=posix --sparse-version=0.0"),
    ("holes, posix 0.1", &[holes, long_names], "--sparse --format=posix --sparse-version=0.1"),
    ("holes, posix 1.0", &[holes, long_names], "--sparse --format=posix --sparse-version=1.0"),
    ("attributes", &[attributes], "--xattrs --xattrs-include=* --format=posix"),
    ("lists", &[attributes], "--acls --format=posix"),
    ("attributes and lists", &[attributes, specials, nanoseconds], "--xattrs --xattrs-include=* --acls --selinux"),
    ("large numbers, gnu", &[large_numbers], "--format=gnu"),
    ("large numbers, posix", &[large_numbers], "--format=posix"),
    ("a label", &[], "--label=volume"),
    ("sorted, by number", &[long_names], "--sort=name --numeric-owner --owner=12 --group=34"),
    ("incremental", &[], "--incremental"),
    ("no recursion into names with slashes", &[long_names], "--transform=s,^[.]/,/./,S -P"),
    ("dereferenced hard links", &[], "--hard-dereference"),
];

#[test]
fn what_gnu_tar_packs_is_unpacked_as_gnu_tar_does() {
    if !root("what_gnu_tar_packs_is_unpacked_as_gnu_tar_does") {
        return;
    }
    assert!(WAYS.len() >= 20);
    for (name, more, args) in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let [from, theirs, ours] = ["from", "theirs", "ours"].map(|n| dir.path().join(n));
        for path in [&from, &theirs, &ours] {
            fs::create_dir(path).unwrap();
        }
        sample(&from);
        for make in *more {
            make(&from);
        }
        times(&from);
        for make in more.iter().filter(|make| [large_numbers as Make, nanoseconds as Make].contains(make)) {
            make(&from);
        }
        let tar = dir.path().join("x.tar");
        let mut command = vec!["-cf", tar.to_str().unwrap(), "-C", from.to_str().unwrap()];
        command.extend(args.split_whitespace());
        command.push(".");
        tool("tar", &command);
        let all = ["--numeric-owner", "-p", "--same-owner", "--xattrs", "--xattrs-include=*", "--acls"];
        let mut command = vec!["-xf", tar.to_str().unwrap(), "-C", theirs.to_str().unwrap()];
        command.extend(all);
        tool("tar", &command);
        unpack(&fs::read(&tar).unwrap(), &ours, &OPTIONS).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (theirs_seen, ours_seen) = (seen(&theirs), seen(&ours));
        for (path, line) in &theirs_seen {
            assert_eq!(ours_seen.get(path), Some(line), "{name}: {}", path.display());
        }
        assert_eq!(theirs_seen.len(), ours_seen.len(), "{name}: we made more");
        if more.contains(&(holes as Make)) {
            let blocks = fs::metadata(ours.join("holes")).unwrap().blocks();
            assert!(blocks * 512 < 2 << 20, "{name}: the holes are filled");
        }
    }
}

#[test]
fn every_cut_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("from")).unwrap();
    fs::write(dir.path().join("from/a"), vec![1u8; 3000]).unwrap();
    fs::write(dir.path().join("from/b"), "b").unwrap();
    let tar = dir.path().join("x.tar");
    tool("tar", &["-b1", "-cf", tar.to_str().unwrap(), "-C", dir.path().join("from").to_str().unwrap(), "a", "b"]);
    let bytes = fs::read(&tar).unwrap();
    let mut archive = Archive::new(Cursor::new(&bytes[..]));
    while archive.next().unwrap().is_some() {}
    assert_eq!(archive.position(), bytes.len() as u64, "the archive has no padding");
    for len in (0..bytes.len()).step_by(37).chain([bytes.len() - 512, bytes.len() - 1]) {
        let mut archive = Archive::new(Cursor::new(&bytes[..len]));
        let error = loop {
            match archive.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("cut at {len} and complete"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, reader::Error::Truncated { at, .. } if at == len as u64), "{len}: {error}");
    }
}

/// A header with a checksum that is right.
fn header(name: &str, kind: u8, link: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    let uid = format!("{:07o}\0", fs::metadata("/proc/self").unwrap().uid());
    block[108..116].copy_from_slice(uid.as_bytes());
    block[116..124].copy_from_slice(uid.as_bytes());
    block[124] = 0x80;
    block[128..136].copy_from_slice(&size.to_be_bytes());
    block[136..148].copy_from_slice(b"00000000001\0");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn hostile(entries: &[(&str, u8, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, data) in entries {
        out.extend(header(name, *kind, link, data.len() as u64));
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn no_archive_reaches_outside_of_the_target() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    let out = outside.path().to_str().unwrap();
    let into = format!("{out}/victim");
    let archives = [
        hostile(&[("../victim", b'0', "", b"x")]),
        hostile(&[("a/../../victim", b'0', "", b"x")]),
        hostile(&[("way", b'2', out, b""), ("way/victim", b'0', "", b"x")]),
        hostile(&[("way", b'2', "../../../../../../../..", b""), (&format!("way{into}")[..], b'0', "", b"x")]),
        hostile(&[("victim", b'2', &into, b""), ("victim", b'0', "", b"x")]),
        hostile(&[("hard", b'1', "../victim", b"")]),
        hostile(&[("hard", b'1', &into, b""), ("hard", b'0', "", b"x")]),
        hostile(&[("way", b'2', out, b""), ("hard", b'1', "way/victim", b""), ("hard", b'0', "", b"x")]),
        hostile(&[("d", b'5', "", b""), ("d", b'2', out, b""), ("d/victim", b'0', "", b"x")]),
        hostile(&[("way", b'2', out, b""), (".wh.way", b'0', "", b""), ("way/.wh..wh..opq", b'0', "", b"")]),
        hostile(&[("way", b'2', out, b""), ("way/.wh.victim", b'0', "", b"")]),
        hostile(&[(".wh...", b'0', "", b"")]),
    ];
    for (n, bytes) in archives.iter().enumerate() {
        for is_layer in [false, true] {
            fs::write(&victim, "precious").unwrap();
            fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
            let before = seen(outside.path());
            let target = tempfile::tempdir().unwrap();
            let result = unpack(bytes, target.path(), &Options { is_layer, ..OPTIONS });
            assert_eq!(seen(outside.path()), before, "archive {n}, layer {is_layer}: {result:?}");
            let parent = target.path().parent().unwrap().join("victim");
            assert!(!parent.exists(), "archive {n}");
        }
    }
}

#[test]
fn claims_cost_nothing() {
    let target = tempfile::tempdir().unwrap();
    let tib = 1u64 << 40;
    let mut claim = header("huge", b'0', "", tib << 4);
    claim.resize(1 << 20, 1);
    let error = unpack(&claim, target.path(), &OPTIONS).unwrap_err();
    assert!(matches!(error, extract::Error::TooLarge { claimed, .. } if claimed == tib << 4), "{error}");
    assert!(!target.path().join("huge").exists(), "it was begun");
    for kind in [b'L', b'K', b'x', b'g'] {
        let error = unpack(&header("name", kind, "", tib), target.path(), &OPTIONS).unwrap_err();
        assert!(matches!(error, extract::Error::Archive(reader::Error::Text { .. })), "{error}");
    }
    let mut archive = Archive::new(Cursor::new(vec![0u8; 1024]).chain(std::io::repeat(0)));
    assert!(archive.next().unwrap().is_none());
    assert!(matches!(archive.drain(), Err(reader::Error::Padding)));
    let mut endless = header("d", b'5', "", 0);
    endless.extend(header("d/e", b'5', "", 0));
    let endless = Repeat { bytes: endless, at: 0 };
    let mut tree = Tree::open(target.path()).unwrap();
    let error = extract(&mut Archive::new(endless), &mut tree, &OPTIONS, &mut |_| ()).unwrap_err();
    assert!(matches!(error, extract::Error::Many), "{error}");
}

/// The same bytes for ever.
struct Repeat {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.bytes[self.at..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.at = (self.at + n) % self.bytes.len();
        Ok(n)
    }
}

#[test]
fn layers_take_away_what_lower_ones_have_and_nothing_of_their_own() {
    let target = tempfile::tempdir().unwrap();
    let layer = Options { is_layer: true, ..OPTIONS };
    let lower = hostile(&[
        ("etc/gone", b'0', "", b"1"),
        ("etc/kept", b'0', "", b"1"),
        ("var/cache/old", b'0', "", b"1"),
        ("var/cache/deep/old", b'0', "", b"1"),
        ("dir/x/y", b'0', "", b"1"),
    ]);
    let upper = hostile(&[
        ("etc/.wh.gone", b'0', "", b""),
        ("var/cache/new", b'0', "", b"2"),
        ("var/cache/deep/new", b'0', "", b"2"),
        ("var/cache/deep", b'5', "", b""),
        ("var/cache/.wh..wh..opq", b'0', "", b""),
        (".wh.dir", b'0', "", b""),
        (".wh.none", b'0', "", b""),
        ("etc/both", b'0', "", b"2"),
        ("etc/.wh.both", b'0', "", b""),
    ]);
    unpack(&lower, target.path(), &layer).unwrap();
    unpack(&upper, target.path(), &layer).unwrap();
    let left: Vec<_> = seen(target.path()).into_keys().filter(|p| target.path().join(p).is_file()).collect();
    let wanted = ["etc/both", "etc/kept", "var/cache/deep/new", "var/cache/new"].map(PathBuf::from);
    assert_eq!(left, wanted);
}
