//! The client's few questions as packets, and packets as the few answers that matter. An answer lacking what a lease
//! needs is refused with its sender's address; what it lacks is never made up.

use std::net::Ipv4Addr;

use spec::Mac;
use spec::dhcp::option::{
    CLIENT_ID, DNS, HOST_NAME, LEASE_TIME, MAX_SIZE, MESSAGE, PARAMETERS, REQUESTED_ADDRESS, ROUTER, SERVER_ID,
    SUBNET_MASK,
};
use spec::dhcp::{BOOTREPLY, FLAG_BROADCAST, MessageType, Packet};

/// RFC 2132 §3.17.
const DOMAIN: u8 = 15;
/// RFC 2132 §5.1.
const MTU: u8 = 26;
/// RFC 2132 §9.11, T1.
const RENEWAL: u8 = 58;
/// RFC 2132 §9.12, T2.
const REBINDING: u8 = 59;
const MESSAGE_TYPE: u8 = spec::dhcp::option::MESSAGE_TYPE;
const WANTED: [u8; 10] = [SUBNET_MASK, ROUTER, DNS, HOST_NAME, DOMAIN, MTU, LEASE_TIME, SERVER_ID, RENEWAL, REBINDING];
/// What we take: an Ethernet frame's worth.
const LARGEST: u16 = 1472;
/// Servers in the field send 0 when nobody configured a time; asking again at once would flood them.
const SHORTEST_LEASE: u32 = 30;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    kind: MessageType,
    xid: u32,
    secs: u16,
    /// The address that is used already.
    own: Option<Ipv4Addr>,
    /// The address and the server of the offer that is taken.
    offer: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Where it is sent to.
    pub to: Ipv4Addr,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Of the question.
    pub xid: u32,
    /// What it says.
    pub kind: Kind,
}

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A server would give this.
    Offer(Granted),
    /// A server gives this.
    Ack(Granted),
    /// A server refuses.
    Nak {
        /// Which.
        server: Option<Ipv4Addr>,
        /// In its words.
        why: Option<String>,
    },
}

/// What a server gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// Our address.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
    /// The first router.
    pub gateway: Option<Ipv4Addr>,
    /// In order of preference.
    pub dns: Vec<Ipv4Addr>,
    /// Searched for short names.
    pub domain: Option<String>,
    /// Our name.
    pub hostname: Option<String>,
    /// Of the network.
    pub mtu: Option<u16>,
    /// Who gives it.
    pub server: Ipv4Addr,
    /// As the server said it; [`u32::MAX`] is for ever.
    pub seconds: u32,
    /// T1 and T2 as the server said them.
    pub hints: (Option<u32>, Option<u32>),
}

/// Seconds from the request on.
pub struct Terms {
    /// Until its server is asked for more (T1).
    pub renew: u32,
    /// Until any server is asked (T2).
    pub rebind: u32,
    /// Until the end.
    pub lease: u32,
}

/// A reply to us that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer of the dhcp server {server} cannot be used: {what}")]
pub struct Unusable {
    server: Ipv4Addr,
    what: &'static str,
}

impl Granted {
    /// The times, with what the server left open or got out of order filled in from RFC 2131 §4.4.5. None: for ever.
    pub fn terms(&self) -> Option<Terms> {
        if self.seconds == u32::MAX {
            return None;
        }
        let lease = self.seconds.max(SHORTEST_LEASE);
        let terms = match self.hints {
            (Some(renew), Some(rebind)) if 0 < renew && renew < rebind && rebind < lease => (renew, rebind),
            _ => (lease / 2, lease - lease / 8),
        };
        Some(Terms { renew: terms.0, rebind: terms.1, lease })
    }
}

impl Ask {
    /// Who is there?
    pub fn discover(xid: u32, secs: u16) -> Self {
        Self { kind: MessageType::Discover, xid, secs, own: None, offer: None, to: Ipv4Addr::BROADCAST }
    }

    /// May I have what you offered?
    pub fn request(xid: u32, secs: u16, address: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self { kind: MessageType::Request, offer: Some((address, server)), ..Self::discover(xid, secs) }
    }

    /// May I keep it?
    pub fn prolong(xid: u32, secs: u16, own: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self { kind: MessageType::Request, own: Some(own), to, ..Self::discover(xid, secs) }
    }

