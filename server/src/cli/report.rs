//! `ironhook report NAME`: why a machine's last boot did not get on, and what it sent about it.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use flate2::read::GzDecoder;
use spec::boot::BootFailure;

use super::Server;
use super::client::{CliError, Client};
use super::show::printable;
use crate::objects::meta::DEFAULT_NAMESPACE;

/// A report unpacked; larger ones are shown in part.
const LARGEST: u64 = 64 << 20;

/// `ironhook report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Which Hardware.
    name: String,
    /// Show one file of the report: boot.log, links.json, logs/docker.log, ...
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
    /// Write the report, a tar.gz, into a file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the Hardware lives.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    #[command(flatten)]
    server: Server,
}

impl Report {
    /// To standard output, with nothing in it that would command the terminal.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let client = Client::new(&self.server)?;
        let path = format!("/apis/ironhook.dev/v1alpha1/namespaces/{}/hardware/{}/report", self.namespace, self.name);
        let bytes = client.bytes(&path).await?;
        if let Some(path) = self.output {
            fs::write(&path, &bytes).map_err(|source| CliError::Read { path, source })?;
            return Ok(ExitCode::SUCCESS);
        }
        let text = match &self.show {
            Some(wanted) => file(&bytes, wanted).map_err(|e| client.odd(e))?.ok_or_else(|| {
                CliError::Refused(format!("there is no {wanted} in the report; without --show it lists what there is"))
            })?,
            None => summary(&bytes).map_err(|e| client.odd(e))?,
        };
        let mut out = std::io::stdout().lock();
        text.lines().try_for_each(|line| writeln!(out, "{}", printable(line))).map_err(CliError::Write)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One file of the report.
fn file(bytes: &[u8], wanted: &str) -> std::io::Result<Option<String>> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(LARGEST));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.path()?.to_str() == Some(wanted) {
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
        }
    }
    Ok(None)
}

/// What failed, what helps, and which files there are.
fn summary(bytes: &[u8]) -> std::io::Result<String> {
    let failures = file(bytes, "failures.json")?.unwrap_or_default();
    let failures: Vec<BootFailure> = serde_json::from_str(&failures)?;
    let mut text = String::new();
    for failure in failures {
        let BootFailure { step, code, message, hint, since_ms, count } = failure;
        text.push_str(&format!(
            "{step} failed [{code}], {count} times since {} s after boot\n  {}\n  What helps: {hint}\n",
            since_ms / 1000,
            message.replace('\n', "\n  ")
        ));
    }
    text.push_str("\nFiles (--show NAME):\n");
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(LARGEST));
    for entry in archive.entries()? {
        let entry = entry?;
        text.push_str(&format!("  {:<24} {} bytes\n", entry.path()?.display(), entry.size()));
    }
    Ok(text)
}
