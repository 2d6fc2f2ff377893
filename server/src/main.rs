//! `ironhook`: the slim server (`ironhook serve`) and the operator's command line.
//! Errors are printed here and nowhere else: one line, with the whole chain of causes.

mod activity;
mod api;
mod apply;
mod cli;
mod config;
mod engine;
mod ephemeral;
mod grpc;
mod machines;
mod metadata;
mod netboot;
mod objects;
mod reports;
mod shutdown;
mod soft;
mod store;
mod template;
mod workflow;
mod yaml;

use spec::error::chain;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, CliError};

#[tokio::main]
async fn main() -> ExitCode {
    // Clap ends the program with 2 on wrong usage.
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("IRONHOOK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    // Fails only when there is one already, and then it is the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    match cli::run(cli).await {
        Ok(code) => code,
        Err(error) => {
            if let CliError::Mistakes(mistakes) = &error {
                for m in mistakes {
                    let key = if m.key.is_empty() { String::new() } else { format!(" {}:", m.key) };
                    eprintln!("{}:{}:{key} {}", m.file, m.line, m.message);
                }
            }
            eprintln!("ironhook: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
