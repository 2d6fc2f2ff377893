//! Requests as firmware sends them, and what is answered.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use spec::activity::What;
use spec::dhcp::option::*;
use spec::dhcp::{BOOTREPLY, FLAG_BROADCAST, MessageType, Packet};

use super::*;
use crate::Machine;
use crate::tests::{MAC, Seen, machine, netboot, netboot_with};

pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SCRIPT: &str = "http://10.0.0.1:7080/ipxe/script/52:54:00:00:00:01/auto.ipxe";

const FROM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

fn service(machines: Vec<Machine>) -> (Service, Seen) {
    let (netboot, activity) = netboot(machines, Path::new("/nonexistent"));
    let (interface, port) = ("eth0".into(), Port::Server);
    (Service { netboot, interface, port, recent: Recent::new(), known: Recent::new() }, activity)
}

pub(super) fn plain(kind: MessageType) -> Packet {
    let mut packet = Packet::request(MAC, 0x1234_5678);
    packet.flags = FLAG_BROADCAST;
    packet.options.push(MESSAGE_TYPE, [kind as u8]).push(CLIENT_ID, [1, 0x52, 0x54, 0, 0, 0, 1]);
    packet
}

/// As a PXE ROM writes it: SeaBIOS's with architecture 0, OVMF's with 7.
pub(super) fn rom(kind: MessageType, class: &str, arch: u16) -> Packet {
    let mut packet = plain(kind);
    packet.options.push(VENDOR_CLASS, format!("{class}:Arch:{arch:05}:UNDI:003001"));
    packet.options.push(ARCHITECTURE, arch.to_be_bytes()).push(INTERFACE_ID, [1, 3, 0]).push(MACHINE_ID, [0; 17]);
    packet
}

fn selecting(mut packet: Packet) -> Packet {
    packet.options.push_addresses(REQUESTED_ADDRESS, &[ADDRESS]).push_addresses(SERVER_ID, &[SERVER]);
    packet
}

fn ask(service: &mut Service, request: &Packet) -> Option<(Packet, String)> {
    let (bytes, to) = service.handle(&request.encode(), FROM, Instant::now())?;
    Some((Packet::decode(&bytes).unwrap(), to.to_string()))
}

/// The same from a client that has an address and asks from port 4011.
pub(super) fn ask_at(service: &mut Service, request: &Packet) -> Option<(Packet, String)> {
    let (bytes, to) = service.handle(&request.encode(), "10.0.0.77:4011".parse().unwrap(), Instant::now())?;
    Some((Packet::decode(&bytes).unwrap(), to.to_string()))
}

fn file_of(request: &Packet) -> (String, Packet) {
    let (reply, _) = ask(&mut service(vec![machine()]).0, request).unwrap();
    (String::from_utf8(reply.file.clone()).unwrap(), reply)
}

#[test]
fn a_plain_client_gets_its_reservation_and_no_boot_data() {
    let (mut service, mut activity) = service(vec![machine()]);
    let (offer, to) = ask(&mut service, &plain(MessageType::Discover)).unwrap();
    assert_eq!((offer.op, offer.xid, offer.flags, to.as_str()), (BOOTREPLY, 0x1234_5678, 0x8000, "255.255.255.255:68"));
    assert_eq!((offer.message_type(), offer.yiaddr, offer.mac()), (Some(MessageType::Offer), ADDRESS, Some(MAC)));
    assert!(activity.try_recv().is_err(), "an offer is not yet an address");

    let (ack, _) = ask(&mut service, &selecting(plain(MessageType::Request))).unwrap();
    let options = &ack.options;
    assert_eq!((ack.message_type(), ack.yiaddr), (Some(MessageType::Ack), ADDRESS));
    assert_eq!((options.address(SERVER_ID), options.number(LEASE_TIME)), (Some(SERVER), Some(3600)));
    assert_eq!(options.address(SUBNET_MASK), Some(Ipv4Addr::new(255, 255, 255, 0)));
    assert_eq!(options.address(BROADCAST), Some(Ipv4Addr::new(10, 0, 0, 255)));
    assert_eq!(options.addresses(ROUTER), [SERVER]);
    assert_eq!(options.addresses(DNS), [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)]);
    assert_eq!(options.addresses(NTP), [Ipv4Addr::new(10, 0, 0, 4)]);
    assert_eq!(options.text(HOST_NAME).as_deref(), Some("machine-1"));
    assert_eq!(options.get(CLIENT_ID).unwrap(), [1, 0x52, 0x54, 0, 0, 0, 1]);
    assert!(ack.file.is_empty() && ack.siaddr.is_unspecified());
    assert!(!options.has(VENDOR) && !options.has(VENDOR_CLASS));

    let told = activity.try_recv().unwrap();
    assert_eq!((told.mac, told.machine.as_deref()), (Some(MAC), Some("default/machine-1")));
    assert_eq!(told.what, What::Dhcp { address: ADDRESS, client: String::new() });
}

