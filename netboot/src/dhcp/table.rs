//! Kinds of clients × {reservation, proxy on 67, proxy on 4011, relay}. A row is `captured` from the lab's firmware
//! (netboot/packets, written by hack/capture-dhcp) or `synthetic`, with its source.

use spec::dhcp::option::*;

use super::tests::{ADDRESS, SERVER, ask_at, plain, rom};
use super::*;
use crate::tests::{MAC, machine, netboot_with};

const PI: Mac = Mac::new([0xdc, 0xa6, 0x32, 0, 0, 1]);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SCRIPT: &str = "script";
const HTTP: &str = "http:";

/// Where a row comes from.
enum Source {
    Captured(&'static str),
    Synthetic(&'static str, fn() -> Packet),
}

/// A kind of client: what it is sent to, with `http:` before a URL's file. None: no boot file.
struct Row(&'static str, Source, Option<&'static str>);

use Source::{Captured, Synthetic};

fn rows() -> Vec<Row> {
    vec![
        Row("iPXE ROM of QEMU under SeaBIOS", Captured("seabios-ipxe"), Some(SCRIPT)),
        Row("OVMF PXE x64", Captured("ovmf-pxe"), Some("snponly.efi")),
        Row("OVMF HTTP boot x64", Captured("ovmf-http"), Some("http:snponly.efi")),
        Row("arm64 UEFI PXE", Captured("arm64-pxe"), Some("ipxe-arm64.efi")),
        Row("ipxe.efi of Debian", Captured("ipxe-efi"), Some(SCRIPT)),
        Row("GRUB's net_dhcp", Captured("grub"), None),
        Row(
            "BIOS PXE of a network card",
            Synthetic("PXE 2.1 §2.2.3, RFC 4578", || rom(MessageType::Discover, "PXEClient", 0)),
            Some("undionly.kpxe"),
        ),
        Row(
            "UEFI that says IA32 and is x64",
            Synthetic("RFC 4578 errata 4625", || rom(MessageType::Discover, "PXEClient", 6)),
            Some("snponly.efi"),
        ),
        Row(
            "UEFI EBC number 9",
            Synthetic("RFC 4578", || rom(MessageType::Discover, "PXEClient", 9)),
            Some("snponly.efi"),
        ),
        Row("iDRAC and iLO HTTP boot", Synthetic("UEFI 2.10 §24.7.3, arch 16", || http(16)), Some("http:snponly.efi")),
        Row(
            "HTTP boot that says x86",
            Synthetic("IANA processor architectures, 15", || http(15)),
            Some("http:snponly.efi"),
        ),
        Row("arm64 HTTP boot", Synthetic("IANA processor architectures, 19", || http(19)), Some("http:ipxe-arm64.efi")),
        Row("iPXE of Tinkerbell", Synthetic("wire reference §7.4", || classed(b"Tinkerbell")), Some(SCRIPT)),
        Row("iPXE by the list of RFC 3004", Synthetic("RFC 3004 §4", || classed(b"\x04iPXE")), Some(SCRIPT)),
        Row(
            "U-Boot arm64",
            Synthetic("U-Boot CONFIG_DHCP_PXE_CLIENTARCH, 22", || rom(MessageType::Discover, "U-Boot.armv8", 22)),
            None,
        ),
        Row(
            "PXE of an architecture without loader",
            Synthetic("IANA, 27 riscv64", || rom(MessageType::Discover, "PXEClient", 27)),
            None,
        ),
        Row("Raspberry Pi 4 and 5", Synthetic("wire reference §7.1: says 0", raspberry), Some("")),
        Row("operating system", Synthetic("RFC 2131", || plain(MessageType::Discover)), None),
    ]
}

fn http(arch: u16) -> Packet {
    rom(MessageType::Discover, "HTTPClient", arch)
}

fn classed(class: &[u8]) -> Packet {
    let mut packet = rom(MessageType::Discover, "PXEClient", 7);
    packet.options.push(USER_CLASS, class);
    packet
}

fn raspberry() -> Packet {
    let mut packet = rom(MessageType::Discover, "PXEClient", 0);
    packet.chaddr[..6].copy_from_slice(&PI.octets());
    packet
}

fn packet(row: &Row) -> Packet {
    match row.1 {
        Synthetic(_, make) => make(),
        Captured(name) => captured(name).unwrap_or_else(|| panic!("netboot/packets has no {name}")),
    }
}

/// Of the lab; its machine becomes the one of the tests.
fn captured(name: &str) -> Option<Packet> {
    let path = format!("{}/packets/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    let mut packet = Packet::decode(&std::fs::read(&path).ok()?).unwrap_or_else(|e| panic!("{path}: {e}"));
    packet.chaddr[..6].copy_from_slice(&MAC.octets());
    Some(packet)
}

/// What follows at a port: captured, or the same with another type; to the server that the row's story needs.
fn request(row: &Row, port: Port, server: Option<Ipv4Addr>) -> Packet {
    let taken = match (&row.1, port) {
        (Captured(name), Port::Server) => Some(
            captured(&format!("{name}-request")).unwrap_or_else(|| panic!("netboot/packets has no {name}-request")),
        ),
        // Few firmwares ask there when the first answer of a proxy says it all.
        (Captured(name), Port::Boot) => captured(&format!("{name}-4011")),
        (Synthetic(..), _) => None,
    };
    let said = taken.unwrap_or_else(|| packet(row));
    let mut packet = Packet { options: Default::default(), ..said.clone() };
    packet.options.push(MESSAGE_TYPE, [MessageType::Request as u8]);
    for (code, value) in said.options.iter() {
        match code {
            MESSAGE_TYPE | SERVER_ID => {}
            REQUESTED_ADDRESS => drop(packet.options.push_addresses(code, &[ADDRESS])),
            _ => drop(packet.options.push(code, value)),
        }
    }
    if let Some(server) = server {
        packet.options.push_addresses(SERVER_ID, &[server]);
    }
    packet
}

fn service(mode: Mode, port: Port) -> Service {
    let pi = crate::Machine { mac: PI, ..machine() };
    let (netboot, _seen) = netboot_with(vec![machine(), pi], std::path::Path::new("/nonexistent"), |site| {
        site.interfaces[0].mode = mode;
    });
    Service { netboot, interface: "eth0".into(), port, recent: Recent::new(), known: Recent::new() }
}

/// `script`, `http:<file>` or a bare name, as rows say it.
fn file(reply: &Packet) -> String {
    let text = reply.options.text(BOOT_FILE).unwrap_or_else(|| String::from_utf8(reply.file.clone()).unwrap());
    match text.strip_prefix("http://10.0.0.1:7080/ipxe/") {
        Some(path) if path.ends_with("/auto.ipxe") => SCRIPT.into(),
        Some(path) => format!("{HTTP}{}", path.rsplit('/').next().unwrap()),
        None => text,
    }
}

fn boots(row: &Row, reply: &Packet, how: &str) {
    let wanted = row.2.unwrap();
    assert_eq!((file(reply).as_str(), reply.siaddr), (wanted, SERVER), "{}, {how}", row.0);
    let class = if wanted.starts_with(HTTP) { "HTTPClient" } else { "PXEClient" };
    assert_eq!(reply.options.text(VENDOR_CLASS).as_deref(), Some(class), "{}, {how}", row.0);
    let discovery = reply.options.vendor(6);
    assert_eq!(discovery, (class == "PXEClient").then(|| vec![8]), "{}, {how}", row.0);
    if row.0.starts_with("Raspberry") {
        assert_eq!(reply.options.vendor(9).unwrap(), b"\0\0\x11Raspberry Pi Boot");
        assert_eq!(reply.options.text(TFTP_SERVER).as_deref(), Some("10.0.0.1"));
    }
}

#[test]
fn every_kind_gets_an_address_and_its_file_by_reservation() {
    for row in &rows() {
        let discover = packet(row);
        for (message, kind) in
            [(discover.clone(), MessageType::Offer), (request(row, Port::Server, Some(SERVER)), MessageType::Ack)]
        {
            let (reply, _) = ask_at(&mut service(Mode::Reservation, Port::Server), &message).unwrap();
            assert_eq!((reply.message_type(), reply.yiaddr), (Some(kind), ADDRESS), "{}", row.0);
            assert_eq!(reply.options.get(MACHINE_ID).is_some(), discover.options.has(MACHINE_ID) && row.2.is_some());
            match row.2 {
                Some(_) => boots(row, &reply, "reservation"),
                None => assert!(reply.file.is_empty() && !reply.options.has(VENDOR), "{}", row.0),
            }
        }
    }
}

#[test]
fn a_proxy_gives_files_and_never_an_address() {
    for row in &rows() {
        let discover = packet(row);
        let steps = [
            (Port::Server, discover.clone(), MessageType::Offer),
            (Port::Server, request(row, Port::Server, Some(SERVER)), MessageType::Ack),
            (Port::Boot, request(row, Port::Boot, Some(SERVER)), MessageType::Ack),
            (Port::Boot, request(row, Port::Boot, Some(Ipv4Addr::new(10, 0, 0, 250))), MessageType::Ack),
            (Port::Boot, request(row, Port::Boot, None), MessageType::Ack),
        ];
        for (port, message, kind) in steps {
            for mode in [Mode::Proxy, Mode::Auto] {
                let how = format!("{mode:?} {port:?}");
                let Some((reply, to)) = ask_at(&mut service(mode, port), &message) else {
                    assert!(row.2.is_none(), "{}, {how}: silence", row.0);
                    continue;
                };
                boots(row, &reply, &how);
                assert_eq!(
                    (reply.message_type(), reply.yiaddr),
                    (Some(kind), Ipv4Addr::UNSPECIFIED),
                    "{}, {how}",
                    row.0
                );
                for code in [LEASE_TIME, SUBNET_MASK, ROUTER, DNS, HOST_NAME, BROADCAST] {
                    assert!(!reply.options.has(code), "{}, {how}: option {code}", row.0);
                }
                let back = if port == Port::Boot { "10.0.0.77:4011" } else { "255.255.255.255:68" };
                assert_eq!(to, back, "{}, {how}", row.0);
            }
        }
        // What is meant for the DHCP server beside us is none of ours.
        for other in [Some(Ipv4Addr::new(10, 0, 0, 250)), None] {
            assert!(
                ask_at(&mut service(Mode::Proxy, Port::Server), &request(row, Port::Server, other)).is_none(),
                "{}",
                row.0
            );
        }
    }
}

#[test]
fn behind_a_relay_the_answer_goes_to_it_with_what_it_added_last() {
    for row in &rows() {
        let mut message = packet(row);
        message.giaddr = RELAY;
        message.options.push(RELAY_AGENT, b"\x01\x04ge-1\x97\x01\x01");
        for mode in [Mode::Reservation, Mode::Proxy] {
            let Some((reply, to)) = ask_at(&mut service(mode, Port::Server), &message) else {
                assert!(mode == Mode::Proxy && row.2.is_none(), "{}: silence", row.0);
                continue;
            };
            assert_eq!((reply.giaddr, to.as_str()), (RELAY, "10.1.0.1:67"), "{}", row.0);
            assert_eq!(reply.options.iter().last().unwrap(), (RELAY_AGENT, &b"\x01\x04ge-1\x97\x01\x01"[..]));
        }
    }
}

#[test]
fn unknown_machines_are_answered_in_auto_only() {
    let mut stranger = rom(MessageType::Discover, "PXEClient", 7);
    stranger.chaddr[5] = 99;
    for (mode, answered) in [(Mode::Reservation, false), (Mode::Proxy, false), (Mode::Auto, true), (Mode::Off, false)] {
        assert_eq!(ask_at(&mut service(mode, Port::Server), &stranger).is_some(), answered, "{mode:?}");
    }
}

#[test]
fn at_least_twelve_kinds_and_five_of_them_captured() {
    let rows = rows();
    let captured = rows.iter().filter(|row| matches!(row.1, Captured(_))).count();
    assert!(rows.len() >= 12 && captured >= 5);
    assert!(rows.iter().all(|row| !matches!(row.1, Synthetic("", _))), "a synthetic row names its source");
}

/// The same bytes by another's eyes: fields, and every option that dhcproto knows how to read.
#[test]
fn dhcproto_reads_the_same_of_what_we_send() {
    use dhcproto::v4::{DhcpOption, Message, OptionCode};
    use dhcproto::{Decodable, Decoder};
    for row in &rows() {
        for (mode, port) in [(Mode::Reservation, Port::Server), (Mode::Proxy, Port::Server), (Mode::Proxy, Port::Boot)]
        {
            let Some((bytes, _)) =
                service(mode, port).handle(&packet(row).encode(), "10.0.0.77:4011".parse().unwrap(), Instant::now())
            else {
                continue;
            };
            let (ours, theirs) = (Packet::decode(&bytes).unwrap(), Message::decode(&mut Decoder::new(&bytes)).unwrap());
            assert_eq!((theirs.xid(), theirs.yiaddr(), theirs.siaddr()), (ours.xid, ours.yiaddr, ours.siaddr));
            assert_eq!(theirs.chaddr(), &ours.chaddr[..6]);
            let file = theirs.fname().map(|name| name.split(|b| *b == 0).next().unwrap_or_default().to_vec());
            assert_eq!(file.unwrap_or_default(), ours.file, "{}", row.0);
            match theirs.opts().get(OptionCode::ServerIdentifier) {
                Some(DhcpOption::ServerIdentifier(server)) => {
                    assert_eq!(Some(*server), ours.options.address(SERVER_ID))
                }
                other => panic!("{}: {other:?}", row.0),
            }
            let codes: std::collections::BTreeSet<u8> = theirs.opts().iter().map(|(code, _)| u8::from(*code)).collect();
            let sent: std::collections::BTreeSet<u8> = ours.options.iter().map(|(code, _)| code).collect();
            assert_eq!(
                codes.difference(&[255].into()).copied().collect::<Vec<_>>(),
                sent.into_iter().collect::<Vec<_>>()
            );
        }
    }
}
