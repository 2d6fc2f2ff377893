//! A machine that the server was never told of gets nothing to boot, and the server's log says so.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use common::{SOON, hardware, lab, random};
use e2e::lab::HTTP;
use e2e::wait::{self, TimedOut};
use spec::Mac;
use spec::dhcp::{MessageType, Packet, option};

const STRANGER: Mac = Mac::new([0x52, 0x54, 0x00, 0xba, 0xdb, 0xad]);

#[test]
fn an_unknown_mac_gets_no_boot_script_and_the_log_says_which_and_why() {
    let lab = lab("unknown");
    let known = hardware(14, &random());
    lab.apply("hardware", &known.yaml()).unwrap();

    // The known machine asks second: its answer shows that the stranger's had its turn. Both ask again, as clients do.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 1500];
    let answered = wait::until("an answer to the known machine", SOON, || {
        for (mac, xid) in [(STRANGER, 1), (known.mac, 2)] {
            socket.send_to(&discover(mac, xid), ("192.168.56.255", 67)).unwrap();
        }
        Ok::<_, TimedOut>(socket.recv(&mut buffer).ok())
    })
    .unwrap_or_else(|e| panic!("{e}; see {}", lab.server_log().display()));
    assert_eq!(Packet::decode(&buffer[..answered]).unwrap().xid, 2, "the stranger was answered");

    let answer = get(&format!("/ipxe/script/{STRANGER}/auto.ipxe"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(!answer.contains("#!ipxe") && answer.contains(&STRANGER.to_string()), "{answer}");

    for service in ["DHCP", "HTTP"] {
        wait::until(&format!("a line about {service} in the log"), SOON, || {
            let log = std::fs::read_to_string(lab.server_log()).unwrap();
            let told = |line: &str| {
                line.contains(service) && line.contains(&STRANGER.to_string()) && line.contains("no Hardware")
            };
            Ok::<_, TimedOut>(log.lines().any(told).then_some(()))
        })
        .unwrap_or_else(|e| panic!("{e}; see {}", lab.server_log().display()));
    }
}

fn discover(mac: Mac, xid: u32) -> Vec<u8> {
    let mut packet = Packet::request(mac, xid);
    packet.flags = spec::dhcp::FLAG_BROADCAST;
    packet.options.push(option::MESSAGE_TYPE, [MessageType::Discover as u8]);
    packet.options.push(option::VENDOR_CLASS, "PXEClient:Arch:00000:UNDI:002001");
    packet.encode()
}

fn get(path: &str) -> String {
    let mut stream = TcpStream::connect(HTTP).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {HTTP}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
