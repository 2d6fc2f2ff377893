//! `ironhook delete KIND NAME`.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::Server;
use super::client::{CliError, Client};
use super::get::kind;
use crate::objects::meta::DEFAULT_NAMESPACE;
use crate::objects::{Key, Kind};

/// `ironhook delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// hardware, template or workflow.
    #[arg(value_parser = kind)]
    kind: Kind,
    /// Of the object.
    name: String,
    /// Where it lives.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    #[command(flatten)]
    server: Server,
}

impl Delete {
    /// One line when it is gone.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let key = Key::new(self.kind, &self.namespace, &self.name);
        Client::new(&self.server)?.delete(&Client::path(&key)).await?;
        let word = key.kind.name().to_lowercase();
        writeln!(std::io::stdout(), "{word} {} deleted", key.id()).map_err(CliError::Write)?;
        Ok(ExitCode::SUCCESS)
    }
}
