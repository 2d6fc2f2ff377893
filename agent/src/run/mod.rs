//! `ironhook-agent run FILE`: a workflow from a file, on any Linux machine, one action after the other; how each ended goes
//! to a file. No server is asked, and nothing is taken up again: a run that was cut off is begun anew by whoever began it.

mod document;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use proto::convert::Attempt;
use serde::Serialize;
use spec::{Failure, Outcome};

use crate::config::{Config, Flags};
use crate::executor::{Any, Executor};
use crate::job::{Container, Finish, Job};
use crate::progress::Reporter;
use crate::work::alongside;
use sys::clock::boot_ms;

use document::Step;

/// What to run, and where to say how it went.
#[derive(Args)]
pub struct Arguments {
    /// The workflow: a template, a Template object, or a list of actions, as YAML
    file: PathBuf,
    /// Where the results go, as JSON; default standard output
    #[arg(long)]
    results: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// How the workflow went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    workflow: String,
    state: &'static str,
    actions: Vec<Ran>,
}

/// How an action went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ran {
    task: String,
    action: String,
    image: String,
    state: &'static str,
    tries: u32,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handover: Option<String>,
}

/// Ends with 0 if all actions succeeded, 1 if one did not, 2 if nothing was run.
pub fn main(arguments: Arguments) -> ExitCode {
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let file = &arguments.file;
    let config = Config::local(arguments.flags, |name| std::env::var(name).ok())?;
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let steps = document::parse(&text, &name).with_context(|| file.display().to_string())?;
    let executor = Any::new(&config.executor, &config).context("there is no such executor")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let results = runtime.block_on(all(&executor, &steps));
    let succeeded = results.state == "SUCCESS";
    write(&results, arguments.results.as_deref())?;
    Ok(succeeded)
}

async fn all(executor: &Any, steps: &[Step]) -> Results {
    let workflow = steps.first().map(|step| step.action.workflow.to_string()).unwrap_or_default();
    let mut results = Results { workflow, state: "SUCCESS", actions: Vec::new() };
    for step in steps {
        let ran = one(executor, step).await;
        let state = ran.state;
        results.actions.push(ran);
        if state != "SUCCESS" {
            results.state = state;
            break;
        }
    }
    results
}

async fn one(executor: &Any, step: &Step) -> Ran {
    let begun = boot_ms();
    let mut number = 1;
    let finish = loop {
        let finish = attempt(executor, &job(step, number)).await;
        if finish.outcome == Outcome::Succeeded || number >= step.tries {
            break finish;
        }
        tracing::warn!(action = step.action.name, number, "it failed, and is tried again");
        number += 1;
    };
    if let Some(reaction) = job(step, number).reaction(&finish.outcome) {
        let after = attempt(executor, &reaction).await;
        tracing::info!(action = reaction.action.name, "{:?}", after.outcome);
    }
    let (state, failure) = match finish.outcome {
        Outcome::Succeeded => ("SUCCESS", None),
        Outcome::Failed(failure) => ("FAILED", Some(failure)),
        Outcome::TimedOut(failure) => ("TIMEOUT", Some(failure)),
    };
    if let Some(failure) = &failure {
        tracing::error!(action = step.action.name, "{}", failure.one_line());
    }
    Ran {
        task: step.action.task.clone(),
        action: step.action.name.clone(),
        image: step.action.image.clone(),
        state,
        tries: number,
        milliseconds: boot_ms().saturating_sub(begun),
        failure,
        // Whoever runs a file decides himself what becomes of his machine.
        handover: finish.handover.map(|mode| mode.to_string()),
    }
}

fn job(step: &Step, number: u32) -> Job {
    Job {
        attempt: Attempt::of(&step.action, number),
        action: step.action.clone(),
        begun: false,
        untouched: true,
        claimed_ms: boot_ms(),
        reacts_to: None,
    }
}

async fn attempt(executor: &Any, job: &Job) -> Finish {
    let (reporter, mut listener) = Reporter::new();
    // Its lines are on standard output already, its progress is nobody's here; both end with the reporter.
    let listen = async move { while listener.log.recv().await.is_some() {} };
    let work = async move {
        match executor.prepare(job, false, &reporter).await {
            Ok(id) => executor.run(job, &Container { id, started_ms: boot_ms() }, &reporter).await,
            Err(failure) => Finish::from(Outcome::Failed(failure)),
        }
    };
    let finish = alongside(work, listen).await;
    executor.remove(&job.attempt).await;
    finish
}

fn write(results: &Results, to: Option<&Path>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)? + "\n";
    match to {
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write {}", path.display())),
        None => std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output"),
    }
}
