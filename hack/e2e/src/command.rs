//! Runs host tools to their end and says what one of them complained about. Processes that stay are `process`'s.

use std::process::{Command, Stdio};

/// A host tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not there, or may not be run.
    #[error("cannot run {program} (make deps installs what is missing)")]
    Start {
        /// Which tool.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// The tool with its arguments.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of its standard error.
        said: String,
    },
}

/// A command from words.
pub fn command<const N: usize>(program: &str, args: [&str; N]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs a command to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String, CommandError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .output()
        .map_err(|source| CommandError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    let said = lines[lines.len().saturating_sub(8)..].join("; ");
    Err(CommandError::Failed { program: format!("{program} {}", args.join(" ")), status: output.status, said })
}
