//! `ironhook image add FILE`: an image of any kind becomes one that is quick to write, proven and resumable, in the
//! directory that the server serves as `/files`. The work on its bytes is `ironhook-actions image-encode`'s.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::CliError;

/// What does the work, beside this program or on the PATH.
const ENCODER: &str = "ironhook-actions";

/// `ironhook image`.
#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Re-encode an image (raw, qcow2; gzip, bzip2, xz, zstd, lz4) and publish it under its digest.
    Add(Add),
}

/// `ironhook image add`.
#[derive(Debug, Args)]
struct Add {
    /// The image.
    file: PathBuf,
    /// The directory that the server serves as /files (`files` in its configuration).
    #[arg(long, env = "IRONHOOK_FILES", default_value = "/var/lib/ironhook/files", value_name = "DIR")]
    files: PathBuf,
    /// A name that leads to this image from now on; one that exists is moved.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Where machines find /files, for the lines of the template that are printed.
    #[arg(long, default_value = "http://SERVER:7080/files", value_name = "URL")]
    base: String,
    /// The program that re-encodes.
    #[arg(long, env = "IRONHOOK_ACTIONS", value_name = "PROGRAM")]
    encoder: Option<PathBuf>,
    /// Print what became of it as JSON.
    #[arg(long)]
    json: bool,
}

/// What the encoder says at its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Added {
    read: String,
    file: String,
    sha256: String,
    content_sha256: String,
    size: u64,
    content_size: u64,
    mapped_size: u64,
}

/// Why an image was not added.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No directory to add to.
    #[error("cannot use {} as the directory of images (see --files)", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The encoder is not there.
    #[error("cannot run {} (see --encoder)", program.display())]
    Run {
        /// As it was called.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The encoder failed.
    #[error("cannot add {}: {why}", file.display())]
    Encode {
        /// The image.
        file: PathBuf,
        /// In the encoder's words.
        why: String,
    },
    /// It is there, but not under the name that was asked for.
    #[error("{file} is there, but cannot be called {name}")]
    Name {
        /// The file.
        file: String,
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Image {
    /// Blocks until the image is there: nothing else goes on in this process.
    pub fn run(self) -> Result<ExitCode, CliError> {
        let Verb::Add(add) = self.command;
        let added = add.encode()?;
        if let Some(name) = &add.name {
            add.call(&added, name)?;
        }
        let text = if add.json { add.to_json(&added) } else { add.describe(&added) };
        std::io::stdout().write_all(text.as_bytes()).map_err(CliError::Write)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    fn encode(&self) -> Result<Added, ImageError> {
        let directory = |source| ImageError::Directory { path: self.files.clone(), source };
        std::fs::create_dir_all(&self.files).map_err(directory)?;
        let program = self.encoder.clone().unwrap_or_else(beside);
        let failed = |source| ImageError::Run { program: program.clone(), source };
        let mut child = Command::new(&program)
            .arg("image-encode")
            .arg(&self.file)
            .arg(&self.files)
            .env_remove("IRONHOOK_ACTION")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let why = child.stderr.take().map(follow).unwrap_or_default();
        let mut text = String::new();
        if let Some(mut out) = child.stdout.take() {
            out.read_to_string(&mut text).map_err(failed)?;
        }
        let status = child.wait().map_err(failed)?;
        let file = || self.file.clone();
        if !status.success() {
            let why = if why.is_empty() { status.to_string() } else { why };
            return Err(ImageError::Encode { file: file(), why });
        }
        serde_json::from_str(&text).map_err(|e| ImageError::Encode { file: file(), why: format!("odd answer: {e}") })
    }

    /// A link, made beside and renamed over what had the name.
    fn call(&self, added: &Added, name: &str) -> Result<(), ImageError> {
        for suffix in ["", ".bmap"] {
            let (target, name) = (format!("{}{suffix}", added.file), format!("{name}{suffix}"));
            let link = self.files.join(format!(".naming-{}{suffix}", std::process::id()));
            let done = std::os::unix::fs::symlink(&target, &link)
                .and_then(|()| std::fs::rename(&link, self.files.join(&name)));
            done.map_err(|source| {
                // Only when the rename failed is it there.
                let _ = std::fs::remove_file(&link);
                ImageError::Name { file: target, name, source }
            })?;
        }
        Ok(())
    }

    fn describe(&self, added: &Added) -> String {
        let Added { read, file, sha256, content_size, size, mapped_size, .. } = added;
        let mut text = format!(
            "{read}\nis now {}: {size} bytes, of {content_size} bytes of which {mapped_size} are not zero\n",
            self.files.join(file).display()
        );
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\nIn a template:\n  IMG_URL: {}/{file}\n  IMG_CHECKSUM: {sha256}",
            self.base.trim_end_matches('/')
        );
        text
    }

    fn to_json(&self, added: &Added) -> String {
        let value = serde_json::json!({
            "path": self.files.join(&added.file),
            "url": format!("{}/{}", self.base.trim_end_matches('/'), added.file),
            "sha256": added.sha256,
            "contentSha256": added.content_sha256,
            "size": added.size,
            "contentSize": added.content_size,
            "mappedSize": added.mapped_size,
        });
        format!("{value}\n")
    }
}

/// Shows progress where someone looks; what else the encoder said is why it failed.
fn follow(from: impl Read) -> String {
    let mut said = String::new();
    let is_seen = std::io::stderr().is_terminal();
    for line in BufReader::new(from.take(1 << 30)).lines().map_while(Result::ok) {
        let numbers = line.split_once(' ').and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
        match numbers {
            Some((done, total)) if is_seen => {
                let share = if total > 0 { format!(" of {} MiB", total >> 20) } else { String::new() };
                let _ = write!(std::io::stderr(), "\rencoding: {} MiB{share} ", done >> 20);
            }
            Some(_) => {}
            None => said = line.strip_prefix("failed: ").unwrap_or(&line).to_owned(),
        }
    }
    if is_seen {
        let _ = writeln!(std::io::stderr());
    }
    said
}

/// Beside this program, else on the PATH.
fn beside() -> PathBuf {
    let here = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(ENCODER)));
    here.filter(|path| path.is_file()).unwrap_or_else(|| Path::new(ENCODER).to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    if !text.is_empty() && !text.starts_with('.') && text.len() < 200 && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("a name has letters, digits, '.', '-', '_' and '+', and does not begin with '.'".into())
    }
}
