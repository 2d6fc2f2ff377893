//! A host of its own on the lab's network: a network namespace with one interface on the bridge, or on a link to the
//! lab's side. What runs there is a real program; it ends with its owner.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::{CommandError, command, run};
use crate::network::BRIDGE;
use crate::process::{Process, ProcessError};
use crate::wait::{self, TimedOut};

/// For a namespace to be there.
const SOON: Duration = Duration::from_secs(30);

/// A neighbour could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// Its program.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its interface.
    #[error("cannot set up the interface of a neighbour")]
    Tool(#[from] CommandError),
    /// Its namespace.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

/// A running host.
#[derive(Debug)]
pub struct Neighbour {
    process: Process,
    pid: u32,
    link: String,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // The kernel takes it away with the namespace, but some time after: the next of this name may come before.
        let _ = ip(&format!("link delete {}", self.link));
    }
}

impl Neighbour {
    /// On the bridge, with this address on `eth0`, running `program`. `name` is at most ten characters.
    pub fn on_bridge(name: &str, address: Ipv4Addr, program: &[&str], log: &Path) -> Result<Self, NeighbourError> {
        let neighbour = Self::start(name, address, program, log)?;
        ip(&format!("link set {name} master {BRIDGE} up"))?;
        Ok(neighbour)
    }

    /// On a link whose other end is here, as `name` with the address `here`.
    pub fn on_link(
        (name, here): (&str, Ipv4Addr),
        address: Ipv4Addr,
        program: &[&str],
        log: &Path,
    ) -> Result<Self, NeighbourError> {
        let neighbour = Self::start(name, address, program, log)?;
        ip(&format!("address add {here}/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(neighbour)
    }

    fn start(name: &str, address: Ipv4Addr, program: &[&str], log: &Path) -> Result<Self, NeighbourError> {
        // The namespace is there at once, its interface comes after.
        let script = format!(
            "until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done; ip link set lo up; \
             ip address add {address}/24 dev eth0; ip link set eth0 up; exec \"$@\""
        );
        let mut unshare = command("unshare", ["--net", "--", "sh", "-c", &script, "neighbour"]);
        let process = Process::spawn("a neighbour", unshare.args(program), log)?;
        let pid = process.id();
        let ours = std::fs::read_link("/proc/self/ns/net").ok();
        wait::until("the namespace of a neighbour", SOON, || {
            let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            Ok::<_, TimedOut>((theirs.is_some() && theirs != ours).then_some(()))
        })?;
        ip(&format!("link add {name} type veth peer name eth0 netns {pid}"))?;
        Ok(Self { process, pid, link: name.to_owned() })
    }

    /// Fails when its program has ended.
    pub fn check(&mut self) -> Result<(), NeighbourError> {
        Ok(self.process.check()?)
    }

    /// Another program in the same place, to its end.
    pub fn run(&self, program: &[&str]) -> Result<String, NeighbourError> {
        let target = self.pid.to_string();
        Ok(run(Command::new("nsenter").args(["--net", "--target", &target, "--"]).args(program).stdin(Stdio::null()))?)
    }
}

fn ip(words: &str) -> Result<(), CommandError> {
    run(command("ip", []).args(words.split(' ')))?;
    Ok(())
}