#[test]
fn firmware_gets_the_loader_that_it_can_run() {
    for (arch, loader) in [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi"), (11, "ipxe-arm64.efi")] {
        let (file, reply) = file_of(&rom(MessageType::Discover, "PXEClient", arch));
        assert_eq!((file.as_str(), reply.siaddr), (loader, SERVER), "{arch}");
        assert_eq!(reply.options.vendor(6).unwrap(), [8]);
        assert_eq!(reply.options.text(VENDOR_CLASS).as_deref(), Some("PXEClient"));
        assert_eq!(reply.options.get(MACHINE_ID).unwrap(), [0; 17]);
        assert!(!reply.options.has(BOOT_FILE) && !reply.options.has(TFTP_SERVER));
    }
}

#[test]
fn a_client_that_asks_for_options_66_and_67_gets_them() {
    let mut request = rom(MessageType::Discover, "PXEClient", 7);
    request.options.push(PARAMETERS, [1, 3, 66, 67]);
    let (file, reply) = file_of(&request);
    assert_eq!(reply.options.text(TFTP_SERVER).as_deref(), Some("10.0.0.1"));
    assert_eq!(reply.options.text(BOOT_FILE), Some(file));
}

#[test]
fn http_boot_gets_a_url_and_its_class_back() {
    let (file, reply) = file_of(&rom(MessageType::Request, "HTTPClient", 16));
    assert_eq!(file, "http://10.0.0.1:7080/ipxe/binary/52:54:00:00:00:01/snponly.efi");
    assert_eq!(reply.options.text(VENDOR_CLASS).as_deref(), Some("HTTPClient"));
    assert!(!reply.options.has(VENDOR));
}

#[test]
fn ipxe_gets_its_script_however_it_says_its_name() {
    for class in [&b"iPXE"[..], b"\x04iPXE", b"Tinkerbell"] {
        for arch in [0, 7, 6] {
            let mut request = rom(MessageType::Request, "PXEClient", arch);
            request.options.push(USER_CLASS, class);
            assert_eq!(file_of(&request).0, SCRIPT);
        }
    }
}