    /// The bytes to send. Reservations go by MAC, so the identifier is the one made of it (RFC 2132 §9.14).
    pub fn encode(&self, mac: Mac) -> Vec<u8> {
        let mut packet = Packet::request(mac, self.xid);
        packet.secs = self.secs;
        match self.own {
            Some(own) => packet.ciaddr = own,
            None => packet.flags = FLAG_BROADCAST,
        }
        let options = &mut packet.options;
        options.push(MESSAGE_TYPE, [self.kind as u8]);
        options.push(CLIENT_ID, [&[1][..], &mac.octets()].concat());
        if let Some((address, server)) = self.offer {
            options.push_addresses(REQUESTED_ADDRESS, &[address]).push_addresses(SERVER_ID, &[server]);
        }
        options.push(MAX_SIZE, LARGEST.to_be_bytes()).push(PARAMETERS, WANTED);
        packet.encode()
    }
}

/// Reads what came to the client's port. None: not DHCP, not for us, or nothing that a client listens to.
pub fn read(bytes: &[u8], mac: Mac) -> Result<Option<Reply>, Unusable> {
    let Ok(packet) = Packet::decode(bytes) else { return Ok(None) };
    if packet.op != BOOTREPLY || packet.mac() != Some(mac) {
        return Ok(None);
    }
    let kind = match packet.message_type() {
        Some(MessageType::Offer) => Kind::Offer(granted(&packet)?),
        Some(MessageType::Ack) => Kind::Ack(granted(&packet)?),
        Some(MessageType::Nak) => {
            Kind::Nak { server: packet.options.address(SERVER_ID), why: packet.options.text(MESSAGE) }
        }
        _ => return Ok(None),
    };
    Ok(Some(Reply { xid: packet.xid, kind }))
}

fn granted(packet: &Packet) -> Result<Granted, Unusable> {
    let options = &packet.options;
    let server = options.address(SERVER_ID);
    let lacking = |what| Unusable { server: server.unwrap_or(packet.siaddr), what };
    let address = packet.yiaddr;
    let odd = address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_broadcast();
    if odd || address.is_link_local() {
        return Err(lacking("its address is none that a machine can use"));
    }
    let mask = options.address(SUBNET_MASK).ok_or_else(|| lacking("it has no subnet mask (option 1)"))?.to_bits();
    if mask.leading_ones() + mask.trailing_zeros() != 32 || mask == 0 {
        return Err(lacking("its subnet mask has gaps"));
    }
    Ok(Granted {
        address,
        prefix: mask.leading_ones() as u8,
        gateway: options.addresses(ROUTER).into_iter().find(|gateway| !gateway.is_unspecified()),
        dns: options.addresses(DNS),
        domain: options.text(DOMAIN).filter(|name| is_name(name)),
        hostname: options.text(HOST_NAME).filter(|name| is_name(name)),
        mtu: options.get(MTU).and_then(|value| value.try_into().ok()).map(u16::from_be_bytes),
        server: server.ok_or_else(|| lacking("it does not say who its server is (option 54)"))?,
        seconds: options.number(LEASE_TIME).ok_or_else(|| lacking("it has no lease time (option 51)"))?,
        hints: (options.number(RENEWAL), options.number(REBINDING)),
    })
}

