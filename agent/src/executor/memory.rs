//! How much memory an image may take: what is free, but for a reserve that the machine needs to go on.

use std::fs;

use spec::{Code, Failure};

/// For the kernel, the agent and the action itself.
const RESERVE: u64 = 96 << 20;

/// Refuses what would not fit, before anything of it is there.
pub fn check(need: u64, what: &str) -> Result<(), Failure> {
    let have = spare();
    if need <= have {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!(
        "{what} needs about {} MiB of memory, {} MiB can be spared; give the machine more, or use a smaller image",
        mib(need),
        mib(have)
    );
    Err(Failure::new(Code::InsufficientMemory, message))
}

/// Bytes that can be spared.
pub fn spare() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available(&text).unwrap_or(u64::MAX).saturating_sub(RESERVE)
}

fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        check(1, "it").unwrap();
        let failure = check(u64::MAX, "image x").unwrap_err();
        assert!(
            failure.code == "insufficient_memory" && failure.message.contains("image x needs about"),
            "{failure:?}"
        );
    }
}
