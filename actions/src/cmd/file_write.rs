//! `file-write`: files onto a file system of a disk, each as a whole or not at all, never outside of that file system.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use spec::Code;
use sys::confined::{self, Attributes, Root};
use sys::mount::Mount;

use crate::cmd::{Context, environment};
use crate::contents::{self, Encoding};
use crate::disk::find::{Found, find};
use crate::disk::mounted::{self, Place};
use crate::failed::{Coded, Failed};
use crate::input::{
    self, DEST_DISK, DRY_RUN, Input, Lookup, Presence, Problems, Reader, WAIT_DEVICE_SECONDS, optional, or,
};
use crate::report::size;
use crate::select::Selector;
use crate::table::Action;

const INPUTS: &[Input] = &[
    DEST_DISK,
    Input {
        name: "FS_TYPE",
        also: &[],
        presence: Presence::Optional,
        doc: "The kind of file system; recognised by itself when it is ext2/3/4, xfs, btrfs or vfat.",
    },
    Input {
        name: "DEST_PATH",
        also: &[],
        presence: Presence::Optional,
        doc: "Absolute path of the file on that file system. This or FILES is required.",
    },
    Input { name: "CONTENTS", also: &[], presence: Presence::Optional, doc: "What goes into the file." },
    optional("CONTENTS_FILE", "Path of a file of the action's container that has it, instead of CONTENTS."),
    or("CONTENTS_ENCODING", "plain", "plain, base64, or gzip, which in CONTENTS is in base64 besides."),
    Input {
        name: "UID",
        also: &[],
        presence: Presence::Default("0"),
        doc: "Owner of the file and of parents that are made.",
    },
    Input {
        name: "GID",
        also: &[],
        presence: Presence::Default("0"),
        doc: "Group of the file and of parents that are made.",
    },
    Input { name: "MODE", also: &[], presence: Presence::Default("0644"), doc: "Mode of the file, octal." },
    Input {
        name: "DIRMODE",
        also: &[],
        presence: Presence::Default("0755"),
        doc: "Mode of parents that are made, octal.",
    },
    Input {
        name: "FILES",
        also: &[],
        presence: Presence::Optional,
        doc: "More files: JSON list of {\"path\", \"contents\", \"uid\"?, \"gid\"?, \"mode\"?, \"dirmode\"?}.",
    },
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];

/// Its row of the table.
pub const ACTION: Action = Action {
    name: "file-write",
    also: &["writefile"],
    doc: "Writes files into a file system of a disk.",
    inputs: INPUTS,
    run,
};

#[derive(Debug, PartialEq, Eq)]
struct File {
    path: PathBuf,
    contents: Vec<u8>,
    attributes: Attributes,
}

#[derive(Debug)]
struct Wish {
    disk: Selector,
    fs_type: Option<String>,
    files: Vec<File>,
    wait: Duration,
    dry_run: bool,
}

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot write to {}", path.display())]
    Write { path: PathBuf, source: confined::Error },
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::FileIo
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    contents: String,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<String>,
    dirmode: Option<String>,
}

fn read(lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let disk = r.value("DEST_DISK", input::disk);
    let fs_type = r.optional("FS_TYPE", input::text);
    let path = r.optional("DEST_PATH", input::path);
    let contents = contents(&mut r);
    let attributes = Attributes {
        uid: r.value("UID", input::number),
        gid: r.value("GID", input::number),
        mode: r.value("MODE", input::mode),
        dir_mode: r.value("DIRMODE", input::mode),
    };
    let more = r.optional("FILES", |text| files(text, attributes));
    if lookup("DEST_PATH").is_none_or(|t| t.is_empty()) && lookup("FILES").is_none_or(|t| t.is_empty()) {
        r.problem("DEST_PATH or FILES is required");
    }
    let wait = r.value("WAIT_DEVICE_SECONDS", input::seconds);
    let dry_run = r.value("DRY_RUN", input::boolean);
    r.finish()?;
    let mut files: Vec<File> =
        path.into_iter().map(|path| File { path, contents: contents.clone(), attributes }).collect();
    files.extend(more.unwrap_or_default());
    Ok(Wish { disk, fs_type, files, wait, dry_run })
}

fn contents(r: &mut Reader<'_>) -> Vec<u8> {
    let encodings = [("plain", Encoding::Plain), ("base64", Encoding::Base64), ("gzip", Encoding::Gzip)];
    let encoding = r.value("CONTENTS_ENCODING", input::one_of(&encodings));
    let text = r.optional("CONTENTS", |text| contents::of_text(text, encoding));
    let file = r.optional("CONTENTS_FILE", |path| contents::of_file(&input::path(path)?, encoding));
    if text.is_some() && file.is_some() {
        r.problem("CONTENTS and CONTENTS_FILE are both set");
    }
    text.or(file).unwrap_or_default()
}

