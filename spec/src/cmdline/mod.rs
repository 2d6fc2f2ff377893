//! The kernel command line as a contract: one table of keys for the renderer (netboot), the parsers (init,
//! bootkit) and the manual. Parsing is literal; what a value means is decided by whoever asks for it.

mod parse;
mod render;

pub use parse::{Cmdline, Problem};
pub use render::{RenderError, Renderer};

/// Stock x86 kernels cut the line here, the terminating NUL included.
pub const LIMIT: usize = 2048;
/// Booted through the EFI stub, a stock kernel keeps this many bytes.
pub const LIMIT_EFI: usize = 2043;

/// What a value has to look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false` in any of Go's spellings (wire reference §1).
    Bool,
    /// `host:port`.
    Authority,
    /// A MAC address.
    Mac,
    /// An absolute http or https URL.
    Url,
    /// Items separated by commas.
    List,
    /// A decimal number.
    Number,
}

/// One row of the table.
#[derive(Debug)]
pub struct Key {
    /// As it stands on the command line; case matters.
    pub name: &'static str,
    /// What a value has to look like.
    pub kind: Kind,
    /// Never shown, logged or passed on in an argument.
    pub secret: bool,
    /// What holds when the key is absent.
    pub default: &'static str,
    /// One sentence for the manual.
    pub doc: &'static str,
}

macro_rules! keys {
    ($($id:ident = $name:literal, $kind:ident, $secret:literal, $default:literal, $doc:literal;)*) => {
        $(#[doc = $doc]
        pub static $id: Key = Key { name: $name, kind: Kind::$kind, secret: $secret, default: $default, doc: $doc };)*

        /// Every key that means something to us, in the order of the manual.
        pub static KEYS: &[&Key] = &[$(&$id,)*];
    };
}

keys! {
    WORKER_ID = "worker_id", Text, false, "the MAC address of the boot interface", "Who this machine is to the server.";
    GRPC_AUTHORITY = "grpc_authority", Authority, false, "none", "Where the workflow service listens.";
    TINKERBELL_TLS = "tinkerbell_tls", Bool, false, "true", "Whether to speak TLS to the workflow service.";
    TINKERBELL_INSECURE_TLS = "tinkerbell_insecure_tls", Bool, false, "false", "Whether to accept any certificate of the workflow service.";
    HW_ADDR = "hw_addr", Mac, false, "none", "The interface that the machine was booted from.";
    BOOTIF = "BOOTIF", Mac, false, "none", "The interface that the machine was booted from, as pxelinux says it.";
    VLAN_ID = "vlan_id", Number, false, "none", "The VLAN that the boot interface is tagged with.";
    FACILITY = "facility", Text, false, "none", "Free text of the site.";
    SYSLOG_HOST = "syslog_host", Text, false, "none", "Where the engine sends the logs of containers, by UDP.";
    SYSLOG_PORT = "syslog_port", Number, false, "514", "The port at `syslog_host`.";
    DOCKER_REGISTRY = "docker_registry", Text, false, "none", "The registry of the worker image, and the one that the credentials belong to.";
    REGISTRY_USERNAME = "registry_username", Text, false, "none", "User at `docker_registry`.";
    REGISTRY_PASSWORD = "registry_password", Text, true, "none", "Password at `docker_registry`.";
    INSECURE_REGISTRIES = "insecure_registries", List, false, "none", "Registries that the engine may speak to without verified TLS.";
    TINK_WORKER_IMAGE = "tink_worker_image", Text, false, "none", "A worker image to run instead of the built-in agent.";
    HTTP_PROXY = "HTTP_PROXY", Url, false, "none", "Proxy for http.";
    HTTPS_PROXY = "HTTPS_PROXY", Url, false, "none", "Proxy for https.";
    NO_PROXY = "NO_PROXY", List, false, "none", "Hosts that are reached without a proxy.";
    TINKERBELL = "tinkerbell", Url, false, "none", "Base of the classic metadata service, without its port.";
    IPAM = "ipam", Text, false, "none", "Static addressing, as Hook's nine fields.";
    IRONHOOK_WORKER = "ironhook.worker", Text, false, "builtin", "`builtin` for our agent, `image` for the one of `tink_worker_image`.";
    IRONHOOK_DEADLINE = "ironhook.panic_seconds", Number, false, "60", "Seconds on screen before a boot that failed is started again; 0 waits for a person.";
}

/// The row of a name.
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().copied().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_documented() {
        let mut seen = std::collections::HashSet::new();
        for key in KEYS {
            assert!(seen.insert(key.name), "{} twice", key.name);
            assert!(key.doc.ends_with('.'), "{}", key.name);
        }
    }
}
