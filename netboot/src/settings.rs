//! What the site decides, and the URLs that follow from it. Read once, never changed while serving.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use spec::Mac;

/// Settings of all services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address that machines reach us at; the DHCP server's identity.
    pub address: Ipv4Addr,
    /// The interface that DHCP is answered on.
    pub interface: String,
    /// Where the HTTP service listens.
    pub http_port: u16,
    /// `host:port` of the workflow service, for the kernel command line.
    pub grpc_authority: String,
    /// Whether the workflow service speaks TLS.
    pub grpc_tls: bool,
    /// Whether machines accept any certificate of the workflow service.
    pub grpc_insecure_tls: bool,
    /// Kernel arguments for every machine, before its own.
    pub kernel_args: Vec<String>,
    /// Holds `vmlinuz-<arch>` and `initramfs-<arch>`; served as `/misc/osie/current`.
    pub osie: PathBuf,
    /// Served as `/files`.
    pub files: PathBuf,
}

impl Settings {
    /// Of a path that begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.address, self.http_port)
    }

    /// Where a machine finds its boot script.
    pub fn script_url(&self, mac: Mac) -> String {
        self.url(&format!("/ipxe/script/{mac}/auto.ipxe"))
    }

    /// Where a machine finds a loader.
    pub fn loader_url(&self, mac: Mac, loader: &str) -> String {
        self.url(&format!("/ipxe/binary/{mac}/{loader}"))
    }
}
