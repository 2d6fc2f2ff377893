//! What is wrong with the network between us and the machines, in words with a remedy: asks the link who else answers,
//! and reads what the machines did. The judgement is pure; only [`probe`] sends anything.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spec::Mac;
use spec::dhcp::option::{ARCHITECTURE, BOOT_FILE, MESSAGE_TYPE, PARAMETERS, SERVER_ID, VENDOR_CLASS};
use spec::dhcp::{FLAG_BROADCAST, MessageType, Packet};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::explain::Explanation;
use crate::{Mode, Settings, Step};

/// How often a machine asks before its silence means something.
const PATIENCE: usize = 3;
/// Answers that are listened to.
const MOST: usize = 64;

/// What somebody on the link answers to a machine that boots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// The interface.
    pub interface: String,
    /// Who it says it is.
    pub server: Ipv4Addr,
    /// What it would give; none from a proxy.
    pub address: Option<Ipv4Addr>,
    /// Its boot file; empty without.
    pub file: String,
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable.
    pub code: String,
    /// What and where.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Asks as a machine that boots, with an address that nobody has, and listens. Needs port 68 of the interface.
pub async fn probe(interface: &str, wait: Duration) -> io::Result<Vec<Heard>> {
    let socket: UdpSocket = crate::dhcp::open_client(interface)?;
    let xid = u32::from_ne_bytes(std::process::id().to_ne_bytes()) ^ 0x6972_6f6e;
    let [a, b, c, d] = xid.to_be_bytes();
    let mut request = Packet::request(Mac::new([0x02, 0x69, a, b, c, d]), xid);
    request.flags = FLAG_BROADCAST;
    request.options.push(MESSAGE_TYPE, [MessageType::Discover as u8]);
    request.options.push(PARAMETERS, [1, 3, 6, 43, 54, 60, 66, 67]);
    request.options.push(VENDOR_CLASS, "PXEClient:Arch:00007:UNDI:003016").push(ARCHITECTURE, [0, 7]);
    socket.send_to(&request.encode(), (Ipv4Addr::BROADCAST, 67)).await?;
    let deadline = Instant::now() + wait;
    let (mut heard, mut buffer) = (Vec::new(), vec![0; 2048]);
    while heard.len() < MOST
        && let Ok(received) = timeout_at(deadline, socket.recv(&mut buffer)).await
    {
        let Ok(reply) = Packet::decode(&buffer[..received?]) else { continue };
        if reply.xid != xid || reply.message_type() != Some(MessageType::Offer) {
            continue;
        }
        let Some(server) = reply.options.address(SERVER_ID) else { continue };
        let address = Some(reply.yiaddr).filter(|address| !address.is_unspecified());
        let file = reply.options.text(BOOT_FILE).unwrap_or_else(|| String::from_utf8_lossy(&reply.file).into_owned());
        heard.push(Heard { interface: interface.to_owned(), server, address, file });
    }
    Ok(heard)
}

/// Everything that is known to what is wrong.
pub fn judge(
    settings: &Settings,
    heard: &[Heard],
    steps: &BTreeMap<Mac, Vec<Step>>,
    machines: &[Explanation],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for interface in settings.interfaces.iter().filter(|interface| interface.mode != Mode::Off) {
        let ours = interface.address.unwrap_or(settings.address);
        let others: Vec<&Heard> = heard.iter().filter(|h| h.interface == interface.name && h.server != ours).collect();
        others.iter().filter(|other| !other.file.is_empty()).for_each(|other| findings.push(foreign_file(other)));
        let gives = others.iter().filter(|other| other.address.is_some());
        if interface.mode == Mode::Reservation {
            gives.for_each(|other| findings.push(second_server(other)));
        } else if let [first, second, ..] = gives.collect::<Vec<_>>()[..]
            && first.server != second.server
        {
            findings.push(two_servers(first, second));
        }
        if heard.iter().filter(|h| h.interface == interface.name && h.server == ours).count() > 1 {
            findings.push(Finding {
                code: "duplicate_server".into(),
                what: format!("duplicate server: two answer on {} as {ours}", interface.name),
                remedy: "stop one of them; no two servers may have the same address".into(),
            });
        }
    }
    for (mac, steps) in steps {
        findings.extend(judge_machine(*mac, steps));
    }
    findings.extend(machines.iter().filter_map(judge_line));
    findings
}

fn foreign_file(other: &Heard) -> Finding {
    Finding {
        code: "foreign_boot_file".into(),
        what: format!(
            "someone else's DHCP answered with a boot file first: {} on {} says {:?}",
            other.server, other.interface, other.file
        ),
        remedy: "remove options 66 and 67 (next-server, filename) from that server; machines believe either".into(),
    }
}

fn second_server(other: &Heard) -> Finding {
    Finding {
        code: "duplicate_server".into(),
        what: format!("duplicate server: {} gives addresses on {} as well", other.server, other.interface),
        remedy: format!("stop it, or run `ironhook netboot set --interface {} --mode proxy`", other.interface),
    }
}

fn two_servers(first: &Heard, second: &Heard) -> Finding {
    Finding {
        code: "duplicate_server".into(),
        what: format!(
            "duplicate server: {} and {} both give addresses on {}",
            first.server, second.server, first.interface
        ),
        remedy: "let one of them alone give addresses".into(),
    }
}

