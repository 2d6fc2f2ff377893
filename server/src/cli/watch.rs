//! `ironhook watch [WORKFLOW]`: what happens, a line each, with the time since the first. With a workflow named, only
//! what concerns it and its machine, and the exit status is its end. Goes on when the server is restarted.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use spec::activity::{Activity, What};

use super::Server;
use super::client::{CliError, Client};
use super::show::printable;
use crate::objects::meta::DEFAULT_NAMESPACE;
use crate::objects::workflow::{State, WorkflowSpec, WorkflowStatus};
use crate::objects::{Key, Kind};

/// Between two tries to reach a server that went away.
const RETRY: Duration = Duration::from_millis(500);

/// `ironhook watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// End with this workflow: 0 when it succeeds, 1 when it does not.
    workflow: Option<String>,
    /// Where the workflow lives.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// How to show it.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Begin with what the server remembers.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One object a line, as the server tells it.
    Json,
}

/// The workflow that is watched.
struct Target {
    id: String,
    machine: Option<String>,
}

impl Watch {
    /// Until the workflow has ended, or for ever.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let client = Client::new(&self.server)?;
        let mut since = if self.all { "all" } else { "now" };
        let mut first_ms = None;
        let mut reached = false;
        loop {
            match self.follow(&client, since, &mut first_ms, &mut reached).await {
                Ok(Some(state)) => return Ok(ExitCode::from(u8::from(state != State::Success))),
                Err(error @ CliError::Connect { .. }) if !reached => return Err(error),
                Ok(None) | Err(CliError::Connect { .. }) => {}
                Err(error) => return Err(error),
            }
            since = "now";
            tokio::time::sleep(RETRY).await;
        }
    }

    /// One connection; answers with the end of the workflow, or nothing when the connection ends before.
    async fn follow(
        &self,
        client: &Client,
        since: &str,
        first_ms: &mut Option<u64>,
        reached: &mut bool,
    ) -> Result<Option<State>, CliError> {
        // Listening begins before the state is asked for, so that no change falls between the two.
        let path = format!("/apis/ironhook.dev/v1alpha1/activity?since={since}");
        let mut stream = client.stream(&path).await?;
        let (target, state) = self.target(client).await?.unzip();
        *reached = true;
        let over = state.filter(|state: &State| state.is_final());
        if over.is_some() {
            stream = client.stream(&format!("{path}&follow=false")).await?;
        }
        let mut buffer = Vec::new();
        while let Some(chunk) = stream.chunk().await.map_err(|e| client.lost(e))? {
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let activity: Activity = serde_json::from_slice(&line).map_err(|e| client.odd(e))?;
                if !target.as_ref().is_none_or(|target| concerns(target, &activity)) {
                    continue;
                }
                self.print(&activity, *first_ms.get_or_insert(activity.at_ms))?;
                if let (Some(target), What::Workflow { workflow, state, .. }) = (&target, &activity.what)
                    && *workflow == target.id
                    && let Some(last) = ended(state)
                {
                    return Ok(Some(last));
                }
            }
        }
        Ok(over)
    }

    async fn target(&self, client: &Client) -> Result<Option<(Target, State)>, CliError> {
        let Some(name) = &self.workflow else { return Ok(None) };
        let key = Key::new(Kind::Workflow, &self.namespace, name);
        let mut object = client.get(&Client::path(&key)).await?;
        let spec: WorkflowSpec = serde_json::from_value(object["spec"].take()).map_err(|e| client.odd(e))?;
        let status: WorkflowStatus = serde_json::from_value(object["status"].take()).map_err(|e| client.odd(e))?;
        let machine = spec.hardware_ref.map(|name| format!("{}/{name}", self.namespace));
        Ok(Some((Target { id: key.id(), machine }, status.state)))
    }

    fn print(&self, activity: &Activity, first_ms: u64) -> Result<(), CliError> {
        let line = match self.output {
            Some(Output::Json) => serde_json::to_string(activity).map_err(|_| CliError::Show("JSON"))?,
            None => {
                let seconds = activity.at_ms.saturating_sub(first_ms) as f64 / 1000.0;
                let who = activity.machine.clone().or_else(|| activity.mac.map(|mac| mac.to_string()));
                format!(
                    "{seconds:>8.1} s  {:<20} {}",
                    who.unwrap_or_else(|| "-".into()),
                    printable(&told(&activity.what))
                )
            }
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CliError::Write)
    }
}

/// The end that an activity tells of; a deleted workflow has not succeeded.
fn ended(state: &str) -> Option<State> {
    let ends = [State::Success, State::Failed, State::Timeout, State::Cancelled];
    let end = ends.into_iter().find(|end| end.as_str() == state);
    end.or_else(|| (state == "DELETED").then_some(State::Cancelled))
}

fn concerns(target: &Target, activity: &Activity) -> bool {
    match &activity.what {
        What::Action { workflow, .. } | What::Progress { workflow, .. } | What::Workflow { workflow, .. } => {
            *workflow == target.id
        }
        _ => activity.machine.is_some() && activity.machine == target.machine,
    }
}

fn told(what: &What) -> String {
    let because = |message: &str| if message.is_empty() { String::new() } else { format!(": {message}") };
    match what {
        What::Dhcp { address, client } => {
            format!("dhcp {address} to {}", if client.is_empty() { "a client" } else { client })
        }
        What::Refused { asked, why } => format!("refused {asked}: {why}"),
        What::Script { boots } => format!("boot script: {boots}"),
        What::File { service, path, bytes, total, ms } => {
            format!("{service} {path} {bytes} of {total} bytes in {ms} ms")
        }
        What::Phase { phase } => format!("phase {} {} ms", phase.name, phase.duration_ms),
        What::Action { task, action, state, message, .. } => {
            format!("action {task}/{action} {state}{}", because(message))
        }
        What::Progress { action, progress, .. } => {
            let total = if progress.total == 0 { String::new() } else { format!(" of {}", progress.total) };
            format!("action {action} {} {}{total} {}", progress.message, progress.done, progress.unit)
        }
        What::Workflow { workflow, state, message } => format!("workflow {workflow} {state}{}", because(message)),
    }
}