/// Names go into files and to the kernel: letters, digits, and what RFC 1123 allows between them.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0, 7]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn ack() -> Packet {
        let mut packet = Packet::request(MAC, 9);
        packet.op = BOOTREPLY;
        packet.yiaddr = Ipv4Addr::new(10, 0, 0, 7);
        packet.options.push(MESSAGE_TYPE, [5]).push_addresses(SERVER_ID, &[SERVER]);
        packet
    }

    fn complete() -> Packet {
        let mut packet = ack();
        packet.options.push(SUBNET_MASK, [255, 255, 255, 0]).push(LEASE_TIME, 600u32.to_be_bytes());
        packet
    }

    #[test]
    fn an_answer_is_read_with_all_it_gives() {
        let mut packet = complete();
        packet.options.push_addresses(ROUTER, &[SERVER]).push_addresses(DNS, &[SERVER, Ipv4Addr::new(9, 9, 9, 9)]);
        packet.options.push(HOST_NAME, "node-7").push(DOMAIN, "rack.example").push(MTU, 1400u16.to_be_bytes());
        let reply = read(&packet.encode(), MAC).unwrap().unwrap();
        let Kind::Ack(granted) = reply.kind else { panic!("{reply:?}") };
        assert_eq!((reply.xid, granted.prefix, granted.gateway, granted.mtu), (9, 24, Some(SERVER), Some(1400)));
        assert_eq!((granted.dns.len(), granted.hostname.as_deref()), (2, Some("node-7")));
        assert_eq!(granted.domain.as_deref(), Some("rack.example"));
    }

    #[test]
    fn an_answer_to_another_machine_is_none() {
        assert_eq!(read(&complete().encode(), Mac::new([2, 0, 0, 0, 0, 8])), Ok(None));
        let request = Packet { op: spec::dhcp::BOOTREQUEST, ..complete() };
        assert_eq!(read(&request.encode(), MAC), Ok(None));
        assert_eq!(read(b"noise", MAC), Ok(None));
    }

    #[test]
    fn what_a_lease_needs_is_never_made_up() {
        let told = |packet: &Packet| read(&packet.encode(), MAC).unwrap_err().to_string();
        let prefix = "the answer of the dhcp server 10.0.0.1 cannot be used: ";
        assert_eq!(told(&ack()), format!("{prefix}it has no subnet mask (option 1)"));
        let mut packet = ack();
        packet.options.push(SUBNET_MASK, [255, 0, 255, 0]);
        assert_eq!(told(&packet), format!("{prefix}its subnet mask has gaps"));
        let mut packet = ack();
        packet.options.push(SUBNET_MASK, [255, 255, 0, 0]);
        assert_eq!(told(&packet), format!("{prefix}it has no lease time (option 51)"));
        let packet = Packet { yiaddr: Ipv4Addr::new(169, 254, 1, 1), ..complete() };
        assert_eq!(told(&packet), format!("{prefix}its address is none that a machine can use"));
    }

    #[test]
    fn names_that_would_add_lines_to_files_are_left_out() {
        let mut packet = complete();
        packet.options.push(DOMAIN, "a\nnameserver 6.6.6.6").push(HOST_NAME, "a b");
        let Some(Reply { kind: Kind::Ack(granted), .. }) = read(&packet.encode(), MAC).unwrap() else { panic!() };
        assert_eq!((granted.domain, granted.hostname), (None, None));
    }

    #[test]
    fn times_out_of_order_are_replaced_and_no_lease_is_too_short_to_live_with() {
        let times = |seconds, hints| {
            let Some(Reply { kind: Kind::Ack(granted), .. }) = read(&complete().encode(), MAC).unwrap() else {
                panic!()
            };
            Granted { seconds, hints, ..granted }.terms().map(|terms| (terms.renew, terms.rebind, terms.lease))
        };
        assert_eq!(times(800, (None, None)), Some((400, 700, 800)));
        assert_eq!(times(800, (Some(5), Some(10))), Some((5, 10, 800)));
        assert_eq!(times(800, (Some(700), Some(600))), Some((400, 700, 800)));
        assert_eq!(times(0, (None, None)), Some((15, 27, 30)));
        assert_eq!(times(u32::MAX, (None, None)), None);
    }

    #[test]
    fn questions_have_what_the_rfc_asks_for() {
        let sent = |ask: Ask| Packet::decode(&ask.encode(MAC)).unwrap();
        let discover = sent(Ask::discover(5, 3));
        assert_eq!((discover.xid, discover.secs, discover.flags), (5, 3, FLAG_BROADCAST));
        assert_eq!(discover.message_type(), Some(MessageType::Discover));
        let request = sent(Ask::request(5, 3, Ipv4Addr::new(10, 0, 0, 7), SERVER));
        assert_eq!(request.options.address(REQUESTED_ADDRESS), Some(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(request.options.address(SERVER_ID), Some(SERVER));
        let renew = sent(Ask::prolong(5, 0, Ipv4Addr::new(10, 0, 0, 7), SERVER));
        assert_eq!((renew.ciaddr, renew.flags), (Ipv4Addr::new(10, 0, 0, 7), 0));
        assert!(!renew.options.has(REQUESTED_ADDRESS) && !renew.options.has(SERVER_ID));
    }

    proptest! {
        #[test]
        fn no_bytes_after_the_header_panic_and_what_is_read_can_be_used(
            kind in 0..9u8, yiaddr: [u8; 4], options in proptest::collection::vec(any::<u8>(), 0..200), whole: bool,
        ) {
            let mut packet = if whole { complete() } else { Packet { options: Default::default(), ..ack() } };
            packet.yiaddr = yiaddr.into();
            packet.options.push(MESSAGE_TYPE, [kind]);
            let mut bytes = packet.encode();
            bytes.truncate(bytes.iter().rposition(|byte| *byte == 255).unwrap());
            bytes.extend(options);
            if let Ok(Some(Reply { kind: Kind::Ack(granted) | Kind::Offer(granted), .. })) = read(&bytes, MAC) {
                prop_assert!((1..=32).contains(&granted.prefix) && !granted.address.is_unspecified());
                if let Some(terms) = granted.terms() {
                    prop_assert!(terms.renew < terms.rebind && terms.rebind < terms.lease);
                }
            }
        }
    }
}
