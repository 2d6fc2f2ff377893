//! Whether and when an ended service starts again. Pure: it is told how long the service ran and how it ended.

use std::time::Duration;

use sys::reap::Exit;

use crate::bundle::Restart;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);
/// One that ran this long was well, so its next end is a first one.
const HEALTHY: Duration = Duration::from_secs(60);

/// The history of one service.
#[derive(Debug)]
pub struct Policy {
    restart: Restart,
    next: Duration,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Start it again after this long.
    After(Duration),
    /// Leave it.
    Leave,
}

impl Policy {
    /// Of a service that has not run yet.
    pub fn new(restart: Restart) -> Self {
        Self { restart, next: FIRST }
    }

    /// The service has ended, or could not be started (`exit` is none).
    pub fn ended(&mut self, exit: Option<Exit>, ran: Duration) -> Decision {
        let well = exit.is_some_and(Exit::is_success);
        match self.restart {
            Restart::Never => return Decision::Leave,
            Restart::OnFailure if well => return Decision::Leave,
            Restart::OnFailure | Restart::Always => {}
        }
        if ran >= HEALTHY {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (self.next * 2).min(LAST);
        Decision::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    fn waits(policy: &mut Policy, times: usize) -> Vec<u64> {
        let decisions = (0..times).map(|_| policy.ended(Some(Exit::Code(1)), SHORT));
        decisions
            .map(|decision| match decision {
                Decision::After(wait) => wait.as_secs(),
                Decision::Leave => 0,
            })
            .collect()
    }

    #[test]
    fn waits_double_to_a_limit_and_begin_again_after_health() {
        let mut policy = Policy::new(Restart::Always);
        assert_eq!(waits(&mut policy, 7), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(policy.ended(Some(Exit::Signal(9)), HEALTHY), Decision::After(FIRST));
        assert_eq!(waits(&mut policy, 1), [2]);
    }

    #[test]
    fn each_policy_keeps_its_word() {
        let ended = |restart, exit| Policy::new(restart).ended(exit, SHORT);
        assert_eq!(ended(Restart::Always, Some(Exit::Code(0))), Decision::After(FIRST));
        assert_eq!(ended(Restart::OnFailure, Some(Exit::Code(0))), Decision::Leave);
        assert_eq!(ended(Restart::OnFailure, Some(Exit::Code(1))), Decision::After(FIRST));
        assert_eq!(ended(Restart::OnFailure, None), Decision::After(FIRST));
        assert_eq!(ended(Restart::Never, Some(Exit::Code(1))), Decision::Leave);
    }
}
