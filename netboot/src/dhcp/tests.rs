//! Requests as firmware sends them, and what is answered.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use spec::activity::{Activity, What};
use spec::dhcp::option::*;
use spec::dhcp::{BOOTREPLY, FLAG_BROADCAST, MessageType, Packet};
use tokio::sync::mpsc;

use super::*;
use crate::Machine;
use crate::tests::{MAC, machine, netboot};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SCRIPT: &str = "http://10.0.0.1:7080/ipxe/script/52:54:00:00:00:01/auto.ipxe";

fn service(machines: Vec<Machine>) -> (Service, mpsc::Receiver<Activity>) {
    let (netboot, activity) = netboot(machines, Path::new("/nonexistent"));
    (Service { netboot, recent: Recent::new() }, activity)
}

fn plain(kind: MessageType) -> Packet {
    let mut packet = Packet::request(MAC, 0x1234_5678);
    packet.flags = FLAG_BROADCAST;
    packet.options.push(MESSAGE_TYPE, [kind as u8]).push(CLIENT_ID, [1, 0x52, 0x54, 0, 0, 0, 1]);
    packet
}

/// As a PXE ROM writes it: SeaBIOS's with architecture 0, OVMF's with 7.
fn rom(kind: MessageType, class: &str, arch: u16) -> Packet {
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
    let (bytes, to) = service.handle(&request.encode(), Instant::now())?;
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
    for (machine, arch, reason) in [(forbidden, 0, "allowPXE"), (machine(), 6, "[6]")] {
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
        assert!(service.handle(&request, start + Duration::from_secs(seconds)).is_none());
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
    assert!(service.handle(b"garbage", Instant::now()).is_none());
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
    let socket = socket::bind_port("lo", 0).unwrap();
    let error = socket::bind_port("no-such-interface", 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(19), "ENODEV: {error}");
    let to = (Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port());
    let (netboot, mut activity) = netboot(vec![], Path::new("/nonexistent"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = tokio::spawn(serve(socket, netboot, async { stopped.await.unwrap_or(()) }));
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
        if let Some((reply, _)) = service(vec![machine()]).0.handle(&request, Instant::now()) {
            prop_assert!(Packet::decode(&reply).unwrap().options.truncated().is_none());
        }
    }
}
