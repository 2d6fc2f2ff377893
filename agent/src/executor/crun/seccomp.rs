//! The filter of system calls for an action that is not privileged: what reaches into the kernel or into other containers
//! is refused, unless the capability that guards it was given. Pure.

use serde_json::{Value, json};

/// System calls, and the capability that gives them back.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "swapoff",
            "swapon",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    ("CAP_SYS_MODULE", &["create_module", "delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_adjtime", "clock_settime", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("", &["add_key", "keyctl", "nfsservctl", "request_key", "userfaultfd", "vm86", "vm86old"]),
];
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The profile for these capabilities.
pub fn profile(capabilities: &[String]) -> Value {
    let refused = REFUSED.iter().filter(|(capability, _)| !capabilities.iter().any(|given| given == capability));
    let calls: Vec<&str> = refused.flat_map(|(_, calls)| calls.iter().copied()).collect();
    let (absent, denied): (Vec<&str>, Vec<&str>) = calls.into_iter().partition(|call| *call == "clone3");
    let rule = |names: Vec<&str>, errno: u32| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
    let mut rules = vec![rule(denied, EPERM)];
    if !absent.is_empty() {
        // Its flags are behind a pointer, where no filter can see them; C libraries then take clone(2).
        rules.push(rule(absent, ENOSYS));
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"], "syscalls": rules})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_gives_its_calls_back() {
        let names = |profile: &Value| profile["syscalls"][0]["names"].to_string();
        let plain = names(&profile(&[]));
        assert!(plain.contains("kexec_load") && plain.contains("\"mount\"") && plain.contains("keyctl"), "{plain}");
        let boot = names(&profile(&["CAP_SYS_BOOT".into()]));
        assert!(!boot.contains("kexec_load") && boot.contains("\"mount\""), "{boot}");
    }
}
