//! What init wants of the kernel command line: how long to show a failure, and what the field says about modules
//! there (`modprobe.blacklist=`, `module.parameter=`). Everything else is bootkit's.

use spec::cmdline::{Cmdline, IRONHOOK_DEADLINE, IRONHOOK_RESCUE};

use crate::modules::Options;

const FILE: &str = "/proc/cmdline";
const DEFAULT_SECONDS: u32 = 60;

/// Seconds to show a failure before starting again; 0 waits for a person. Never fails: it is asked for by those
/// who have a failure to show.
pub fn panic_seconds() -> u32 {
    seconds(&std::fs::read_to_string(FILE).unwrap_or_default())
}

/// Whether a person wants a shell instead. The bare word means yes.
pub fn rescue() -> bool {
    wants_rescue(&std::fs::read_to_string(FILE).unwrap_or_default())
}

/// What the command line says about modules.
pub fn module_options() -> Options {
    options(&std::fs::read_to_string(FILE).unwrap_or_default())
}

fn seconds(line: &str) -> u32 {
    let line = Cmdline::parse(line);
    line.get(&IRONHOOK_DEADLINE).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_SECONDS)
}

fn wants_rescue(line: &str) -> bool {
    let bare = line.split_whitespace().any(|field| field == IRONHOOK_RESCUE.name);
    bare || Cmdline::parse(line).get_bool(&IRONHOOK_RESCUE).unwrap_or(false)
}

fn options(line: &str) -> Options {
    let mut options = Options::default();
    for field in Cmdline::parse(line).unknown() {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key.split_once('.') {
            Some(("modprobe", "blacklist")) => value.split(',').for_each(|name| options.refuse(name)),
            Some((module, parameter)) if !parameter.is_empty() => {
                options.set(module, field.split_at(module.len() + 1).1);
            }
            _ => {}
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_deadline_counts_as_absent() {
        assert_eq!(seconds("quiet ironhook.panic_seconds=5"), 5);
        assert_eq!(seconds("ironhook.panic_seconds=0"), 0);
        assert_eq!(seconds("ironhook.panic_seconds=soon"), DEFAULT_SECONDS);
        assert_eq!(seconds(""), DEFAULT_SECONDS);
    }

    #[test]
    fn a_shell_is_wanted_by_the_bare_word_too() {
        assert!(wants_rescue("quiet ironhook.rescue") && wants_rescue("ironhook.rescue=true"));
        assert!(
            !wants_rescue("quiet") && !wants_rescue("ironhook.rescue=false") && !wants_rescue("ironhook.rescue=maybe")
        );
    }

    #[test]
    fn modules_get_their_parameters_and_refusals() {
        let options = options("modprobe.blacklist=nouveau,i2c-dev nvme-core.a=1 nvme_core.b loglevel=7 console=ttyS0");
        assert!(options.refuses("nouveau") && options.refuses("i2c_dev") && !options.refuses("e1000"));
        assert_eq!(options.parameters("nvme_core"), "a=1 b");
        assert_eq!(options.parameters("e1000"), "");
    }
}
