//! Loading a kernel module from a file, and nothing about which one: finit_module(2).

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// The kernel unpacks the file itself (`MODULE_INIT_COMPRESSED_FILE`, Linux 5.17).
const COMPRESSED_FILE: u32 = 4;

/// Why a module is not there.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file cannot be opened.
    #[error("open module {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The parameters hold a NUL.
    #[error("parameters of module {} hold a NUL byte", path.display())]
    Parameters {
        /// The file.
        path: PathBuf,
    },
    /// The kernel trusts nobody who signed it, or nobody did.
    #[error("load module {}: this kernel takes only what is signed with a key that it knows (Secure Boot, lockdown)", path.display())]
    Unsigned {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refuses it.
    #[error("load module {}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ModuleError {
    /// Whether the kernel said that there is no device for the module, which is a driver's way to decline.
    pub fn is_no_device(&self) -> bool {
        matches!(self, Self::Load { source, .. } if source.raw_os_error() == Some(Errno::ENODEV as i32))
    }
}

/// Loads the module in `path`, compressed or not; one that is loaded already is fine.
pub fn load(path: &Path, parameters: &str) -> Result<(), ModuleError> {
    let file = File::open(path).map_err(|source| ModuleError::Open { path: path.to_owned(), source })?;
    let parameters = CString::new(parameters).map_err(|_| ModuleError::Parameters { path: path.to_owned() })?;
    let compressed = path.extension().is_some_and(|suffix| suffix != "ko");
    let flags = ModuleInitFlags::from_bits_retain(if compressed { COMPRESSED_FILE } else { 0 });
    match finit_module(&file, &parameters, flags) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno @ (Errno::EPERM | Errno::ENOKEY | Errno::EKEYREJECTED)) => {
            Err(ModuleError::Unsigned { path: path.to_owned(), source: errno.into() })
        }
        Err(errno) => Err(ModuleError::Load { path: path.to_owned(), source: errno.into() }),
    }
}

/// The release of the running kernel, as its modules' directory is named: uname(2).
pub fn kernel_release() -> std::io::Result<String> {
    let name = nix::sys::utsname::uname()?;
    Ok(name.release().to_string_lossy().into_owned())
}
