//! The lab's network: a bridge with the server's address and one tap per machine, inside `hack/in-lab`'s namespace.
//! It never touches the network of the host.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::command::{CommandError, command, run};

/// Where the server, the registry and every other service of the lab listen.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 56, 1);
/// The interface with that address.
pub const BRIDGE: &str = "br0";
/// Set by `hack/in-lab`.
const INSIDE: &str = "IRONHOOK_IN_LAB";

/// The network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The program was started as it is.
    #[error("not in the lab's namespaces; start it with hack/in-lab")]
    Outside,
    /// The namespaces could not be entered.
    #[error("cannot run {0}")]
    Enter(String, #[source] std::io::Error),
    /// `ip` failed.
    #[error("cannot set up the lab's network")]
    Tool(#[from] CommandError),
}

/// Starts this program again inside the lab's namespaces, unless it is there already. Must come before any thread.
pub fn enter(repo: &Path) -> Result<(), NetworkError> {
    if inside() {
        return Ok(());
    }
    let wrapper = repo.join("hack/in-lab");
    let program = std::env::current_exe().map_err(|e| NetworkError::Enter("this program again".into(), e))?;
    let failed = Command::new(&wrapper).arg(program).args(std::env::args_os().skip(1)).exec();
    Err(NetworkError::Enter(wrapper.display().to_string(), failed))
}

fn inside() -> bool {
    std::env::var_os(INSIDE).is_some_and(|value| value == "yes")
}

/// The bridge; gone when dropped.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// Makes the bridge. There can be one in a namespace.
    pub fn new() -> Result<Self, NetworkError> {
        if !inside() {
            return Err(NetworkError::Outside);
        }
        ip(&format!("link add {BRIDGE} type bridge forward_delay 0"))?;
        let network = Self(());
        ip(&format!("address add {ADDRESS}/24 dev {BRIDGE}"))?;
        ip(&format!("link set {BRIDGE} up"))?;
        Ok(network)
    }

    /// A port of the bridge for one machine.
    pub fn tap(&self, name: &str) -> Result<Tap, NetworkError> {
        ip(&format!("tuntap add {name} mode tap"))?;
        let tap = Tap(name.to_owned());
        ip(&format!("link set {name} master {BRIDGE} up"))?;
        Ok(tap)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The namespace takes it away in any case.
        let _ = ip(&format!("link delete {BRIDGE}"));
    }
}

/// One port of the bridge; gone when dropped.
#[derive(Debug)]
pub struct Tap(String);

impl Tap {
    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = ip(&format!("link delete {}", self.0));
    }
}

fn ip(words: &str) -> Result<(), NetworkError> {
    run(command("ip", []).args(words.split(' ')))?;
    Ok(())
}