#[test]
fn who_gets_no_boot_file_still_gets_an_address_and_the_reason_is_told() {
    let forbidden = Machine { allow_pxe: false, ..machine() };
    for (machine, arch, reason) in [(forbidden, 0, "allowPXE"), (machine(), 10, "[10]")] {
        let (mut service, mut activity) = service(vec![machine]);
        let (reply, _) = ask(&mut service, &rom(MessageType::Discover, "PXEClient", arch)).unwrap();
        assert_eq!((reply.yiaddr, reply.siaddr), (ADDRESS, Ipv4Addr::UNSPECIFIED));
        assert!(reply.file.is_empty() && !reply.options.has(VENDOR));
        match activity.try_recv().unwrap().what {
            What::Refused { asked, why } => assert!(asked == "boot file" && why.contains(reason), "{asked}: {why}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn strangers_meet_silence_and_are_named_once_a_minute() {
    let (mut service, mut activity) = service(vec![]);
    let (request, start) = (rom(MessageType::Discover, "PXEClient", 0).encode(), Instant::now());
    for seconds in [0, 4, 59, 60, 61] {
        assert!(service.handle(&request, FROM, start + Duration::from_secs(seconds)).is_none());
    }
    let told: Vec<_> = std::iter::from_fn(|| activity.try_recv().ok()).collect();
    assert_eq!(told.iter().map(|each| each.mac).collect::<Vec<_>>(), [Some(MAC), Some(MAC)]);
    let what = What::Refused { asked: "address".into(), why: "no Hardware has this MAC address".into() };
    assert_eq!(told[0].what, what);
}

#[test]
fn a_wrong_address_is_refused_aloud() {
    let (mut service, mut activity) = service(vec![machine()]);
    let mut request = plain(MessageType::Request);
    request.options.push_addresses(REQUESTED_ADDRESS, &[Ipv4Addr::new(10, 0, 0, 77)]);
    let (reply, to) = ask(&mut service, &request).unwrap();
    assert_eq!((reply.message_type(), reply.yiaddr), (Some(MessageType::Nak), Ipv4Addr::UNSPECIFIED));
    assert_eq!(to, "255.255.255.255:68");
    assert!(reply.options.text(MESSAGE).unwrap().contains("10.0.0.77"));
    assert!(matches!(activity.try_recv().unwrap().what, What::Refused { .. }));
}

#[test]
fn replies_go_where_the_client_can_hear_them() {
    let (mut service, _activity) = service(vec![machine()]);
    let mut renewing = plain(MessageType::Request);
    renewing.ciaddr = ADDRESS;
    let (reply, to) = ask(&mut service, &renewing).unwrap();
    assert_eq!((reply.message_type(), reply.ciaddr, to.as_str()), (Some(MessageType::Ack), ADDRESS, "10.0.0.5:68"));

    let mut relayed = plain(MessageType::Discover);
    relayed.giaddr = Ipv4Addr::new(10, 1, 0, 1);
    relayed.options.push(RELAY_AGENT, [1, 2, 3, 4]);
    let (reply, to) = ask(&mut service, &relayed).unwrap();
    assert_eq!((reply.giaddr, to.as_str()), (relayed.giaddr, "10.1.0.1:67"));
    assert_eq!(reply.options.iter().last().unwrap(), (RELAY_AGENT, &[1, 2, 3, 4][..]));
}

#[test]
fn what_asks_nothing_of_us_is_left_alone() {
    let (mut service, mut activity) = service(vec![machine()]);
    let mut elsewhere = plain(MessageType::Request);
    elsewhere.options.push_addresses(SERVER_ID, &[Ipv4Addr::new(10, 0, 0, 250)]);
    let mut reply = plain(MessageType::Discover);
    reply.op = BOOTREPLY;
    let mut infiniband = plain(MessageType::Discover);
    (infiniband.htype, infiniband.hlen) = (32, 0);
    for request in [elsewhere, reply, infiniband, plain(MessageType::Release), plain(MessageType::Inform)] {
        assert!(ask(&mut service, &request).is_none(), "{request:?}");
    }
    assert!(service.handle(b"garbage", FROM, Instant::now()).is_none());
    assert!(activity.try_recv().is_err());
}

#[test]
fn a_machine_that_finds_its_address_in_use_is_heard() {
    let (mut service, mut activity) = service(vec![machine()]);
    assert!(ask(&mut service, &selecting(plain(MessageType::Decline))).is_none());
    match activity.try_recv().unwrap().what {
        What::Refused { why, .. } => assert!(why.contains("10.0.0.5"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_socket_hears_only_its_interface_and_the_service_ends_when_told() {
    let socket = bind_at("lo", 0).unwrap();
    let error = bind_at("no-such-interface", 0).unwrap_err();
    assert!(error.to_string().contains("no-such-interface"), "{error}");
    let to = (Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port());
    let (netboot, mut activity) =
        netboot_with(vec![], Path::new("/nonexistent"), |site| site.interfaces[0].name = "lo".into());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service =
        tokio::spawn(serve(socket, ("lo".into(), Port::Server), netboot, async { stopped.await.unwrap_or(()) }));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(b"garbage", to).await.unwrap();
    client.send_to(&plain(MessageType::Discover).encode(), to).await.unwrap();
    assert!(matches!(activity.recv().await.unwrap().what, What::Refused { .. }));
    drop(stop);
    service.await.unwrap();
}

proptest! {
    #[test]
    fn random_options_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 1_u8..9) {
        let mut request = plain(MessageType::Discover).encode();
        request.truncate(240);
        request.extend([53, 1, kind]);
        request.extend(bytes);
        if let Some((reply, _)) = service(vec![machine()]).0.handle(&request, FROM, Instant::now()) {
            prop_assert!(Packet::decode(&reply).unwrap().options.truncated().is_none());
        }
    }
}

/// The codec beside another's, on what both can read.
#[test]
fn dhcproto_writes_what_we_read() {
    use dhcproto::v4::{Architecture, DhcpOption, Message, MessageType as Kind};
    use dhcproto::{Encodable, Encoder};
    let mut message = Message::default();
    message.set_xid(7).set_chaddr(&MAC.octets()).set_giaddr([10, 1, 0, 1]);
    message.opts_mut().insert(DhcpOption::MessageType(Kind::Discover));
    message.opts_mut().insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007".to_vec()));
    message.opts_mut().insert(DhcpOption::ClientSystemArchitecture(Architecture::X86_64));
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    let read = Packet::decode(&bytes).unwrap();
    assert_eq!((read.xid, read.mac(), read.giaddr.octets()), (7, Some(MAC), [10, 1, 0, 1]));
    assert_eq!(read.message_type(), Some(MessageType::Discover));
    assert_eq!(read.options.text(VENDOR_CLASS).as_deref(), Some("PXEClient:Arch:00007"));
    assert_eq!(read.options.architectures().len(), 1);
}

#[test]
fn a_hundred_thousand_strangers_cost_no_memory_and_no_known_machine_its_answer() {
    let (mut service, mut activity) = service(vec![machine()]);
    let mut stranger = rom(MessageType::Discover, "PXEClient", 7);
    let known = rom(MessageType::Discover, "PXEClient", 7).encode();
    let now = Instant::now();
    for i in 0..100_000_u32 {
        stranger.chaddr[..6].copy_from_slice(&[&[2, 0], &i.to_be_bytes()[..]].concat());
        assert!(service.handle(&stranger.encode(), FROM, now).is_none());
        if i % 10_000 == 0 {
            let (reply, _) = service.handle(&known, FROM, now).unwrap();
            assert_eq!(Packet::decode(&reply).unwrap().yiaddr, ADDRESS, "after {i} strangers");
        }
    }
    assert!(service.recent.len() <= 1024 && service.known.len() <= 1024);
    assert!(activity.all().len() <= 100, "the channel is bounded");
    assert!(service.netboot.sink.dropped() > 0);
}

#[test]
fn the_next_loader_is_offered_after_silence() {
    let (mut service, _activity) = service(vec![machine()]);
    let (request, start) = (rom(MessageType::Discover, "PXEClient", 7).encode(), Instant::now());
    let mut ask = |minutes: u64| {
        let (reply, _) = service.handle(&request, FROM, start + Duration::from_secs(minutes * 60)).unwrap();
        String::from_utf8(Packet::decode(&reply).unwrap().file).unwrap()
    };
    assert_eq!([ask(0), ask(1), ask(4)], ["snponly.efi", "snponly.efi", "ipxe.efi"]);
}

#[test]
fn what_a_machine_says_of_itself_is_told_once_with_its_steps() {
    let (mut service, mut activity) = service(vec![machine()]);
    let request = rom(MessageType::Discover, "PXEClient", 7);
    for _ in 0..3 {
        ask(&mut service, &request).unwrap();
    }
    let told = activity.all();
    let facts = told.iter().filter(|s| matches!(s, crate::Sighting::Facts(_, facts) if facts.arch == Some(7))).count();
    let steps = told.iter().filter(|s| matches!(s, crate::Sighting::Step { .. })).count();
    assert_eq!((facts, steps), (1, 2), "{told:?}");
    let mut elsewhere = rom(MessageType::Request, "PXEClient", 7);
    elsewhere.options.push_addresses(SERVER_ID, &[Ipv4Addr::new(10, 0, 0, 250)]);
    assert!(ask(&mut service, &elsewhere).is_none());
    let chose = |s: &crate::Sighting| matches!(s, crate::Sighting::Step { step: Step::ChoseOther { .. }, .. });
    assert!(activity.all().iter().any(chose));
}