fn files(text: &str, defaults: Attributes) -> Result<Vec<File>, String> {
    let entries: Vec<Entry> = serde_json::from_str(text).map_err(|e| format!("is not a list of files: {e}"))?;
    let mode = |text: Option<String>, default| text.map_or(Ok(default), |text| input::mode(&text));
    let file = |entry: Entry| -> Result<File, String> {
        let attributes = Attributes {
            uid: entry.uid.unwrap_or(defaults.uid),
            gid: entry.gid.unwrap_or(defaults.gid),
            mode: mode(entry.mode, defaults.mode)?,
            dir_mode: mode(entry.dirmode, defaults.dir_mode)?,
        };
        Ok(File { path: input::path(&entry.path)?, contents: entry.contents.into_bytes(), attributes })
    };
    let numbered = entries.into_iter().enumerate();
    numbered.map(|(index, entry)| file(entry).map_err(|problem| format!("entry {index}: {problem}"))).collect()
}

fn run(context: &Context<'_>) -> Result<(), Failed> {
    let wish = read(&environment)?;
    let report = context.report;
    let deadline = Instant::now() + wish.wait;
    let found = find(&wish.disk, &context.sysfs, wish.wait)?;
    let fs_type = mounted::fs_type(wish.fs_type.as_deref(), &found)?;
    for file in &wish.files {
        report.plan(&format!(
            "write {} ({}, mode {:04o}, owner {}:{}) onto {} ({fs_type})",
            file.path.display(),
            size(file.contents.len() as u64),
            file.attributes.mode,
            file.attributes.uid,
            file.attributes.gid,
            found.describe(),
        ));
    }
    if wish.dry_run {
        return Ok(());
    }
    let place = Place::make()?;
    let mount = mounted::mount_at(&found, &fs_type, place.path(), deadline)?;
    let written = write(&wish.files, &mount, &found);
    let unmounted = mounted::unmount(mount, &found);
    written?;
    unmounted?;
    report.info(&format!("written: {} files", wish.files.len()));
    Ok(())
}

fn write(files: &[File], mount: &Mount, found: &Found) -> Result<(), Error> {
    let failed = |source| Error::Write { path: found.path.clone(), source };
    let root = Root::open(mount.at()).map_err(failed)?;
    for file in files {
        root.replace(&file.path, &file.contents, file.attributes).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Wish, Problems> {
        let lookup = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        read(&lookup)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let wish =
            with(&[("DEST_DISK", "/dev/sda1"), ("DEST_PATH", "/etc/x"), ("UID", ""), ("CONTENTS", "a\n")]).unwrap();
        let attributes = Attributes { uid: 0, gid: 0, mode: 0o644, dir_mode: 0o755 };
        assert_eq!(wish.files, [File { path: "/etc/x".into(), contents: "a\n".into(), attributes }]);
    }

    #[test]
    fn contents_come_from_a_file_or_packed() {
        let base = [("DEST_DISK", "/dev/sda1"), ("DEST_PATH", "/x")];
        let wish = with(&[base[0], base[1], ("CONTENTS", "Zm9v"), ("CONTENTS_ENCODING", "base64")]).unwrap();
        assert_eq!(wish.files[0].contents, b"foo");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"bar").unwrap();
        let path = file.path().to_str().unwrap();
        let wish = with(&[base[0], base[1], ("CONTENTS_FILE", path)]).unwrap();
        assert_eq!(wish.files[0].contents, b"bar");
        let both = with(&[base[0], base[1], ("CONTENTS_FILE", path), ("CONTENTS", "x")]).unwrap_err();
        assert!(both.to_string().contains("both set"), "{both}");
        assert!(with(&[base[0], base[1], ("CONTENTS_FILE", "/none")]).unwrap_err().to_string().contains("/none"));
    }

    #[test]
    fn a_list_of_files_inherits_and_overrides() {
        let list = r#"[{"path":"/a","contents":"1"},{"path":"/b","contents":"2","mode":"4755","uid":7}]"#;
        let wish = with(&[("BLOCK_DEVICE", "/dev/sda1"), ("FILES", list), ("MODE", "0600")]).unwrap();
        let modes: Vec<_> = wish.files.iter().map(|f| (f.attributes.mode, f.attributes.uid)).collect();
        assert_eq!(modes, [(0o600, 0), (0o4755, 7)]);
    }

    #[test]
    fn bad_lists_are_refused_by_entry() {
        let base = [("DEST_DISK", "/dev/sda1")];
        for (list, hint) in [
            (r#"[{"path":"/a","contents":"","mode":"9"}]"#, "entry 0"),
            (r#"[{"path":"a","contents":""}]"#, "not an absolute path"),
            (r#"[{"path":"/a","contents":"","owner":"x"}]"#, "owner"),
            (r#"[{"path":"/a"}]"#, "contents"),
        ] {
            let problems = with(&[base[0], ("FILES", list)]).unwrap_err();
            assert!(problems.to_string().contains(hint), "{problems}");
        }
        assert!(with(&base).unwrap_err().to_string().contains("DEST_PATH or FILES"));
    }
}
