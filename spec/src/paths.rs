//! Where the parts of a running machine meet: sockets and files that two programs must agree on.

/// Run-time state that is ours, on the machine.
pub const RUN: &str = "/run/ironhook";
/// One [`crate::phase::Phase`] as a JSON line per finished phase of the boot. Written by init and bootkit.
pub const TIMELINE: &str = "/run/ironhook/timeline.jsonl";
/// Devices without a driver and firmware that is missing, a [`crate::devices::Devices`]. Written by init, by rename.
pub const DEVICES: &str = "/run/ironhook/devices.json";
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
/// One [`crate::boot::BootFailure`] per step of the boot that does not get on, as `<step>.json`. Written by bootkit.
pub const FAILURES: &str = "/run/ironhook/failures";
/// The report of a failed boot, until the server has it: a `tar.gz`.
pub const REPORT: &str = "/run/ironhook/report.tar.gz";
/// What a site bundle brings: a second initramfs fills it (docs/site-bundle.md).
pub const SITE: &str = "/etc/ironhook";
/// OCI layout of images that need no registry.
pub const SITE_IMAGES: &str = "/etc/ironhook/images";
/// Certificate authorities of the site, PEM.
pub const SITE_CA: &str = "/etc/ironhook/ca.pem";
/// The images of [`SITE_IMAGES`] are in the engine. Written by `bootkit engine`.
pub const IMAGES_READY: &str = "/run/ironhook/images.ready";
/// All certificate authorities of the site, from whatever source, for the programs on this machine. Written by bootkit.
pub const AUTHORITIES: &str = "/run/ironhook/authorities.pem";
/// OCI layout of images that the initramfs itself brings.
pub const BUILTIN_IMAGES: &str = "/usr/share/ironhook/images";
/// One directory per action that crun runs: its bundle, its output, and how it ended.
pub const ACTIONS: &str = "/run/ironhook/actions";
