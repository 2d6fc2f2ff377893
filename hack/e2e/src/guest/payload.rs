//! What a guest is given: files and programs of the host, as a second archive behind its initramfs. Files come to lie in
//! the root file system of the guest's command; a program of the host brings the libraries that it is linked with.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cpio::newc::{self, ModeFileType};

use crate::command::{CommandError, command, run};

/// Where the builder puts the root file system of the service (LinuxKit's layout).
const ROOT: &str = "containers/services/guest/lower";
/// Links of the guest's root: nothing can be put below them.
const LINKS: [(&str, &str); 4] =
    [("/bin", "/usr/bin"), ("/sbin", "/usr/sbin"), ("/lib", "/usr/lib"), ("/lib64", "/usr/lib64")];

/// What a guest cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A program that is not on the host.
    #[error("{0} is not on the host's PATH")]
    Missing(String),
    /// Its libraries cannot be asked for.
    #[error(transparent)]
    Tool(#[from] CommandError),
    /// A file.
    #[error("cannot read or write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where its bytes are.
#[derive(Debug)]
enum Content {
    Host(PathBuf),
    Text(Vec<u8>, u32),
}

/// Files by their path in the guest.
#[derive(Debug, Default)]
pub struct Payload(BTreeMap<String, Content>);

impl Payload {
    /// A file of the host, with its mode, at an absolute path of the guest.
    pub fn file(&mut self, host: &Path, guest: &str) {
        self.0.insert(resolved(guest), Content::Host(host.to_owned()));
    }

    /// A file with these bytes, executable when they begin with `#!`.
    pub fn text(&mut self, guest: &str, text: &str) {
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        self.0.insert(resolved(guest), Content::Text(text.as_bytes().to_vec(), mode));
    }

    /// A program, by name on the host's PATH or by path, with its libraries; it goes to `/usr/bin`.
    pub fn program(&mut self, name: &str) -> Result<(), PayloadError> {
        let host = which(name).ok_or_else(|| PayloadError::Missing(name.to_owned()))?;
        let base = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // It fails for static programs, which need nothing.
        if let Ok(text) = run(command("ldd", []).arg(&host)) {
            for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
                self.file(Path::new(path), path);
            }
        }
        self.file(&host, &format!("/usr/bin/{base}"));
        Ok(())
    }

    /// Writes `initramfs`, and behind it an archive with everything.
    pub(super) fn append_to(&mut self, initramfs: &Path, to: &Path) -> Result<(), PayloadError> {
        self.program("busybox")?;
        self.program("modprobe")?;
        fs::copy(initramfs, to).map_err(file_error(to))?;
        let mut out = fs::File::options().append(true).open(to).map_err(file_error(to))?;
        // Each archive begins at a multiple of four.
        let length = out.metadata().map_err(file_error(to))?.len();
        out.write_all(&[0; 4][..((4 - length % 4) % 4) as usize]).map_err(file_error(to))?;
        let mut archive = io::BufWriter::new(out);
        self.write(&mut archive)?;
        archive.flush().map_err(file_error(to))
    }

    fn write(&self, archive: &mut impl Write) -> Result<(), PayloadError> {
        let mut directories = std::collections::BTreeSet::new();
        for path in self.0.keys() {
            let parents = Path::new(path).ancestors().skip(1).filter(|parent| parent.parent().is_some());
            directories.extend(parents.map(|parent| parent.display().to_string()));
        }
        for directory in directories {
            entry(archive, &directory, ModeFileType::Directory, 0o755, &[])?;
        }
        for (path, content) in &self.0 {
            match content {
                Content::Text(bytes, mode) => entry(archive, path, ModeFileType::Regular, *mode, bytes)?,
                Content::Host(host) => {
                    let bytes = fs::read(host).map_err(file_error(host))?;
                    let mode = fs::metadata(host).map_err(file_error(host))?.permissions().mode() & 0o777;
                    entry(archive, path, ModeFileType::Regular, mode, &bytes)?;
                }
            }
        }
        newc::trailer(archive).map(|_| ()).map_err(file_error(Path::new("the archive's end")))
    }
}

fn entry(out: &mut impl Write, path: &str, kind: ModeFileType, mode: u32, bytes: &[u8]) -> Result<(), PayloadError> {
    let failed = || file_error(Path::new(path));
    let builder = newc::Builder::new(&format!("{ROOT}{path}")).mode(mode).set_mode_file_type(kind);
    let length = u32::try_from(bytes.len()).map_err(|error| failed()(io::Error::other(error)))?;
    let mut entry = builder.write(out, length);
    entry.write_all(bytes).map_err(failed())?;
    entry.finish().map(|_| ()).map_err(failed())
}

fn resolved(guest: &str) -> String {
    let link = LINKS.iter().find(|(link, _)| guest.strip_prefix(link).is_some_and(|rest| rest.starts_with('/')));
    link.map_or_else(|| guest.to_owned(), |(link, target)| format!("{target}{}", &guest[link.len()..]))
}

fn which(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> PayloadError {
    let path = path.to_owned();
    move |source| PayloadError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_brings_its_libraries_to_where_the_links_lead() {
        let mut payload = Payload::default();
        payload.program("ls").unwrap();
        assert!(payload.0.keys().any(|path| path.starts_with("/usr/lib") && path.contains("libc.so")), "{payload:?}");
        assert!(payload.0.contains_key("/usr/bin/ls"));
        assert!(matches!(payload.program("no-such-program"), Err(PayloadError::Missing(_))));
    }
}
