//! `bootkit`: from a kernel command line to a network, a container engine and a worker.
//! Each sub-command is one step or service of the image; this file picks it and prints the one error that ends it.

mod cmdline;
mod console;
mod engine;
mod network;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about)]
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
    /// Run the container engine
    Engine {
        /// The engine's program
        #[arg(long, default_value = engine::DOCKERD)]
        dockerd: PathBuf,
    },
    /// Wait for the network, then become the agent
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
            Self::Engine { .. } => "engine",
            Self::Worker { .. } => "worker",
        }
    }

    fn run(&self) -> anyhow::Result<()> {
        let line = cmdline::read()?;
        match self {
            Self::Cmdline => cmdline::report(&line)?,
            Self::Network => match network::run(&line.fields)? {},
            Self::Engine { dockerd } => engine::run(&line.fields, dockerd)?,
            Self::Worker { agent } => match worker::run(&line.fields, agent)? {},
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let step = Cli::parse().step;
    match step.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ironhook: {} failed: {error:#}", step.name());
            ExitCode::FAILURE
        }
    }
}
