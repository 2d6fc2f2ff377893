//! Request to reply, pure: reservations only, boot files for machines that may have them. Sends and logs nothing.
//! Wire reference §7.1–7.3; departures from smee: a wrong address is refused (NAK), another server's client is left alone.

use std::net::{Ipv4Addr, SocketAddrV4};

use spec::Mac;
use spec::dhcp::option::*;
use spec::dhcp::{BOOTREPLY, BOOTREQUEST, MessageType, Packet};

use super::client::{self, Client};
use crate::{Lease, Machine, Settings};

/// The header's `file` has 128 bytes, one of them its end.
const FILE_MAX: usize = 127;
/// Boot the file that is named, do not look for boot servers: sub-option 6, bit 3, and the end.
const PXE_DISCOVERY: [u8; 4] = [6, 1, 8, END];

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
}

/// Decides about one message.
pub(super) fn answer(
    request: &Packet,
    find: impl FnOnce(Mac) -> Option<Machine>,
    settings: &Settings,
) -> Result<Answer, Ignored> {
    if request.op != BOOTREQUEST {
        return Err(Ignored::NotARequest);
    }
    let mac = request.mac().ok_or(Ignored::NotEthernet)?;
    let kind = match request.message_type() {
        Some(kind @ (MessageType::Discover | MessageType::Request | MessageType::Decline)) => kind,
        other => return Err(Ignored::Type(other)),
    };
    match request.options.address(SERVER_ID) {
        Some(server) if server != settings.address => return Err(Ignored::OtherServer(server)),
        _ => {}
    }
    let machine = find(mac);
    let client = Client::of(&request.options);
    let name = machine.as_ref().map(|machine| machine.name.clone());
    let mut answer = Answer { mac, machine: name, client, reply: None, refused: None };
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
            answer.reply = Some(nak(request, &why, settings));
            answer.refused = refused(&why);
        }
        None => {
            let mut reply = with_address(request, kind, lease, settings);
            answer.refused = add_boot_file(&mut reply, request, &machine, settings).err();
            finish(&mut reply, request);
            answer.reply = Some(reply);
        }
    }
    Ok(answer)
}

/// Where a reply goes: to the relay, to a client that has its address, else to everyone on the link.
pub(super) fn destination(request: &Packet, reply: &Packet) -> SocketAddrV4 {
    if !request.giaddr.is_unspecified() {
        SocketAddrV4::new(request.giaddr, 67)
    } else if reply.message_type() != Some(MessageType::Nak) && !request.ciaddr.is_unspecified() {
        SocketAddrV4::new(request.ciaddr, 68)
    } else {
        SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)
    }
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

/// Says where to boot from, or why not. The address stands either way.
fn add_boot_file(reply: &mut Packet, request: &Packet, machine: &Machine, settings: &Settings) -> Result<(), Refusal> {
    let refused = |why: String| Refusal { asked: "boot file", why };
    let client = Client::of(&request.options);
    if client == Client::Plain {
        return Ok(());
    }
    if !machine.allow_pxe {
        return Err(refused("its Hardware does not allow it (netboot.allowPXE)".into()));
    }
    let loader = || {
        let numbers = request.options.architectures();
        let why = || refused(format!("there is no loader for a firmware of architecture {numbers:?} (option 93)"));
        client::loader(&request.options).ok_or_else(why)
    };
    let file = match client {
        Client::Ipxe => settings.script_url(machine.mac),
        Client::Http => settings.loader_url(machine.mac, loader()?),
        Client::Rom | Client::Plain => loader()?.to_owned(),
    };
    let asks = request.options.get(PARAMETERS).unwrap_or_default();
    if client == Client::Http {
        reply.options.push(VENDOR_CLASS, "HTTPClient");
    } else {
        // With both, iPXE takes the offer at once; without, it waits 3 seconds for offers of other boot servers.
        reply.options.push(VENDOR_CLASS, "PXEClient").push(VENDOR, PXE_DISCOVERY);
    }
    if let Some(id) = request.options.get(MACHINE_ID) {
        reply.options.push(MACHINE_ID, id);
    }
    if asks.contains(&TFTP_SERVER) {
        reply.options.push(TFTP_SERVER, settings.address.to_string());
    }
    if asks.contains(&BOOT_FILE) || file.len() > FILE_MAX {
        reply.options.push(BOOT_FILE, &file);
    }
    if file.len() <= FILE_MAX {
        reply.file = file.into_bytes();
    }
    reply.siaddr = settings.address;
    Ok(())
}
