//! What netboot knows of a machine, as the server tells it on every question. Nothing of it is kept here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use spec::secret::Secret;
use spec::{Mac, WorkerId};

use crate::facts::Facts;

/// The answer of [`Machines`] to a question about one interface of one machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `namespace/name` of its Hardware.
    pub name: String,
    /// The interface that was asked about.
    pub mac: Mac,
    /// What DHCP gives it; none when the interface is not ours to address.
    pub lease: Option<Lease>,
    /// Whether it may be given boot files at all.
    pub allow_pxe: bool,
    /// Whether it gets the environment although no workflow waits.
    pub always_netboot: bool,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// Of its Hardware.
    pub labels: BTreeMap<String, String>,
    /// The state of its Instance, when it has one.
    pub instance: Option<String>,
    /// The workflow that its next boot is about.
    pub workflow: Workflow,
    /// What it boots instead of the environment.
    pub custom: Option<Custom>,
    /// Loaders to try instead of the site's, in order.
    pub loaders: Vec<String>,
    /// What a pxelinux client is given.
    pub pxelinux: Option<String>,
    /// The ISO that its virtual media is made of, instead of one made here.
    pub iso: Option<String>,
    /// What the environment is told; or why nothing can be told.
    pub installer: Result<Installer, String>,
}

/// Where the newest workflow of a machine stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Workflow {
    /// `namespace/name`; empty without one.
    pub name: String,
    /// Its state.
    pub state: WorkflowState,
    /// Why it failed.
    pub reason: String,
}

/// The states that matter to a boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WorkflowState {
    /// There is none.
    #[default]
    None,
    /// It waits for its worker.
    Pending,
    /// It has begun.
    Running,
    /// It ended well.
    Succeeded,
    /// It did not.
    Failed,
}

impl WorkflowState {
    /// As rules and people say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// An iPXE script of the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Custom {
    /// To be chained.
    Url(String),
    /// Itself.
    Script(String),
}

/// What DHCP gives an interface.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Reserved for it.
    pub address: Ipv4Addr,
    /// Of its network.
    pub netmask: Ipv4Addr,
    /// Its default route.
    pub gateway: Option<Ipv4Addr>,
    /// In order of preference.
    pub name_servers: Vec<Ipv4Addr>,
    /// NTP servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// Its name, without a domain.
    pub hostname: Option<String>,
    /// Lease time; never 0.
    pub seconds: u32,
}

/// What the installation environment is told.
#[derive(Clone, Debug)]
pub struct Installer {
    /// Who the machine is to the workflow service.
    pub worker_id: WorkerId,
    /// Free text of the site, for stock environments.
    pub facility: Option<String>,
    /// The tag of the boot interface's VLAN.
    pub vlan: Option<u16>,
    /// Kernel arguments of this machine, after those of the site.
    pub extra_args: Vec<String>,
    /// Where kernel and initramfs are, when not here.
    pub base_url: Option<String>,
    /// The kernel's name there, when it is not `vmlinuz-<arch>`.
    pub kernel: Option<String>,
    /// The initramfs' name there, when it is not `initramfs-<arch>`.
    pub initrd: Option<String>,
}

impl Installer {
    /// Of a machine that nobody has said more of.
    pub fn of(worker_id: WorkerId) -> Self {
        Self { worker_id, facility: None, vlan: None, extra_args: vec![], base_url: None, kernel: None, initrd: None }
    }

    /// What the kernel is called.
    pub fn kernel_name(&self, arch: &str) -> String {
        self.kernel.clone().unwrap_or_else(|| format!("vmlinuz-{arch}"))
    }

    /// What the initramfs is called.
    pub fn initrd_name(&self, arch: &str) -> String {
        self.initrd.clone().unwrap_or_else(|| format!("initramfs-{arch}"))
    }
}

/// What the server remembers of a machine's boots.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Boot scripts handed out since the newest workflow came to its state.
    pub boots: u32,
    /// What it has said so far.
    pub facts: Facts,
}

/// Where answers come from. Implemented by the server on a snapshot in memory; never blocks.
pub trait Machines: Send + Sync + 'static {
    /// The machine with this interface.
    fn by_mac(&self, mac: Mac) -> Option<Arc<Machine>>;
    /// The machine whose reserved address this is, or that last asked from it.
    fn by_address(&self, address: Ipv4Addr) -> Option<Arc<Machine>>;
    /// What is remembered of it.
    fn history(&self, mac: Mac) -> History;
    /// A new ticket for one boot of a machine that is known; none when the site has none.
    fn ticket(&self, mac: Mac) -> Option<Secret>;
}
