//! One file per action: its row of the table, its typed input, its plan, its run. Only `main` calls them.

pub mod archive_extract;
pub mod boot;
pub mod disk_capture;
pub mod disk_partition;
pub mod disk_wipe;
pub mod file_write;
pub mod image_write;
pub mod transfer;

use sys::sysfs::Sysfs;

use crate::report::Report;

/// What an action is given.
#[derive(Debug)]
pub struct Context<'a> {
    /// The name it was called by, which may be the field's older one.
    pub called: &'a str,
    /// Where it reports to.
    pub report: &'a Report,
    /// Where disks are looked up.
    pub sysfs: Sysfs,
}

impl<'a> Context<'a> {
    /// Of this machine.
    pub fn new(called: &'a str, report: &'a Report) -> Self {
        Self { called, report, sysfs: Sysfs::default() }
    }
}

/// A variable of this process.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
