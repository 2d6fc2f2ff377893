//! `ironhook-agent`: takes an action from the workflow server, runs it in an executor, reports it; then the next.
//! This file reads the configuration, sets up logging and signals, and prints the one error that ends the program.

mod background;
mod backlog;
mod backoff;
mod config;
mod data;
mod decide;
mod events;
mod executor;
mod handover;
mod inventory;
mod job;
mod journal;
mod progress;
mod run;
mod source;
mod text;
mod timeline;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::background::Background;
use crate::config::{Config, Flags};
use crate::executor::Any;
use crate::journal::Journal;
use crate::source::Source;
use crate::timeline::Timeline;
use crate::work::Worker;

/// Takes actions from a Tinkerbell workflow server, runs them in containers and reports them.
///
/// Every option can also be given by an environment variable, named in brackets; the first that is set counts. Secrets
/// are read from variables only: the password of a registry from REGISTRY_PASSWORD, a boot ticket from IRONHOOK_TICKET.
#[derive(Parser)]
#[command(name = "ironhook-agent", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints what this machine is, as the newer protocol has it, in JSON
    Inventory,
    /// Runs a workflow from a file on this machine, without a server
    Run(Box<run::Arguments>),
    /// Looks after one container of crun
    #[command(hide = true)]
    Shim {
        /// The directory of the action
        place: PathBuf,
    },
}

fn main() -> ExitCode {
    let Arguments { flags, command } = Arguments::parse();
    let own = if flags.is_verbose(variable) { "warn,ironhook_agent=debug" } else { "warn,ironhook_agent=info" };
    let filter = EnvFilter::try_from_env("IRONHOOK_LOG").unwrap_or_else(|_| EnvFilter::new(own));
    tracing_subscriber::fmt().compact().with_ansi(false).with_target(false).with_env_filter(filter).init();
    let done = match command {
        None => work(flags),
        Some(Command::Inventory) => inventory::print(),
        Some(Command::Run(arguments)) => return run::main(*arguments),
        Some(Command::Shim { place }) => executor::crun::shim::run(&place).map_err(anyhow::Error::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn work(flags: Flags) -> anyhow::Result<()> {
    let config = Config::resolve(flags, variable)?;
    // Two providers could be linked one day; naming ours now keeps TLS from failing at the first handshake then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        failed = take_actions(config) => return failed,
        _ = terminate.recv() => tracing::info!("asked to end (SIGTERM); a running action goes on and is taken up again"),
        _ = interrupt.recv() => tracing::info!("asked to end (SIGINT); a running action goes on and is taken up again"),
    }
    Ok(())
}

/// Returns only when it cannot begin.
async fn take_actions(config: Config) -> anyhow::Result<()> {
    let timeline = Timeline::start(&config.run_dir);
    let journal = Journal::open(&config.run_dir)?;
    source::authorities::fetch(&config).await;
    let attributes = if config.detection { inventory::encoded(Path::new("/")) } else { Vec::new() };
    let source = Source::new(&config, attributes)?;
    let executor = Arc::new(Any::new(&config.executor, &config).context("there is no such executor")?);
    let background = Background::recall(&config.run_dir, &executor, &source);
    Worker { source, executor, journal, timeline, background, config }.run().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_manual_page_is_that_of_the_command_line() {
        assert_eq!(man::check(super::Arguments::command()), Ok(()));
    }
}
