//! `ironhook apply -f FILE`: sends files as they are; the server reads and checks them.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Server;
use super::client::{CliError, Client};
use crate::apply::{File, Mistake, Outcome, Request};

/// `ironhook apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// A YAML file, a directory of such files, or - for standard input; can be given more than once.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    server: Server,
}

impl Apply {
    /// One line an object, or one line a mistake.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let mut request = Request::default();
        for path in &self.filename {
            read(path, &mut request.files)?;
        }
        let client = Client::new(&self.server)?;
        let (status, mut body) = client.post("/apis/ironhook.dev/v1alpha1/apply", &request).await?;
        if status.is_success() {
            let applied: Vec<Outcome> = serde_json::from_value(body["applied"].take()).map_err(|e| client.odd(e))?;
            let mut out = std::io::stdout().lock();
            for Outcome { kind, namespace, name, result } in applied {
                writeln!(out, "{} {namespace}/{name} {result}", kind.to_lowercase()).map_err(CliError::Write)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        match body["errors"].take() {
            serde_json::Value::Null => Err(CliError::Refused(body["message"].as_str().unwrap_or("refused").to_owned())),
            errors => {
                let mistakes: Vec<Mistake> = serde_json::from_value(errors).map_err(|e| client.odd(e))?;
                Err(CliError::Mistakes(mistakes))
            }
        }
    }
}

fn read(path: &Path, files: &mut Vec<File>) -> Result<(), CliError> {
    let failed = |source| CliError::Read { path: path.into(), source };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        files.push(File { name: "standard input".into(), text });
    } else if path.is_dir() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_file() && path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                found.push(path);
            }
        }
        if found.is_empty() {
            return Err(CliError::Empty(path.into()));
        }
        found.sort();
        found.iter().try_for_each(|path| read(path, files))?;
    } else {
        let text = std::fs::read_to_string(path).map_err(failed)?;
        files.push(File { name: path.display().to_string(), text });
    }
    Ok(())
}
