//! `bootkit`: from a kernel command line to a network, a container engine and a worker.
//! Each sub-command is one step or service of the image; this file picks it and prints the one error that ends it.

mod backoff;
mod cmdline;
mod config;
mod console;
mod docker;
mod engine;
mod failure;
mod lease;
mod network;
mod report;
mod stage2;
mod worker;

use spec::error::chain;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use spec::boot::BootCode;

use crate::failure::Coded;

#[derive(Parser)]
#[command(name = "bootkit", version, about)]
struct Cli {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Say what the kernel command line asks for and all that is wrong with it
    Cmdline,
    /// Get an address by DHCP and keep it
    Network,
    /// Send a report of what does not get on (`network` does so beside its work)
    Report,
    /// Run the container engine
    Engine {
        /// The engine's program
        #[arg(long, default_value = engine::DOCKERD)]
        dockerd: PathBuf,
    },
    /// Fetch the layer of an image with two stages
    Stage2,
    /// Wait for the network, then become the agent or run a worker image
    Worker {
        /// The agent's program
        #[arg(long, default_value = worker::AGENT)]
        agent: PathBuf,
    },
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Cmdline => "cmdline",
            Self::Network => "network",
            Self::Report => "report",
            Self::Engine { .. } => "engine",
            Self::Stage2 => "stage2",
            Self::Worker { .. } => "worker",
        }
    }

    fn run(&self) -> Result<(), (BootCode, String)> {
        let local = config::local().map_err(told)?;
        match self {
            Self::Cmdline => cmdline::report(&local).map_err(told),
            Self::Network => {
                let line = local.fields.clone();
                // Ends with the process.
                std::thread::spawn(move || report::courier(&line));
                match network::run(&local.fields).map_err(told)? {}
            }
            Self::Report => {
                report::courier(&local.fields);
                Ok(())
            }
            Self::Engine { dockerd } => engine::run(&local.fields, dockerd).map_err(told),
            Self::Stage2 => stage2::run(&local.fields).map_err(told),
            Self::Worker { agent } => match worker::run(&local.fields, agent).map_err(told)? {},
        }
    }
}

fn told(error: impl Coded) -> (BootCode, String) {
    (error.code(), chain(&error))
}

fn main() -> ExitCode {
    let step = Cli::parse().step;
    match step.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            failure::tell(step.name(), code, &message);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_manual_page_is_that_of_the_command_line() {
        assert_eq!(man::check(Cli::command()), Ok(()));
    }
}
