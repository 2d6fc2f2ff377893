//! `ironhook netboot`: what runs, why a machine gets what it gets, what is wrong with the network, and switches.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use netboot::Mode;
use serde::de::DeserializeOwned;
use serde_json::Value;
use spec::Mac;

use super::Server;
use super::client::{CliError, Client};
use super::show::printable;
use crate::api::netboot::{Examination, Story};
use crate::netboot::{Change, Status};

const BASE: &str = "/apis/ironhook.dev/v1alpha1/netboot";

/// `ironhook netboot`.
#[derive(Debug, Args)]
pub struct Netboot {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which services run, and how each interface is served.
    Status,
    /// Show which rule decides about a machine, why the others did not, and exactly what it would be served.
    Explain {
        /// Of the machine's interface, known or not.
        #[arg(long)]
        mac: Mac,
        /// As the server tells it.
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
    /// Show what a machine has asked for and was given, with times, bytes and rates.
    Timeline {
        /// Of the machine's interface.
        #[arg(long)]
        mac: Mac,
    },
    /// Ask the network who else answers, and say what is wrong and what to do; exits with 1 when something is.
    Doctor,
    /// Switch services while the server runs; transfers under way are not cut. Forgotten when the server ends or reads
    /// its configuration again (SIGHUP).
    Set {
        /// Which interface `--mode` is for; the configuration's `interface` unless said.
        #[arg(long)]
        interface: Option<String>,
        /// What DHCP is to be there.
        #[arg(long, value_enum)]
        mode: Option<Word>,
        /// Switch TFTP.
        #[arg(long, value_enum)]
        tftp: Option<Switch>,
        /// Switch HTTP.
        #[arg(long, value_enum)]
        http: Option<Switch>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The whole object.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    /// Nothing.
    Off,
    /// Addresses and boot files, to machines that have a Hardware.
    Reservation,
    /// Boot files beside somebody else's DHCP, to machines that have a Hardware.
    Proxy,
    /// The same, to every machine.
    Auto,
}

impl Netboot {
    /// To standard output.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        let client = Client::new(&self.server)?;
        let machine = |mac: Mac| format!("{BASE}/machines/{mac}");
        let text = match self.command {
            Command::Status => status(&parse(&client, client.get(BASE).await?)?),
            Command::Explain { mac, output: Some(Output::Json) } => {
                let story = client.get(&machine(mac)).await?;
                serde_json::to_string_pretty(&story["explanation"]).map_err(|_| CliError::Show("JSON"))? + "\n"
            }
            Command::Explain { mac, output: None } => explanation(&parse(&client, client.get(&machine(mac)).await?)?),
            Command::Timeline { mac } => timeline(&parse(&client, client.get(&machine(mac)).await?)?),
            Command::Doctor => {
                let examination: Examination = parse(&client, client.get(&format!("{BASE}/doctor")).await?)?;
                print(&findings(&examination))?;
                return Ok(ExitCode::from(u8::from(!examination.findings.is_empty())));
            }
            Command::Set { interface, mode, tftp, http } => {
                let on = |switch: Switch| switch == Switch::On;
                let mode = mode.map(|word| match word {
                    Word::Off => Mode::Off,
                    Word::Reservation => Mode::Reservation,
                    Word::Proxy => Mode::Proxy,
                    Word::Auto => Mode::Auto,
                });
                let change = Change { interface, mode, tftp: tftp.map(on), http: http.map(on) };
                let (code, answer) = client.post(BASE, &change).await?;
                if !code.is_success() {
                    return Err(CliError::Refused(answer["message"].as_str().unwrap_or_default().to_owned()));
                }
                status(&parse(&client, answer)?)
            }
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(text: &str) -> Result<(), CliError> {
    let text: Vec<String> = text.lines().map(printable).collect();
    writeln!(std::io::stdout().lock(), "{}", text.join("\n")).map_err(CliError::Write)
}

fn parse<T: DeserializeOwned>(client: &Client, value: Value) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|error| client.odd(error))
}

fn status(status: &Status) -> String {
    let mut out = String::new();
    for (name, mode) in &status.interfaces {
        let _ = writeln!(out, "{:<24} {}", format!("interface {name}"), format!("{mode:?}").to_lowercase());
    }
    for (name, address) in &status.services {
        let _ = writeln!(out, "{name:<24} {address}");
    }
    out
}

fn explanation(story: &Story) -> String {
    let told = &story.explanation;
    let mut out = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<14} {value}");
    };
    field("Machine:", told.machine.as_deref().unwrap_or("no Hardware has this MAC address"));
    field("MAC:", &told.mac.to_string());
    field("Boots:", &format!("{} since its workflow came to its state", told.boots));
    for (rule, why) in &told.decision.passed {
        field("Not:", &format!("{rule} ({why})"));
    }
    let verdict = serde_json::to_value(&told.decision.verdict).unwrap_or_default();
    let verdict = verdict.as_str().map_or_else(|| verdict.to_string(), str::to_owned);
    field("Rule:", &told.decision.rule);
    field("Gets:", &verdict);
    for offer in &told.dhcp {
        field("DHCP:", &format!("{} ({}), {}: {}", offer.interface, offer.mode, offer.client, offer.answer));
    }
    if let Some((length, limit)) = told.length {
        field("Command line:", &format!("{length} bytes of {limit}"));
    }
    if let Some(problem) = &told.problem {
        field("Problem:", problem);
    }
    for (title, text) in [("Script:", &told.script), ("Site file:", &told.config)] {
        if let Some(text) = text {
            let _ = writeln!(out, "{title}\n{}", text.lines().map(|line| format!("  {line}\n")).collect::<String>());
        }
    }
    out
}

fn timeline(story: &Story) -> String {
    let start = story.timeline.first().map_or(0, |moment| moment.at_ms);
    let line = |at_ms: u64, what: &str| format!("{:>10.3}  {what}\n", at_ms.saturating_sub(start) as f64 / 1e3);
    let all: String = story.timeline.iter().map(|moment| line(moment.at_ms, &moment.what)).collect();
    if all.is_empty() { "nothing was seen of it since the server began".into() } else { all }
}

fn findings(examination: &Examination) -> String {
    let mut out = String::new();
    for (interface, why) in &examination.unheard {
        let _ = writeln!(out, "could not ask on {interface} who else answers: {why}");
    }
    for finding in &examination.findings {
        let _ = writeln!(out, "{}: {}\n  do: {}", finding.code, finding.what, finding.remedy);
    }
    if examination.findings.is_empty() {
        out.push_str("nothing is wrong that can be seen from here\n");
    }
    out
}
