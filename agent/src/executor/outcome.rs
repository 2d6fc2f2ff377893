//! From what is known at the end of a container to an outcome with a code and one sentence. Pure.

use std::time::Duration;

use spec::{Code, Failure, Outcome};

/// As much of the last line as belongs into a sentence.
const LAST_WORDS: usize = 200;

/// How the container ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By itself, with this status as the engine has it.
    Status(i64),
    /// By us, after its time.
    TimedOut(Duration),
    /// By us, for this reason.
    Cancelled(String),
    /// It is not there any more.
    Lost,
}

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The kernel has ended a process of it for want of memory.
    pub out_of_memory: bool,
    /// What the engine says went wrong with the start; empty when it was started.
    pub start_error: String,
    /// What the action itself told.
    pub told: Option<Failure>,
    /// How far the action said it was, last.
    pub progress: Option<String>,
    /// The end of its log.
    pub log_tail: String,
}

/// Judges.
pub fn outcome(exit: Exit, known: Known) -> Outcome {
    let log_tail = known.log_tail.clone();
    match exit {
        Exit::Status(0) => Outcome::Succeeded,
        Exit::TimedOut(timeout) => Outcome::TimedOut(Failure { log_tail, ..timed_out(timeout, &known) }),
        Exit::Cancelled(reason) => {
            let message =
                if reason.is_empty() { "it was stopped".to_owned() } else { format!("it was stopped: {reason}") };
            Outcome::Failed(Failure { log_tail, ..Failure::new(Code::Cancelled, message) })
        }
        Exit::Status(status) => Outcome::Failed(Failure { log_tail, ..failed(status, &known) }),
        Exit::Lost => {
            let message =
                "the container vanished before its exit status was known; the machine's logs may say what ended it";
            Outcome::Failed(Failure { log_tail, ..Failure::new(Code::Lost, message) })
        }
    }
}

fn timed_out(timeout: Duration, known: &Known) -> Failure {
    let mut message = format!("it ran longer than its timeout of {} s and was stopped", timeout.as_secs());
    if let Some(progress) = &known.progress {
        message += &format!(" (last progress: {progress})");
    }
    let mut failure = Failure::new(Code::Timeout, message);
    failure.causes.extend(known.told.as_ref().map(Failure::one_line));
    failure
}

fn failed(status: i64, known: &Known) -> Failure {
    let exit_status = i32::try_from(status).ok();
    if !known.start_error.is_empty() {
        let (code, message) = start_failure(&known.start_error);
        let mut failure = Failure::new(code, message);
        failure.causes.push(known.start_error.clone());
        return failure;
    }
    if let Some(told) = &known.told {
        return Failure { exit_status, ..told.clone() };
    }
    if known.out_of_memory {
        return Failure::new(Code::OutOfMemory, "the kernel ended it for want of memory");
    }
    let last = last_words(&known.log_tail);
    match status {
        // 128 alone is the engine's word for a container that never began.
        128 => Failure::new(Code::Start, format!("the container could not be started{last}")),
        129..=192 => Failure::new(Code::Signal, format!("it was ended by signal {}{last}", status - 128)),
        _ => Failure {
            exit_status,
            ..Failure::new(Code::ExitStatus, format!("it ended with exit status {status}{last}"))
        },
    }
}

/// Runtimes have no codes for these, only words.
pub fn start_failure(why: &str) -> (Code, &'static str) {
    let says = |words: &[&str]| words.iter().any(|words| why.contains(words));
    if says(&["no space left on device", "No space left on device"]) {
        (Code::NoSpace, "no room left for the container")
    } else if says(&[
        "error mounting",
        "mount source path",
        "mount `",
        "invalid mount",
        "invalid volume",
        "invalid mode",
        "must be absolute",
    ]) {
        (Code::BadMount, "a volume cannot be mounted into the container")
    } else {
        (Code::Start, "the container could not be started")
    }
}

fn last_words(log_tail: &str) -> String {
    match log_tail.lines().next_back() {
        Some(line) => format!("; its last line: {}", line.chars().take(LAST_WORDS).collect::<String>()),
        None => "; it wrote nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(exit: Exit, known: Known) -> Failure {
        match outcome(exit.clone(), known) {
            Outcome::Failed(failure) | Outcome::TimedOut(failure) => failure,
            Outcome::Succeeded => panic!("{exit:?} is a success"),
        }
    }

    #[test]
    fn every_way_to_end_has_its_own_code() {
        let plain = Known { log_tail: "one\ntwo".into(), ..Known::default() };
        let told = Known { told: Some(Failure::new(Code::DiskBusy, "mounted")), ..plain.clone() };
        let oom = Known { out_of_memory: true, ..plain.clone() };
        let start = Known { start_error: "exec: not found".into(), ..Known::default() };
        let cases = [
            (Exit::Status(7), &plain, "exit_status: it ended with exit status 7; its last line: two", Some(7)),
            (Exit::Status(7), &told, "disk_busy: mounted", Some(7)),
            (Exit::Status(137), &plain, "signal: it was ended by signal 9; its last line: two", None),
            (Exit::Status(137), &oom, "out_of_memory: the kernel ended it for want of memory", None),
            (Exit::Status(127), &start, "start: the container could not be started: exec: not found", None),
            (Exit::Status(128), &Known::default(), "start: the container could not be started; it wrote nothing", None),
        ];
        for (exit, known, line, status) in cases {
            let failure = failure(exit.clone(), known.clone());
            assert_eq!((failure.one_line().as_str(), failure.exit_status), (line, status));
            assert_eq!(failure.log_tail, known.log_tail);
        }
        assert_eq!(failure(Exit::Lost, plain).code, "lost");
    }

    #[test]
    fn success_is_exit_zero_whatever_was_told() {
        let told = Known { told: Some(Failure::new(Code::DiskBusy, "mounted")), ..Known::default() };
        assert_eq!(outcome(Exit::Status(0), told), Outcome::Succeeded);
    }

    #[test]
    fn a_timeout_says_its_limit_and_the_last_progress() {
        let known = Known { progress: Some("writing, 1 of 2 bytes".into()), ..Known::default() };
        let outcome = outcome(Exit::TimedOut(Duration::from_secs(30)), known);
        let Outcome::TimedOut(failure) = outcome else { panic!("{outcome:?}") };
        let want =
            "timeout: it ran longer than its timeout of 30 s and was stopped (last progress: writing, 1 of 2 bytes)";
        assert_eq!(failure.one_line(), want);
    }
}
