//! Request to reply, pure: an address from the machine's Hardware where we are the DHCP server, boot files for who may
//! have them everywhere. Sends and logs nothing. Wire reference §7.1–7.3; departures from smee: a wrong address is
//! refused (NAK), another server's client is left alone, port 4011 is answered.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use spec::Mac;
use spec::dhcp::option::*;
use spec::dhcp::{BOOTREPLY, BOOTREQUEST, MessageType, Packet};

use super::boot;
use super::client::Client;
use crate::rules::{Subject, Verdict};
use crate::stages::Stages;
use crate::{Facts, History, Lease, Loaders, Machine, Mode, Settings};

/// Which of its two ports a message came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// 67, of DHCP servers.
    Server,
    /// 4011, where firmware asks a boot server again that is no DHCP server.
    Boot,
}

/// What decides besides the message. `settings` are those of the interface.
pub(super) struct Context<'a> {
    pub settings: &'a Settings,
    pub mode: Mode,
    pub port: Port,
    pub loaders: &'a dyn Loaders,
    pub stages: &'a Stages,
    pub now: Instant,
    /// Set when the next loader of a list was chosen.
    pub moved_on: Cell<bool>,
}

impl Context<'_> {
    pub(super) fn has_loader(&self, name: &str) -> bool {
        self.loaders.get(name).is_some()
    }

    pub(super) fn choose(&self, mac: Mac, list: &[String]) -> String {
        let patience: Duration = self.settings.patience;
        let (index, moved_on) = self.stages.choose(mac, list.len(), patience, self.now);
        self.moved_on.set(moved_on && list.len() > 1);
        list.get(index).cloned().unwrap_or_default()
    }
}

/// What is to be done about a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub mac: Mac,
    /// Which machine, when known.
    pub machine: Option<String>,
    pub client: Client,
    /// None: silence.
    pub reply: Option<Packet>,
    /// What was asked for and not given.
    pub refused: Option<Refusal>,
}

/// What was asked for, and why it was not given.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Refusal {
    pub asked: &'static str,
    pub why: String,
}

/// The message asks nothing of us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ignored {
    #[error("not a request of a client")]
    NotARequest,
    #[error("not from an Ethernet interface")]
    NotEthernet,
    #[error("a message of type {0:?}")]
    Type(Option<MessageType>),
    #[error("the client chose the server {0}")]
    OtherServer(Ipv4Addr),
    #[error("a proxy has nothing for a client that does not boot")]
    NotBooting,
    #[error("dhcp is off on this interface")]
    Off,
}

/// Decides about one message.
pub(super) fn answer(
    request: &Packet,
    machine: Option<&Machine>,
    history: &History,
    context: &Context<'_>,
) -> Result<Answer, Ignored> {
    let (mac, kind) = ours(request, context)?;
    let client = Client::of(request);
    let name = machine.map(|machine| machine.name.clone());
    let mut answer = Answer { mac, machine: name, client, reply: None, refused: None };
    if context.mode.is_proxy() || context.port == Port::Boot {
        if client == Client::Plain {
            return Err(Ignored::NotBooting);
        }
        match boot_file(request, client, machine, history, context) {
            Ok(file) => answer.reply = Some(proxied(request, kind, client, file, context)),
            Err(refusal) => answer.refused = Some(refusal),
        }
        return Ok(answer);
    }
    let refused = |why: &str| Some(Refusal { asked: "address", why: why.into() });
    let Some(machine) = machine else {
        answer.refused = refused("no Hardware has this MAC address");
        return Ok(answer);
    };
    let Some(lease) = &machine.lease else {
        answer.refused = refused("its Hardware has no address for this interface");
        return Ok(answer);
    };
    if kind == MessageType::Decline {
        answer.refused = refused(&format!("the machine says that {} is in use by another", lease.address));
        return Ok(answer);
    }
    match wanted(request).filter(|wanted| kind == MessageType::Request && *wanted != lease.address) {
        Some(wanted) => {
            let why = format!("it wants {wanted}, its Hardware says {}", lease.address);
            answer.reply = Some(nak(request, &why, context.settings));
            answer.refused = refused(&why);
        }
        None => {
            let mut reply = with_address(request, kind, lease, context.settings);
            if client != Client::Plain {
                match boot_file(request, client, Some(machine), history, context) {
                    Ok(file) => boot::add(&mut reply, request, client, file, context),
                    Err(refusal) => answer.refused = Some(refusal),
                }
            }
            finish(&mut reply, request);
            answer.reply = Some(reply);
        }
    }
    Ok(answer)
}

/// Whose message it is and of what type, if it is one for us.
fn ours(request: &Packet, context: &Context<'_>) -> Result<(Mac, MessageType), Ignored> {
    if context.mode == Mode::Off {
        return Err(Ignored::Off);
    }
    if request.op != BOOTREQUEST {
        return Err(Ignored::NotARequest);
    }
    let mac = request.mac().ok_or(Ignored::NotEthernet)?;
    let server = request.options.address(SERVER_ID);
    let chosen = server == Some(context.settings.address);
    let kind = match (request.message_type(), context.port) {
        (Some(kind @ (MessageType::Discover | MessageType::Request)), _) => kind,
        (Some(kind @ MessageType::Decline), Port::Server) if !context.mode.is_proxy() => kind,
        (Some(kind @ MessageType::Inform), Port::Boot) => kind,
        (other, _) => return Err(Ignored::Type(other)),
    };
    match server {
        // Sent to port 4011 of this machine, it is meant for us whatever it says.
        Some(server) if !chosen && context.port == Port::Server => return Err(Ignored::OtherServer(server)),
        // Of an address that is not ours to give.
        None if kind == MessageType::Request && context.port == Port::Server && context.mode.is_proxy() => {
            return Err(Ignored::NotBooting);
        }
        _ => {}
    }
    Ok((mac, kind))
}

