//! Why a machine gets what it gets, and exactly what: the same functions as for the machine itself, without sending
//! anything and without a secret.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use spec::cmdline::{LIMIT_EFI, key};
use spec::dhcp::option::{ARCHITECTURE, MESSAGE_TYPE, USER_CLASS, VENDOR_CLASS};
use spec::dhcp::{MessageType, Packet};
use spec::{Mac, Secret};

use crate::dhcp::{Port, dry_run};
use crate::rules::{Decision, Subject};
use crate::script::{Boot, too_long};
use crate::{Facts, Netboot};

/// The whole story of a machine's next boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The interface.
    pub mac: Mac,
    /// `namespace/name` of its Hardware.
    pub machine: Option<String>,
    /// What it has said.
    pub facts: Facts,
    /// Scripts since its workflow came to its state.
    pub boots: u32,
    /// The rule, the verdict, and the rules before.
    pub decision: Decision,
    /// What DHCP says on each interface, by kind of client.
    pub dhcp: Vec<Offer>,
    /// Its boot script as it would be served.
    pub script: Option<String>,
    /// The kernel's part of it.
    pub command_line: Option<String>,
    /// How long the line would be, and how long it may be.
    pub length: Option<(usize, usize)>,
    /// What moved into the file of `ironhook.config`.
    pub config: Option<String>,
    /// Why there is no script.
    pub problem: Option<String>,
}

/// One answer of DHCP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Of ours.
    pub interface: String,
    /// `reservation`, `proxy`, `auto`, `off`.
    pub mode: String,
    /// `PXEClient` or `HTTPClient`, with the architecture; or `iPXE`.
    pub client: String,
    /// The address and the file, or the reason for silence.
    pub answer: String,
}

/// Explains one machine, known or not.
pub fn explain(netboot: &Netboot, mac: Mac) -> Explanation {
    let settings = netboot.settings();
    let machine = netboot.machines.by_mac(mac);
    let mut history = netboot.machines.history(mac);
    history.facts.mac = Some(mac);
    let decision = settings.rules.decide(Subject { machine: machine.as_deref(), history: &history });
    // A real one would be a new ticket that nobody uses.
    let ticket = machine.as_ref().map(|_| Secret::new("***"));
    let boot =
        Boot { mac, machine: machine.as_deref(), history: &history, settings: &settings, ticket: ticket.as_ref() };
    let (mut problem, mut script) = (None, None);
    match boot.ipxe(&decision.verdict) {
        None => {}
        Some(Ok(made)) => script = Some(masked(&made.text)),
        Some(Err(error)) => problem = Some(crate::chain(&error)),
    }
    let line = boot.line();
    let length = match &line {
        Ok(line) => Some((line.wanted, LIMIT_EFI)),
        Err(error) => too_long(error).map(|length| (length, LIMIT_EFI)),
    };
    let (command_line, config) = match line {
        Ok(line) if script.as_ref().is_some_and(|script| script.contains("\nkernel ")) => {
            (Some(masked(&line.text)), line.file.map(|file| masked(&file)))
        }
        _ => (None, None),
    };
    Explanation {
        mac,
        machine: machine.as_ref().map(|machine| machine.name.clone()),
        boots: history.boots,
        dhcp: offers(netboot, mac, &history.facts),
        facts: history.facts,
        decision,
        script,
        command_line,
        length,
        config,
        problem,
    }
}

/// For the firmware that it has shown, or for the common ones; and for iPXE after it.
fn offers(netboot: &Netboot, mac: Mac, facts: &Facts) -> Vec<Offer> {
    let settings = netboot.settings();
    let firmware: Vec<(u16, &str)> = match (facts.arch, facts.vendor_class.as_deref()) {
        (Some(arch), Some(class)) if class.starts_with("HTTPClient") => vec![(arch, "HTTPClient")],
        (Some(arch), _) => vec![(arch, "PXEClient")],
        (None, _) => vec![(0, "PXEClient"), (7, "PXEClient"), (16, "HTTPClient"), (11, "PXEClient")],
    };
    let mut offers = Vec::new();
    for interface in settings.interfaces.iter().filter(|i| facts.interface.as_ref().is_none_or(|name| *name == i.name))
    {
        let arch_of_ipxe = firmware.first().map_or(0, |(arch, _)| *arch);
        for (arch, class) in firmware.iter().copied().chain([(arch_of_ipxe, "iPXE")]) {
            let mut request = Packet::request(mac, 0);
            let shown = if class == "iPXE" { "PXEClient" } else { class };
            request.options.push(MESSAGE_TYPE, [MessageType::Discover as u8]);
            request.options.push(VENDOR_CLASS, format!("{shown}:Arch:{arch:05}:UNDI:003001"));
            request.options.push(ARCHITECTURE, arch.to_be_bytes());
            if class == "iPXE" {
                request.options.push(USER_CLASS, "iPXE");
            }
            let answer = dry_run(netboot, &interface.name, Port::Server, &request, Instant::now());
            let client = if class == "iPXE" { "iPXE".into() } else { format!("{class} arch {arch}") };
            let mode = format!("{:?}", interface.mode).to_lowercase();
            offers.push(Offer { interface: interface.name.clone(), mode, client, answer });
        }
    }
    offers
}

/// Values of secret keys are for the machine only.
fn masked(text: &str) -> String {
    let field = |word: &str| match word.split_once('=') {
        Some((name, _)) if key(name).is_some_and(|key| key.secret) => format!("{name}=***"),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(field).collect::<Vec<_>>().join(" ");
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{MAC, machine, netboot};

    #[test]
    fn it_tells_the_rule_and_what_would_be_served_without_a_secret() {
        let mut known = machine();
        if let Ok(installer) = &mut known.installer {
            installer.extra_args = vec!["registry_password=hunter2".into()];
        }
        let (netboot, _seen) = netboot(vec![known], std::path::Path::new("/nonexistent"));
        let told = explain(&netboot, MAC);
        assert_eq!(told.decision.rule, "a workflow waits");
        assert!(told.decision.passed.iter().any(|(rule, why)| rule.contains("iPXE") && why.contains("custom is")));
        assert!(told.script.as_ref().unwrap().contains("\nkernel "));
        assert!(told.command_line.as_ref().unwrap().contains("ironhook.ticket=***"));
        let text = serde_json::to_string(&told).unwrap();
        assert!(!text.contains("hunter2") && text.contains("registry_password=***"));
        let answers: Vec<_> = told.dhcp.iter().map(|offer| format!("{}: {}", offer.client, offer.answer)).collect();
        assert!(answers.iter().any(|a| a == "PXEClient arch 0: address 10.0.0.5, file undionly.kpxe"), "{answers:?}");
        assert!(answers.iter().any(|a| a.starts_with("iPXE: ") && a.ends_with("/auto.ipxe")), "{answers:?}");
        let stranger = explain(&netboot, Mac::new([2, 0, 0, 0, 0, 9]));
        assert!(stranger.script.is_none() && stranger.decision.rule.contains("unknown"));
        assert!(stranger.dhcp.iter().all(|offer| offer.answer.contains("silence")), "{:?}", stranger.dhcp);
    }
}
