//! `ironhook get KIND [NAME]`: as tables for people, as YAML or JSON for programs.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Server;
use super::client::{CliError, Client};
use super::show;
use crate::objects::meta::DEFAULT_NAMESPACE;
use crate::objects::workflow::State;
use crate::objects::{API_VERSION, Key, Kind};

/// `ironhook get`.
#[derive(Debug, Args)]
pub struct Get {
    /// hardware, template or workflow.
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Of one object; without it all are listed.
    name: Option<String>,
    /// Where it lives.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// How to show it.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The whole object.
    Yaml,
    /// The whole object.
    Json,
    /// A table with more columns.
    Wide,
}

/// For clap.
pub fn kind(word: &str) -> Result<Kind, String> {
    Kind::from_word(word).ok_or_else(|| "it can be hardware, template or workflow".to_owned())
}

impl Get {
    /// To standard output.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let client = Client::new(&self.server)?;
        let path = match &self.name {
            Some(name) => Client::path(&Key::new(self.kind, &self.namespace, name)),
            None => format!("/apis/{API_VERSION}/namespaces/{}/{}", self.namespace, self.kind.plural()),
        };
        let answer = client.get(&path).await?;
        let text = match self.output {
            Some(Output::Json) => serde_json::to_string_pretty(&answer).map_err(|_| CliError::Show("JSON"))? + "\n",
            Some(Output::Yaml) => serde_saphyr::to_string(&answer).map_err(|_| CliError::Show("YAML"))?,
            output => self.table(&client, answer, output == Some(Output::Wide)).await?,
        };
        std::io::stdout().lock().write_all(text.as_bytes()).map_err(CliError::Write)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn table(&self, client: &Client, mut answer: Value, wide: bool) -> Result<String, CliError> {
        let shown = match &self.name {
            Some(name) if self.kind == Kind::Workflow => {
                let heard = self.heard(client, name, &answer).await?;
                show::workflow(answer, heard.as_deref())
            }
            Some(_) => show::table(self.kind, vec![answer], wide),
            None => {
                let items: Vec<Value> = serde_json::from_value(answer["items"].take()).map_err(|e| client.odd(e))?;
                show::table(self.kind, items, wide)
            }
        };
        shown.map_err(|e| client.odd(e))
    }

    /// When the agent of what runs was heard of last.
    async fn heard(&self, client: &Client, name: &str, workflow: &Value) -> Result<Option<String>, CliError> {
        if workflow["status"]["currentState"]["state"] != State::Running.as_str() {
            return Ok(None);
        }
        let path = Client::path(&Key::new(self.kind, &self.namespace, name));
        match client.get(&format!("{path}/lease")).await {
            Ok(lease) => {
                let ms = lease["heardMsAgo"].as_u64().unwrap_or_default();
                Ok(Some(format!("{}.{} s ago", ms / 1000, ms / 100 % 10)))
            }
            // It may also have ended in between.
            Err(CliError::Refused(why)) => Ok(Some(why)),
            Err(error) => Err(error),
        }
    }
}
