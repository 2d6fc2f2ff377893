//! What the tests of the lab share: a lab of their name, and how long things may take on a slow machine.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::path::PathBuf;
use std::time::Duration;

use e2e::lab::{Lab, Places};
use e2e::manifests::{Hardware, user_data};
use e2e::vm::empty_disk;
use spec::Mac;

/// From power-on to the agent, without KVM, on a busy machine.
pub const BOOT: Duration = Duration::from_secs(600);
/// A workflow that writes disks, likewise.
pub const INSTALL: Duration = Duration::from_secs(1200);
/// What takes a moment.
pub const SOON: Duration = Duration::from_secs(60);

/// A lab for one story.
pub fn lab(name: &str) -> Lab {
    Lab::new(name, Places::find().unwrap(), &mut |step| eprintln!("lab: {step}")).unwrap_or_else(|e| panic!("{e:?}"))
}

/// A machine of the lab, with a hostname that nobody has seen before.
pub fn hardware(last: u8, marker: &str) -> Hardware {
    Hardware {
        name: format!("machine-{last}"),
        mac: Mac::new([0x52, 0x54, 0x00, 0x00, 0x10, last]),
        address: [192, 168, 56, last].into(),
        hostname: format!("host-{}", random()),
        user_data: user_data(marker),
    }
}

/// Text that is different in every run.
pub fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// An empty disk of 2 GiB.
pub fn disk(lab: &Lab, name: &str) -> PathBuf {
    let path = lab.dir().join(name);
    empty_disk(&path, 2 << 30).unwrap();
    path
}

/// Where a workflow stands.
pub fn state(workflow: &serde_json::Value) -> &str {
    workflow["status"]["state"].as_str().unwrap_or_default()
}
