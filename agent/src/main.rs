//! `ironhook-agent`: takes an action from the workflow server, runs it in an executor, reports it; then the next.
//! This file reads the configuration, sets up logging and signals, and prints the one error that ends the program.

mod backoff;
mod config;
mod decide;
mod events;
mod executor;
mod handover;
mod job;
mod journal;
mod progress;
mod source;
mod text;
mod timeline;
mod work;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Flags};
use crate::executor::Any;
use crate::journal::Journal;
use crate::source::Source;
use crate::timeline::Timeline;
use crate::work::Worker;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let filter = EnvFilter::try_from_env("IRONHOOK_LOG").unwrap_or_else(|_| EnvFilter::new("warn,ironhook_agent=info"));
    tracing_subscriber::fmt().compact().with_ansi(false).with_target(false).with_env_filter(filter).init();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let config = Config::resolve(flags, |name| std::env::var(name).ok())?;
    // Two providers could be linked one day; naming ours now keeps TLS from failing at the first handshake then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut worker = Worker {
        source: Source::new(&config)?,
        executor: Any::new(&config.executor, &config).context("there is no such executor")?,
        journal: Journal::open(&config.run_dir)?,
        timeline: Timeline::start(&config.run_dir),
        config,
    };
    tokio::select! {
        () = worker.run() => {}
        _ = terminate.recv() => tracing::info!("asked to end (SIGTERM); a running action goes on and is taken up again"),
        _ = interrupt.recv() => tracing::info!("asked to end (SIGINT); a running action goes on and is taken up again"),
    }
    Ok(())
}
