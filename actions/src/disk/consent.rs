//! What an operator allows on the way to a disk: to take down what uses it, to write to what can be pulled out, which
//! disks never. Finds the disk within that, says in the plan what has to go, and frees it. Must not write to it.

use std::time::Duration;

use crate::cmd::Context;
use crate::disk::find::{self, Found, Used};
use crate::disk::{teardown, wanted};
use crate::failed::Failed;
use crate::input::{self, Input, Presence, Reader};
use crate::select::Selector;

/// Consent to take down what uses the disk.
pub const FORCE: Input = Input {
    name: "FORCE",
    also: &[],
    presence: Presence::Default("false"),
    doc: "Take down what uses the disk: unmount it, end swapping to it, close its mappings (LVM, dm-crypt) and md arrays.",
};
/// Disks that are not to be touched whatever else is said.
pub const EXCLUDE: Input = Input {
    name: "EXCLUDE",
    also: &[],
    presence: Presence::Optional,
    doc: "Disks that are never chosen and never written to, each as in DEST_DISK, separated by semicolons.",
};

/// All of it.
#[derive(Debug, Default)]
pub struct Consent {
    /// To what the kernel calls removable.
    pub allow_removable: bool,
    /// To taking down what uses the disk.
    pub force: bool,
    /// Never these.
    pub exclude: Vec<Selector>,
    /// How long a device may take to appear.
    pub wait: Duration,
}

impl Consent {
    /// From an action's inputs, which have to have all four.
    pub fn read(r: &mut Reader<'_>) -> Self {
        Self {
            allow_removable: r.value("ALLOW_REMOVABLE", input::boolean),
            force: r.value("FORCE", input::boolean),
            exclude: r.optional("EXCLUDE", crate::select::parse_excluded).unwrap_or_default(),
            wait: r.value("WAIT_DEVICE_SECONDS", input::seconds),
        }
    }

    /// The one disk that is meant; the plan says what has to be taken down before it is ours.
    pub fn find(&self, selector: &Selector, context: &Context<'_>) -> Result<Found, Failed> {
        let found = wanted::one(selector, &context.sysfs, self)?;
        self.plan(&found, context)?;
        Ok(found)
    }

    /// That this disk may be written, at the latest after the steps that go into the plan.
    pub fn plan(&self, found: &Found, context: &Context<'_>) -> Result<(), Failed> {
        let used = Used::now()?;
        found.check_itself(self.allow_removable)?;
        if !self.force {
            return match found.refusal(self.allow_removable, &used) {
                Some(why) => Err(find::Error::InUse { path: found.path.clone(), why }.into()),
                None => Ok(()),
            };
        }
        for step in teardown::plan(found, &used, &context.sysfs)? {
            context.report.plan(&step.to_string());
        }
        Ok(())
    }

    /// Takes down what there is, and gives the disk as it is then.
    pub fn free(&self, found: Found, context: &Context<'_>) -> Result<Found, Failed> {
        if !self.force {
            return Ok(found);
        }
        let found = find::again(found, &context.sysfs)?;
        let steps = teardown::plan(&found, &Used::now()?, &context.sysfs)?;
        teardown::run(&steps, |step| context.report.info(&format!("done: {step}")))?;
        if !steps.is_empty() {
            teardown::settle(&found.path);
        }
        let found = find::again(found, &context.sysfs)?;
        found.check(self.allow_removable, &Used::now()?)?;
        Ok(found)
    }
}
