//! Where the parts of a running machine meet: sockets and files that two programs must agree on.

/// Run-time state that is ours, on the machine.
pub const RUN: &str = "/run/ironhook";
/// One [`crate::phase::Phase`] as a JSON line per finished phase of the boot. Written by init and bootkit.
pub const TIMELINE: &str = "/run/ironhook/timeline.jsonl";
/// Where init listens for [`crate::handover::Request`]s.
pub const INIT_SOCKET: &str = "/run/ironhook/init.sock";
/// What DHCP gave this machine, as JSON ([`crate::dhcp::lease::Lease`]). Its presence means: the network is up.
pub const LEASE: &str = "/run/ironhook/lease.json";
/// What the agent keeps over its own restart.
pub const AGENT_STATE: &str = "/run/ironhook/agent";
/// The engine's API, in every component that binds `/run/docker`.
pub const DOCKER_SOCKET: &str = "/run/docker/docker.sock";
/// Shared by agent, engine and actions at the same path (the field's `/worker`).
pub const WORKER: &str = "/worker";
/// An action that creates this file asks for a reboot (wire reference §3).
pub const REBOOT_FILE: &str = "/worker/reboot";
/// Last entry of the initramfs; holds the number of entries before it.
pub const END_MARKER: &str = "/etc/ironhook/end";
/// Among the first entries of the initramfs; holds the number of all entries but [`END_MARKER`], so that a machine on
/// which the end is missing can say how much is.
pub const ENTRIES: &str = "/etc/ironhook/entries";
/// Names the environment variable that tells an action where to append its events.
pub const EVENTS_ENV: &str = "IRONHOOK_EVENTS";
