//! Whether and when an ended service starts again. Pure: it is told how long the service ran and how it ended.

use std::time::Duration;

use sys::reap::Exit;

use crate::bundle::Restart;

const FIRST: Duration = Duration::from_secs(1);
/// Between two starts at most.
pub const LAST: Duration = Duration::from_secs(30);
/// One that ran this long was well, so its next end is a first one.
const HEALTHY: Duration = Duration::from_secs(60);

/// So many ends in a row without health are a loop.
const LOOP: u32 = 3;
/// In a loop, every so many ends are told: the first, then about every five minutes.
const TELL_EVERY: u32 = 10;

/// The history of one service.
#[derive(Debug)]
pub struct Policy {
    restart: Restart,
    next: Duration,
    /// Ends in a row without health.
    ends: u32,
}

/// How much a person wants to hear of an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// How it ended and what is done.
    End,
    /// That it dies in a loop, after so many ends.
    Loop(u32),
    /// Nothing that was not said before.
    Nothing,
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
        Self { restart, next: FIRST, ends: 0 }
    }

    /// Of the end that [`Policy::ended`] was told of last.
    pub fn tell(&self) -> Tell {
        match self.ends {
            ends if ends < LOOP => Tell::End,
            ends if (ends - LOOP).is_multiple_of(TELL_EVERY) => Tell::Loop(ends),
            _ => Tell::Nothing,
        }
    }

    /// The service has ended, or could not be started (`exit` is none).
    pub fn ended(&mut self, exit: Option<Exit>, ran: Duration) -> Decision {
        self.ends = if ran >= HEALTHY { 1 } else { self.ends.saturating_add(1) };
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
    fn a_loop_is_told_once_and_then_seldom() {
        let mut policy = Policy::new(Restart::Always);
        let mut told = |ran| {
            policy.ended(Some(Exit::Code(1)), ran);
            policy.tell()
        };
        assert_eq!(
            [told(SHORT), told(SHORT), told(SHORT), told(SHORT)],
            [Tell::End, Tell::End, Tell::Loop(3), Tell::Nothing]
        );
        let later: Vec<Tell> = (0..20).map(|_| told(SHORT)).filter(|tell| *tell != Tell::Nothing).collect();
        assert_eq!(later, [Tell::Loop(13), Tell::Loop(23)]);
        assert_eq!(told(HEALTHY), Tell::End, "health ends the loop");
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
