//! `ironhook-actions`: all actions in one program. Which one runs is said by the program's own name, else by the first
//! argument, so that one file serves every image under every name.

use std::process::ExitCode;

use actions::cmd::Context;
use actions::report::Report;
use actions::{help, table};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (called, rest) = called(&args);
    tracing_subscriber::fmt().with_writer(std::io::stdout).without_time().with_target(false).init();
    if called == actions::cmd::boot::LATER {
        return actions::cmd::boot::later(rest);
    }
    let Some(action) = table::find(called) else {
        print!("{}", help::overview());
        return if matches!(called, "--help" | "-h" | "help") { ExitCode::SUCCESS } else { ExitCode::from(2) };
    };
    if rest.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        print!("{}", help::of(action));
        return ExitCode::SUCCESS;
    }
    let report = Report::from_environment();
    let context = Context::new(called, &report);
    match (action.run)(&context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            report.failed(&failed);
            ExitCode::FAILURE
        }
    }
}

/// The base name of argument 0 when it is an action, else argument 1; and the arguments after it.
fn called(args: &[String]) -> (&str, &[String]) {
    let base = args.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    match args {
        [_, rest @ ..] if table::find(base).is_some() => (base, rest),
        [_, name, rest @ ..] => (name, rest),
        _ => ("", &[]),
    }
}
