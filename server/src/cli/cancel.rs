//! `ironhook cancel WORKFLOW`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Server;
use super::client::{CliError, Client};
use crate::objects::meta::DEFAULT_NAMESPACE;

/// `ironhook cancel`.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Which one.
    workflow: String,
    /// Where it lives.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// For those who read its status later.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    server: Server,
}

impl Cancel {
    /// One line when the server has it on record; a running action is then stopped within seconds.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let (namespace, name) = (&self.namespace, &self.workflow);
        let path = format!("/apis/ironhook.dev/v1alpha1/namespaces/{namespace}/workflows/{name}/cancel");
        let (status, answer) = Client::new(&self.server)?.post(&path, &json!({ "reason": self.reason })).await?;
        if !status.is_success() {
            return Err(CliError::Refused(answer["message"].as_str().unwrap_or_default().to_owned()));
        }
        let line = match answer["changed"].as_bool() {
            Some(true) => format!("workflow {namespace}/{name} cancelled"),
            _ => format!("workflow {namespace}/{name} had ended: {}", answer["state"].as_str().unwrap_or("?")),
        };
        writeln!(std::io::stdout(), "{line}").map_err(CliError::Write)?;
        Ok(ExitCode::SUCCESS)
    }
}
