//! `ironhook-image`: the program's edge. Runs what the command line asks for, and prints errors, once.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser as _;

use image::artifacts::{self, Built};
use image::cli::{Build, Cli, Command, Sources};
use image::component::{self, Made};
use image::progress::Progress;
use image::{inspect, oci, relock};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ironhook-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let cache = &cli.cache;
    match cli.command {
        Command::Lock { lock, folders } => relock::relock(cache, &lock, &folders),
        Command::Component(sources) => {
            make(cache, &sources)?;
            Ok(oci::write::collect_garbage(&cache.join("oci"))?)
        }
        Command::Export { out, sources } => relock::with_components(cache, &sources, |component, workshop| {
            for file in component::export(component, workshop, &out)? {
                println!("{}", out.join(file).display());
            }
            Ok(())
        }),
        Command::Build(build) => assemble(cache, &build),
        Command::Inspect { file } => {
            print!("{}", inspect::report(&file).with_context(|| format!("cannot read {}", file.display()))?);
            Ok(())
        }
    }
}

fn make(cache: &std::path::Path, sources: &Sources) -> anyhow::Result<()> {
    relock::with_components(cache, sources, |component, workshop| {
        if component.description.images.is_empty() {
            // What will be exported belongs to the same lock as the images.
            return component::fetch(component, workshop);
        }
        let start = Instant::now();
        let made = component::make(component, workshop)?;
        let word = if made == Made::Built { "built" } else { "unchanged" };
        println!("component {} {word} {} ms", component.name, start.elapsed().as_millis());
        Ok(())
    })
}

fn assemble(cache: &std::path::Path, build: &Build) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut progress = Progress::new();
    let made = artifacts::build(&cache.join("oci"), build, &mut progress)?;
    drop(progress);
    let took = start.elapsed().as_millis();
    for Built { path, size, what } in made {
        println!("{}: {what}{size} bytes, {took} ms", path.display());
    }
    Ok(())
}
