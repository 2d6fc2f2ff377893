//! The command line: `serve` runs the server, everything else talks to one over its API.

mod apply;
mod cancel;
mod client;
mod delete;
mod get;
mod image;
mod logs;
mod netboot;
mod report;
pub mod serve;
mod show;
mod watch;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use client::CliError;

/// Installs machines over the network, with Tinkerbell's hardware, templates and workflows.
#[derive(Debug, Parser)]
#[command(name = "ironhook", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the server is.
#[derive(Debug, Args)]
pub struct Server {
    /// The API of the server.
    #[arg(long, env = "IRONHOOK_SERVER", default_value = "http://127.0.0.1:7480", value_name = "URL")]
    server: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Serve),
    /// Check objects, and store all of them or none.
    Apply(apply::Apply),
    /// Show objects; of one workflow, what became of each action.
    Get(get::Get),
    /// Show what happens, as it happens; ends with the workflow when one is named.
    Watch(watch::Watch),
    /// Show what an action has written.
    Logs(logs::Logs),
    /// End a workflow: its running action is stopped, no further one is begun.
    Cancel(cancel::Cancel),
    /// Show and switch the services that boot machines; say why a machine gets what it gets, and what is wrong.
    Netboot(netboot::Netboot),
    /// Why a machine's last boot did not get on, and what it sent about it.
    Report(report::Report),
    /// Delete an object.
    Delete(delete::Delete),
    /// Add OS images to those that are served.
    Image(image::Image),
}

/// Does what the command line says.
pub async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    match cli.command {
        Command::Serve(serve) => serve.run().await.map(|()| ExitCode::SUCCESS).map_err(CliError::Serve),
        Command::Apply(apply) => apply.run().await,
        Command::Get(get) => get.run().await,
        Command::Watch(watch) => watch.run().await,
        Command::Logs(logs) => logs.run().await,
        Command::Cancel(cancel) => cancel.run().await,
        Command::Netboot(netboot) => netboot.run().await,
        Command::Report(report) => report.run().await,
        Command::Delete(delete) => delete.run().await,
        Command::Image(image) => image.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_manual_page_is_what_the_command_line_says() {
        assert_eq!(man::check(super::Cli::command()), Ok(()));
    }
}
