//! What an action's image asks for in its label `dev.ironhook.privileges`: words separated by spaces or commas. Pure.
//! `privileged` is everything; else each word adds to an unprivileged container. Unknown words are errors, never ignored.

use std::fmt;
use std::str::FromStr;

/// The label.
pub const LABEL: &str = "dev.ironhook.privileges";

/// Capabilities of Linux, without their prefix, by their numbers (linux/capability.h).
const CAPABILITIES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// What every container has unless it is privileged: the engines' common set.
const DEFAULT: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What an action is given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Privileges {
    /// All capabilities, all devices, no seccomp filter.
    pub privileged: bool,
    /// `cap:SYS_BOOT`: beyond the default ones, without `CAP_`.
    pub capabilities: Vec<String>,
    /// `device:/dev/sda:rw`: a node of the machine, and what may be done with it out of `rwm`.
    pub devices: Vec<Device>,
    /// `memory:512M`: bytes that it may use.
    pub memory: Option<u64>,
    /// `pids:100`: processes that it may have.
    pub pids: Option<u32>,
    /// `cpus:1.5`, in thousandths.
    pub millicpus: Option<u32>,
    /// `seccomp:unconfined`: no filter of system calls.
    pub unconfined: bool,
}

/// A device of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its absolute path.
    pub path: String,
    /// Out of `rwm`.
    pub access: String,
}

/// A word of the label that cannot be granted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("label {LABEL}: {word:?} is not {}", Expected)]
pub struct PrivilegesError {
    /// As written.
    pub word: String,
}

struct Expected;

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "privileged, cap:<NAME>, device:<path>[:rwm], memory:<n>[K|M|G], pids:<n>, cpus:<n>, seccomp:default or seccomp:unconfined",
        )
    }
}

impl Privileges {
    /// Everything, as the field's workers give it.
    pub fn all() -> Self {
        Self { privileged: true, ..Self::default() }
    }

    /// The capabilities of a container that has these privileges, with `CAP_`, in order.
    pub fn granted(&self) -> Vec<String> {
        let has = |name: &&&str| {
            self.privileged || DEFAULT.contains(name) || self.capabilities.iter().any(|other| other == **name)
        };
        CAPABILITIES.iter().filter(has).map(|name| format!("CAP_{name}")).collect()
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once(':').unwrap_or((word, ""));
        match (key, value) {
            ("privileged", "") => self.privileged = true,
            ("seccomp", "default") => {}
            ("seccomp", "unconfined") => self.unconfined = true,
            ("cap", name) => {
                let name = name.to_ascii_uppercase();
                let name = name.strip_prefix("CAP_").unwrap_or(&name);
                CAPABILITIES.contains(&name).then(|| self.capabilities.push(name.to_owned()))?;
            }
            ("device", rest) => {
                let (path, access) = rest.split_once(':').unwrap_or((rest, "rwm"));
                let fits = path.starts_with("/dev/") && !path.split('/').any(|part| part == "..");
                let known = !access.is_empty() && access.chars().all(|c| "rwm".contains(c));
                (fits && known)
                    .then(|| self.devices.push(Device { path: path.to_owned(), access: access.to_owned() }))?;
            }
            ("memory", size) => self.memory = Some(bytes(size).filter(|bytes| *bytes > 0)?),
            ("pids", number) => self.pids = Some(number.parse().ok().filter(|n| *n > 0)?),
            ("cpus", number) => {
                let cpus: f64 = number.parse().ok()?;
                let fits = (0.01..=100_000.0).contains(&cpus);
                self.millicpus = fits.then_some((cpus * 1000.0).round() as u32);
                self.millicpus?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Whether a set as the kernel shows it holds a capability, named with `CAP_`.
pub fn is_in(set: u64, name: &str) -> bool {
    let number = CAPABILITIES.iter().position(|known| name.strip_prefix("CAP_") == Some(known));
    number.is_some_and(|number| set >> number & 1 == 1)
}

fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.chars().next_back()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl FromStr for Privileges {
    type Err = PrivilegesError;

    fn from_str(text: &str) -> Result<Self, PrivilegesError> {
        let mut privileges = Self::default();
        for word in text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()) {
            privileges.take(word).ok_or_else(|| PrivilegesError { word: word.to_owned() })?;
        }
        Ok(privileges)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_word_adds_and_an_unknown_one_is_told() {
        let text = "cap:sys_boot,cap:CAP_SYS_ADMIN device:/dev/sda:rw device:/dev/kvm memory:512M pids:100 cpus:1.5 seccomp:unconfined";
        let found: Privileges = text.parse().unwrap();
        let device = |path: &str, access: &str| Device { path: path.into(), access: access.into() };
        let want = Privileges {
            privileged: false,
            capabilities: vec!["SYS_BOOT".into(), "SYS_ADMIN".into()],
            devices: vec![device("/dev/sda", "rw"), device("/dev/kvm", "rwm")],
            memory: Some(512 << 20),
            pids: Some(100),
            millicpus: Some(1500),
            unconfined: true,
        };
        assert_eq!(found, want);
        assert!(found.granted().contains(&"CAP_SYS_BOOT".to_owned()) && found.granted().len() == DEFAULT.len() + 2);
        assert_eq!(Privileges::all().granted().len(), CAPABILITIES.len());
        assert!(
            is_in(1 << 21, "CAP_SYS_ADMIN")
                && !is_in(1 << 21, "CAP_SYS_BOOT")
                && is_in(1 << 40, "CAP_CHECKPOINT_RESTORE")
        );
        assert_eq!("privileged".parse(), Ok(Privileges::all()));
        assert_eq!("".parse(), Ok(Privileges::default()));
        for word in [
            "root",
            "cap:NONE",
            "device:/etc/passwd",
            "device:/dev/../etc",
            "device:/dev/sda:x",
            "memory:0",
            "memory:1T",
            "pids:0",
            "cpus:0",
            "seccomp:x",
        ] {
            assert_eq!(format!("privileged {word}").parse::<Privileges>(), Err(PrivilegesError { word: word.into() }));
        }
    }

    proptest! {
        #[test]
        fn no_label_panics(text in ".{0,60}|(cap|device|memory|cpus|pids):.{0,12}") {
            let _ = text.parse::<Privileges>();
        }
    }
}
