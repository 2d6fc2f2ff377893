//! `ironhook logs WORKFLOW [ACTION]`: the end of what an action has written, up to 64 KiB.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::Server;
use super::client::{CliError, Client};
use super::show::printable;
use crate::objects::meta::DEFAULT_NAMESPACE;
use crate::objects::{Key, Kind};

/// `ironhook logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Which workflow.
    workflow: String,
    /// ACTION or TASK/ACTION; without it the one that runs, has failed, or ended last.
    action: Option<String>,
    /// Where the workflow lives.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    #[command(flatten)]
    server: Server,
}

impl Logs {
    /// To standard output, with nothing in it that would command the terminal.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let client = Client::new(&self.server)?;
        let path = Client::path(&Key::new(Kind::Workflow, &self.namespace, &self.workflow));
        let mut query = Vec::new();
        if let Some(named) = &self.action {
            let (task, action) = named.split_once('/').map_or((None, named.as_str()), |(t, a)| (Some(t), a));
            query.extend(task.map(|task| ("task", task)));
            query.push(("action", action));
        }
        let text = client.text(&format!("{path}/log"), &query).await?;
        let mut out = std::io::stdout().lock();
        text.lines().try_for_each(|line| writeln!(out, "{}", printable(line))).map_err(CliError::Write)?;
        Ok(ExitCode::SUCCESS)
    }
}