/// Where a reply goes: to the relay, to a client that has its address, else to everyone on the link.
/// On port 4011 it goes back where the message came from.
pub(super) fn destination(request: &Packet, reply: &Packet, port: Port, from: SocketAddrV4) -> SocketAddrV4 {
    if port == Port::Boot {
        from
    } else if !request.giaddr.is_unspecified() {
        SocketAddrV4::new(request.giaddr, 67)
    } else if reply.message_type() != Some(MessageType::Nak) && !request.ciaddr.is_unspecified() {
        SocketAddrV4::new(request.ciaddr, 68)
    } else {
        SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)
    }
}

/// The file of a machine that the rules let boot.
fn boot_file(
    request: &Packet,
    client: Client,
    machine: Option<&Machine>,
    history: &History,
    context: &Context<'_>,
) -> Result<String, Refusal> {
    let refused = |why: &str| Refusal { asked: "boot file", why: why.into() };
    if machine.is_none() && context.mode == Mode::Proxy {
        return Err(refused("no Hardware has this MAC address"));
    }
    let verdict = context.settings.rules.verdict(Subject { machine, history });
    match verdict {
        // Everybody is answered; what an unknown machine boots is decided again at its script.
        Verdict::Refuse(_) if context.mode == Mode::Auto && machine.is_none() => {}
        Verdict::Refuse(why) => return Err(refused(why)),
        // It has no script that could send it back to its disk.
        Verdict::Disk | Verdict::Park if client == Client::Pi => return Err(refused("it boots from its own disk")),
        _ => {}
    }
    boot::file(request, client, machine, context)
}

/// The address that the client asks for or already uses.
fn wanted(request: &Packet) -> Option<Ipv4Addr> {
    let used = Some(request.ciaddr).filter(|address| !address.is_unspecified());
    request.options.address(REQUESTED_ADDRESS).or(used)
}

fn begin(request: &Packet, kind: MessageType, settings: &Settings) -> Packet {
    let mut reply = Packet { op: BOOTREPLY, hops: 0, secs: 0, ..request.clone() };
    (reply.yiaddr, reply.siaddr) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    (reply.sname, reply.file, reply.options) = Default::default();
    reply.options.push(MESSAGE_TYPE, [kind as u8]).push_addresses(SERVER_ID, &[settings.address]);
    reply
}

/// What the client said of itself, and last what the relay added, returned as RFC 6842 and 3046 want it.
fn finish(reply: &mut Packet, request: &Packet) {
    for code in [CLIENT_ID, RELAY_AGENT] {
        if let Some(value) = request.options.get(code) {
            reply.options.push(code, value);
        }
    }
}

/// What to boot and nothing of an address: the PXE specification's answer of a proxy.
fn proxied(request: &Packet, kind: MessageType, client: Client, file: String, context: &Context<'_>) -> Packet {
    let offer = kind == MessageType::Discover && context.port == Port::Server;
    let mut reply = begin(request, if offer { MessageType::Offer } else { MessageType::Ack }, context.settings);
    if offer {
        reply.ciaddr = Ipv4Addr::UNSPECIFIED;
    }
    boot::add(&mut reply, request, client, file, context);
    // Some firmware takes the server's address from here.
    reply.sname = context.settings.address.to_string().into_bytes();
    finish(&mut reply, request);
    reply
}

fn nak(request: &Packet, why: &str, settings: &Settings) -> Packet {
    let mut reply = begin(request, MessageType::Nak, settings);
    reply.ciaddr = Ipv4Addr::UNSPECIFIED;
    reply.options.push(MESSAGE, why);
    finish(&mut reply, request);
    reply
}

fn with_address(request: &Packet, kind: MessageType, lease: &Lease, settings: &Settings) -> Packet {
    let offer = kind == MessageType::Discover;
    let mut reply = begin(request, if offer { MessageType::Offer } else { MessageType::Ack }, settings);
    if offer {
        reply.ciaddr = Ipv4Addr::UNSPECIFIED;
    }
    reply.yiaddr = lease.address;
    let broadcast = Ipv4Addr::from_bits(lease.address.to_bits() | !lease.netmask.to_bits());
    let options = &mut reply.options;
    options.push(LEASE_TIME, lease.seconds.to_be_bytes());
    options.push_addresses(SUBNET_MASK, &[lease.netmask]);
    options.push_addresses(ROUTER, lease.gateway.as_slice());
    options.push_addresses(DNS, &lease.name_servers);
    if let Some(name) = &lease.hostname {
        options.push(HOST_NAME, name);
    }
    options.push_addresses(BROADCAST, &[broadcast]);
    options.push_addresses(NTP, &lease.time_servers);
    reply
}

/// What a message adds to what is known of its sender.
pub(super) fn learn(request: &Packet, interface: &str, history: &mut History) -> Facts {
    let mut facts = Facts::of(request, interface);
    if let (Some(arch), true) = (super::client::architectures(request).first(), facts.arch.is_some()) {
        facts.arch = Some(*arch);
    }
    history.facts.learn(facts.clone());
    facts
}
