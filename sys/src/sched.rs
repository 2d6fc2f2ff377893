//! How urgent the calling thread is: sched_setscheduler(2).

use std::io;

use nix::errno::Errno;

/// From now on the calling thread runs only when nothing else wants the processor.
pub fn when_idle() -> io::Result<()> {
    // SAFETY: sched_setscheduler(2) reads one structure, which is ours; all zero is what SCHED_IDLE wants.
    let result = unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters)
    };
    Ok(Errno::result(result).map(drop)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_can_step_back() {
        std::thread::spawn(|| {
            super::when_idle().unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // After the name: state is field 3 of proc(5), policy field 41.
            let policy = stat.rsplit(')').next().unwrap().split_whitespace().nth(41 - 3);
            assert_eq!(policy, Some(libc::SCHED_IDLE.to_string().as_str()));
        })
        .join()
        .unwrap();
    }
}
