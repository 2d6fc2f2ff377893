//! What has time until the machine is up: done in order, when nothing else wants the processor.

use std::io;
use std::thread;

/// Work that is put off.
#[derive(Default)]
pub struct Later {
    jobs: Vec<Box<dyn FnOnce() + Send>>,
}

impl Later {
    /// Puts something off.
    pub fn add(&mut self, job: impl FnOnce() + Send + 'static) {
        self.jobs.push(Box::new(job));
    }

    /// Begins, in a thread of its own.
    pub fn start(self) -> io::Result<()> {
        let run = move || {
            // At its usual urgency it is done as well, only less politely.
            let _ = sys::sched::when_idle();
            self.jobs.into_iter().for_each(|job| job());
        };
        thread::Builder::new().name("later".to_owned()).spawn(run).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn jobs_are_done_in_their_order() {
        let (tell, told) = mpsc::channel();
        let mut later = Later::default();
        for number in 0..3 {
            let tell = tell.clone();
            later.add(move || tell.send(number).unwrap());
        }
        drop(tell);
        later.start().unwrap();
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
