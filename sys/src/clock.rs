//! The clock that every phase of the boot is counted on: since the start of the kernel, time asleep included.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the kernel started (`CLOCK_BOOTTIME`, clock_gettime(2)).
pub fn boot_ms() -> u64 {
    // The clock exists since Linux 2.6.39, so the call has no way to fail.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs_and_does_not_go_back() {
        let first = super::boot_ms();
        assert!(first > 0 && super::boot_ms() >= first);
    }
}
