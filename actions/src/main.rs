//! `ironhook-actions`: all actions in one program. Which one runs is said by the program's own name, else by the image
//! (its label `dev.ironhook.action`, in its environment as `IRONHOOK_ACTION`), else by the first argument.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use actions::cmd::Context;
use actions::failed::Coded;
use actions::input::Common;
use actions::report::Report;
use actions::{encode, help, table};
use spec::Code;

/// What an image with another entrypoint says about itself.
const ACTION_ENV: &str = "IRONHOOK_ACTION";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let labelled = std::env::var(ACTION_ENV).unwrap_or_default();
    let (called, rest) = called(&args, &labelled);
    tracing_subscriber::fmt().with_writer(std::io::stdout).without_time().with_target(false).init();
    if called == actions::cmd::boot::LATER {
        return actions::cmd::boot::later(rest);
    }
    if called == encode::NAME {
        return encode::main(rest);
    }
    let Some(action) = table::find(called) else {
        print!("{}", help::unknown(called));
        return if matches!(called, "--help" | "-h" | "help") { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    if rest.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        print!("{}", help::of(action));
        return ExitCode::SUCCESS;
    }
    let report = Report::from_environment(Common::read(&|name| std::env::var(name).ok()));
    let context = Context::new(called, &report);
    // A fault of ours has to end in an error event like every other failure.
    let ended = catch_unwind(AssertUnwindSafe(|| (action.run)(&context)));
    match ended.unwrap_or_else(|_| Err(Fault.into())) {
        Ok(()) => {
            report.succeeded(called);
            ExitCode::SUCCESS
        }
        Err(failed) => {
            report.failed(called, &failed);
            ExitCode::FAILURE
        }
    }
}

/// The program is wrong, not its input.
#[derive(Debug, thiserror::Error)]
#[error("a fault of this program; its message is on stderr")]
struct Fault;

impl Coded for Fault {
    fn code(&self) -> Code {
        Code::Unknown
    }
}

/// The base name of argument 0 when it is an action, else what the image is labelled with, else argument 1; and the
/// arguments after it.
fn called<'a>(args: &'a [String], labelled: &'a str) -> (&'a str, &'a [String]) {
    let base = args.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    match args {
        [_, rest @ ..] if table::find(base).is_some() => (base, rest),
        [_, rest @ ..] if table::find(labelled).is_some() => (labelled, rest),
        [_, name, rest @ ..] => (name, rest),
        _ => ("", &[]),
    }
}
