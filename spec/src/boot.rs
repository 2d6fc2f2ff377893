//! Why a boot does not get on, with a stable code and a hint for every way it can fail.
//! Codes are an interface: they stand on the console, in reports and in the manual, so they are only ever added.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($(#[doc = $doc:literal] $name:ident = $text:literal, $hint:literal;)*) => {
        /// Why a boot does not get on.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum BootCode { $(#[doc = $doc] $name,)* }

        impl BootCode {
            /// Every code there is, in the order of the manual.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text that travels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, as a sentence.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $doc.trim_ascii_start(),)* }
            }

            /// What a person can do.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

codes! {
    /// The command line, or a file with its keys, cannot be obeyed.
    BadConfig = "bad_config", "correct the values named above where they are written: boot script, Hardware, site file";
    /// The command line reached the kernel's limit.
    LineCut = "command_line_cut", "move long values into a file: ironhook.config=<url>, or /etc/ironhook/site.conf in a second initramfs";
    /// A file of the configuration cannot be had.
    ConfigFetch = "config_fetch", "see that the URL is right and that its server has the file";
    /// A file does not have the digest that it was asked for with.
    Digest = "digest_mismatch", "the file changed or was replaced: take the digest anew with sha256sum, or find out who changed the file";
    /// Nobody to work for.
    NoServer = "no_server", "the boot script of the server adds grpc_authority=<host>:42113; or say it in the site file";
    /// The network cannot be used.
    Network = "network", "see that the port has a DHCP server; docs/command-line.md lists what can be asked for";
    /// The engine's program is not in the image.
    EngineMissing = "engine_missing", "the image is incomplete: build it again, or boot another one";
    /// The engine could not be prepared or started, or it ended.
    Engine = "engine", "its last lines say why; /var/log/docker.log has all of them";
    /// An image that the site bundle brings cannot be loaded.
    ImageLoad = "image_load", "make the site bundle again; docs/site-bundle.md says what goes into it";
    /// The image does not exist, or not for this architecture.
    ImageNotFound = "image_not_found", "push the image, or correct its name (tink_worker_image, docker_registry)";
    /// The registry says no.
    RegistryAuth = "registry_auth", "registry_username and registry_password are sent to docker_registry only; see that all three are right";
    /// The registry's certificate is signed by nobody we know.
    UnknownAuthority = "tls_unknown_ca", "give the site's authorities: ironhook.ca=<url>#sha256:<hex>, or ca.pem in the site bundle";
    /// The registry cannot be reached, breaks off or fails.
    Registry = "registry", "see that the registry runs and can be reached from this machine, by proxy if it has one";
    /// There is not enough memory for an image.
    Memory = "insufficient_memory", "give the machine more memory, or use a smaller image";
    /// The worker ended.
    Worker = "worker_ended", "its last lines say why; it is started again";
    /// A program of ours is missing or cannot be run.
    Program = "program", "the image is incomplete: build it again, or boot another one";
    /// Nothing above.
    Internal = "internal", "please report this with the line above";
}

impl std::fmt::Display for BootCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step of the boot that does not get on, as a file in [`crate::paths::FAILURES`] and in reports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootFailure {
    /// `engine`, `worker`, ...
    pub step: String,
    /// A [`BootCode`], or the code of a newer peer.
    pub code: String,
    /// One line for a person, with the causes.
    pub message: String,
    /// What a person can do.
    pub hint: String,
    /// Milliseconds since the kernel started, of the first time.
    pub since_ms: u64,
    /// How often it has happened.
    pub count: u32,
}

/// `docs/boot-codes.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Why a boot does not get on\n\n\
         <!-- Made from spec/src/boot.rs by `make gen`; edit the table there. -->\n\n\
         A step that does not get on says `ironhook: <step> failed [<code>]: <what happened>` on the console and, in the next line, what helps.\n\
         The same stands in the report that the machine sends to its server (`ironhook report NAME` shows it). Codes are only ever added.\n\n\
         | code | what it means | what helps |\n| --- | --- | --- |\n",
    );
    for code in BootCode::ALL {
        page.push_str(&format!("| `{code}` | {} | {} |\n", code.about(), code.hint()));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_help() {
        let mut seen = std::collections::HashSet::new();
        for code in BootCode::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(!code.hint().is_empty() && !code.hint().ends_with('.') && !code.hint().contains('|'), "{code}");
            assert!(code.about().ends_with('.') && !code.about().contains('|'), "{code}");
        }
    }
}
