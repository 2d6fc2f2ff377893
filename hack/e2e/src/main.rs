//! `ironhook-lab`: the lab from the command line.

#[path = "guest/arguments.rs"]
mod guest;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use e2e::lab::Places;

#[derive(Parser)]
#[command(about = "Virtual machines and the real server on a network of their own")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the target OS image, unless it is there already, and prints where it is and its sha256
    Target,
    /// Shows one machine from power-on to its installed OS
    Demo,
    /// Runs a command in a machine on the image's own kernel, and ends with its exit status
    Guest(guest::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("ironhook-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let places = Places::find().context("the working copy that this was built from is gone")?;
    if let Command::Guest(arguments) = command {
        return guest::run(arguments, &places);
    }
    // Before the lab is entered: only here a user other than root can have the owners of files that an image needs.
    let target = e2e::target::ensure(&places.repo, &places.out, &mut |step| eprintln!("target: {step}"))?;
    match command {
        Command::Target => println!("{}\n{}", target.file.display(), target.sha256),
        Command::Demo => {
            e2e::network::enter(&places.repo)?;
            e2e::demo::run(places)?;
        }
        Command::Guest(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}