fn judge_machine(mac: Mac, steps: &[Step]) -> Option<Finding> {
    let last = |is: &dyn Fn(&Step) -> bool| steps.iter().rposition(is);
    let offered = |step: &Step| matches!(step, Step::Offer { mode, .. } if mode == "proxy" || mode == "auto");
    // A sign is whatever only a machine does that has understood an answer.
    let sign = last(&|step| match step {
        Step::Script { .. } => true,
        Step::Offer { mode, .. } => mode == "4011",
        Step::Discover { client } => client == "iPXE",
        _ => false,
    });
    let since = sign.map_or(0, |at| at + 1);
    let rest = &steps[since..];
    if let Some(Step::ChoseOther { server }) = rest.iter().rfind(|step| matches!(step, Step::ChoseOther { .. }))
        && !rest.iter().any(offered)
    {
        return Some(Finding {
            code: "foreign_boot_file".into(),
            what: format!("someone else's DHCP answered with a boot file first: {mac} took the offer of {server}"),
            remedy: "let one server alone give addresses, or set this interface to proxy".into(),
        });
    }
    let asks = rest.iter().filter(|step| matches!(step, Step::Discover { .. })).count();
    let offers = rest.iter().filter(|step| offered(step)).count();
    (asks >= PATIENCE && offers >= PATIENCE).then(|| Finding {
        code: "no_proxy_reply".into(),
        what: format!("no proxy reply reached the client: {mac} asked {asks} times, was answered {offers} times, and has shown no sign"),
        remedy: "let UDP ports 67, 68 and 4011 through between this server and the machine; behind a relay, add this server to its list".into(),
    })
}

fn judge_line(machine: &Explanation) -> Option<Finding> {
    let (length, limit) = machine.length.filter(|(length, limit)| length > limit)?;
    let name = machine.machine.clone().unwrap_or_else(|| machine.mac.to_string());
    let moved = machine.problem.is_none();
    Some(Finding {
        code: "command_line_too_long".into(),
        what: format!("command line too long: {name} would have {length} bytes, a kernel takes {limit}"),
        remedy: if moved {
            "nothing: what is ours moved into the file of ironhook.config; a stock image would not read it".into()
        } else {
            "shorten kernelArgs or the Hardware's kernelParams: what is left is the kernel's own and cannot move".into()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{MAC, machine, netboot, settings};

    fn codes(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.code.as_str()).collect()
    }

    fn heard(last: u8, gives: bool, file: &str) -> Heard {
        let address = gives.then_some(Ipv4Addr::new(10, 0, 0, 77));
        Heard { interface: "eth0".into(), server: [10, 0, 0, last].into(), address, file: file.into() }
    }

    #[test]
    fn who_else_answers_is_named() {
        let judge = |heard: &[Heard], mode| {
            let mut site = settings();
            site.interfaces[0].mode = mode;
            judge(&site, heard, &BTreeMap::new(), &[])
        };
        assert!(judge(&[heard(1, true, "x")], Mode::Reservation).is_empty(), "that is us");
        let found = judge(&[heard(2, true, "pxelinux.0")], Mode::Reservation);
        assert_eq!(codes(&found), ["foreign_boot_file", "duplicate_server"]);
        assert!(found[0].what.contains("10.0.0.2") && found[0].what.contains("pxelinux.0"), "{found:?}");
        assert!(
            judge(&[heard(2, true, "")], Mode::Proxy).is_empty(),
            "a DHCP server beside a proxy is as it should be"
        );
        assert_eq!(codes(&judge(&[heard(2, true, ""), heard(3, true, "")], Mode::Proxy)), ["duplicate_server"]);
        assert_eq!(codes(&judge(&[heard(1, false, ""), heard(1, false, "")], Mode::Proxy)), ["duplicate_server"]);
    }

    #[test]
    fn a_machine_that_never_hears_the_proxy_is_found_and_one_that_does_is_not() {
        let ask = || Step::Discover { client: "PXEClient".into() };
        let offer = || Step::Offer { mode: "proxy".into(), file: "x".into() };
        let mut steps = vec![ask(), offer(), ask(), offer(), ask(), offer()];
        let judged = |steps: &[Step]| judge(&settings(), &[], &BTreeMap::from([(MAC, steps.to_vec())]), &[]);
        assert_eq!(codes(&judged(&steps)), ["no_proxy_reply"]);
        assert!(judged(&steps[..4]).is_empty());
        steps.push(Step::Script { boots: "disk".into(), rule: "x".into() });
        assert!(judged(&steps).is_empty());
        let lost = [ask(), Step::ChoseOther { server: Ipv4Addr::new(10, 0, 0, 9) }];
        assert_eq!(codes(&judged(&lost)), ["foreign_boot_file"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_found_with_its_length() {
        for (argument, moved) in [("x".repeat(3000), false), (format!("NO_PROXY={}", "a,".repeat(1500)), true)] {
            let mut long = machine();
            if let Ok(installer) = &mut long.installer {
                installer.extra_args = vec![argument];
            }
            let (netboot, _seen) = netboot(vec![long], std::path::Path::new("/nonexistent"));
            let told = crate::explain::explain(&netboot, MAC);
            let found = judge(&settings(), &[], &BTreeMap::new(), &[told]);
            assert_eq!(codes(&found), ["command_line_too_long"]);
            assert_eq!(found[0].remedy.starts_with("nothing"), moved, "{found:?}");
        }
    }
}
