//! What the engine's record of a container says: whether it is new, and how it has ended. Pure.

use std::time::Duration;

use bollard::models::{ContainerState, ContainerStateStatusEnum as Status};
use jiff::Timestamp;

use crate::executor::outcome::Exit;

/// Whether it was never started. One that has run, or runs, is not started again: its action may not be repeatable.
pub fn is_new(state: &ContainerState) -> bool {
    state.status == Some(Status::CREATED) && !has_error(state)
}

/// How it has ended, if it has. `elapsed` is what has passed since its time began to count, by a clock that nobody sets.
pub fn exit(state: &ContainerState, timeout: Duration, elapsed: Duration) -> Option<Exit> {
    let over = match state.status {
        Some(Status::EXITED | Status::DEAD) => true,
        Some(Status::CREATED) => has_error(state),
        _ => false,
    };
    let status = state.exit_code.filter(|_| over)?;
    // Beyond `elapsed`, the engine's clock was set in between, and its times say nothing.
    let late = ran(state).is_some_and(|ran| ran > timeout && ran <= elapsed);
    Some(if late { Exit::TimedOut(timeout) } else { Exit::Status(status) })
}

fn has_error(state: &ContainerState) -> bool {
    state.error.as_deref().is_some_and(|error| !error.is_empty())
}

fn ran(state: &ContainerState) -> Option<Duration> {
    let at = |time: &Option<String>| time.as_deref()?.parse::<Timestamp>().ok();
    Duration::try_from(at(&state.finished_at)?.duration_since(at(&state.started_at)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(status: Status, code: i64, error: &str, finished: &str) -> ContainerState {
        ContainerState {
            status: Some(status),
            exit_code: Some(code),
            error: Some(error.into()),
            started_at: Some("2026-01-01T00:00:00.5Z".into()),
            finished_at: Some(finished.into()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn an_end_within_its_time_is_its_own_however_long_nobody_looked() {
        let timeout = Duration::from_secs(60);
        let never = "0001-01-01T00:00:00Z";
        for (state, want) in [
            (state(Status::EXITED, 0, "", "2026-01-01T00:01:00.4Z"), Some(Exit::Status(0))),
            (state(Status::EXITED, 7, "", "2026-01-01T00:00:01.123456789Z"), Some(Exit::Status(7))),
            (state(Status::EXITED, 137, "", "2026-01-01T00:01:05Z"), Some(Exit::TimedOut(timeout))),
            // The clock was set from its factory's date while it ran, forwards or backwards.
            (state(Status::EXITED, 0, "", "2031-01-01T00:00:00Z"), Some(Exit::Status(0))),
            (state(Status::EXITED, 0, "", "2025-01-01T00:00:00Z"), Some(Exit::Status(0))),
            (state(Status::DEAD, 1, "", "?"), Some(Exit::Status(1))),
            (state(Status::CREATED, 127, "exec: not found", never), Some(Exit::Status(127))),
            (state(Status::CREATED, 0, "", never), None),
            (state(Status::RUNNING, 0, "", never), None),
            (state(Status::PAUSED, 0, "", never), None),
        ] {
            assert_eq!(exit(&state, timeout, Duration::from_secs(3600)), want, "{state:?}");
        }
    }

    #[test]
    fn only_what_never_ran_is_new() {
        let never = "0001-01-01T00:00:00Z";
        assert!(is_new(&state(Status::CREATED, 0, "", never)));
        assert!(!is_new(&state(Status::CREATED, 127, "exec: not found", never)));
        assert!(!is_new(&state(Status::EXITED, 0, "", never)));
    }
}
