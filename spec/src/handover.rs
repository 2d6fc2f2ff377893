//! The end of the machine's time with us: what init is asked over its socket, one JSON line each way.

use serde::{Deserialize, Serialize};

/// How the machine goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Through the firmware.
    Reboot,
    /// Into the kernel that an action has loaded.
    Kexec,
    /// Off.
    Poweroff,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reboot => "reboot",
            Self::Kexec => "kexec",
            Self::Poweroff => "poweroff",
        })
    }
}

/// Asked of init by the agent, after the server has acknowledged the last report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// How to go on.
    pub mode: Mode,
    /// For the console: who asked, and for what.
    pub reason: String,
}

/// Init's answer, sent before it begins to shut down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// Whether the machine is going down now.
    pub accepted: bool,
    /// Why not, otherwise empty.
    #[serde(default)]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_the_word_that_travels() {
        for mode in [Mode::Reboot, Mode::Kexec, Mode::Poweroff] {
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
        }
    }
}
