//! Each service by itself, with nothing else of netboot running, over real sockets: what the others do is none of its
//! business, and it needs no privilege but its own port.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use netboot::rules::Rules;
use netboot::{
    History, Interface, Loaders, Machine, Machines, Mode, Netboot, Settings, Sighting, Sink, dhcp, http, tftp,
};
use spec::dhcp::option::*;
use spec::dhcp::{FLAG_BROADCAST, MessageType, Packet};
use spec::{Mac, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

const MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const SOON: Duration = Duration::from_secs(20);

/// One machine that waits for its workflow.
struct One;

impl Machines for One {
    fn by_mac(&self, mac: Mac) -> Option<Arc<Machine>> {
        (mac == MAC).then(|| Arc::new(machine()))
    }

    fn by_address(&self, _: Ipv4Addr) -> Option<Arc<Machine>> {
        None
    }

    fn history(&self, _: Mac) -> History {
        History::default()
    }

    fn ticket(&self, _: Mac) -> Option<Secret> {
        Some(Secret::new("t1cket"))
    }
}

fn machine() -> Machine {
    let lease = netboot::Lease {
        // Where the answer to a client that has it already can be heard.
        address: Ipv4Addr::LOCALHOST,
        netmask: Ipv4Addr::new(255, 0, 0, 0),
        gateway: None,
        name_servers: vec![],
        time_servers: vec![],
        hostname: None,
        seconds: 60,
    };
    let installer = netboot::Installer::of(MAC.to_string().parse().unwrap());
    Machine {
        name: "default/one".into(),
        mac: MAC,
        lease: Some(lease),
        allow_pxe: true,
        always_netboot: false,
        arch: "x86_64".into(),
        labels: Default::default(),
        instance: None,
        workflow: netboot::Workflow { state: netboot::WorkflowState::Pending, ..Default::default() },
        custom: None,
        loaders: vec![],
        pxelinux: None,
        iso: None,
        installer: Ok(installer),
    }
}

struct Loader;

impl Loaders for Loader {
    fn get(&self, name: &str) -> Option<Bytes> {
        (name == "snponly.efi").then(|| Bytes::from_static(b"a loader"))
    }
}

fn site(mode: Mode) -> (Netboot, mpsc::Receiver<Sighting>) {
    let settings = Settings {
        address: Ipv4Addr::LOCALHOST,
        interfaces: vec![Interface { name: "lo".into(), mode, address: None }],
        http_port: 7080,
        grpc_authority: "127.0.0.1:42113".into(),
        grpc_tls: false,
        grpc_insecure_tls: false,
        kernel_args: vec![],
        osie: "/nonexistent".into(),
        files: "/nonexistent".into(),
        raspberry: None,
        rules: Arc::new(Rules::new(vec![]).unwrap()),
        loaders: Default::default(),
        patience: Duration::from_secs(60),
    };
    let (sender, seen) = mpsc::channel(64);
    let (_, settings) = watch::channel(Arc::new(settings));
    (Netboot::new(settings, Arc::new(One), Arc::new(Loader), Sink::new(sender)), seen)
}

fn end() -> (oneshot::Sender<()>, impl Future<Output = ()> + Send + 'static) {
    let (stop, stopped) = oneshot::channel::<()>();
    (stop, async { stopped.await.unwrap_or(()) })
}

fn request(kind: MessageType) -> Packet {
    let mut packet = Packet::request(MAC, 7);
    packet.flags = FLAG_BROADCAST;
    packet
        .options
        .push(MESSAGE_TYPE, [kind as u8])
        .push(VENDOR_CLASS, "PXEClient:Arch:00007")
        .push(ARCHITECTURE, [0, 7]);
    packet
}

/// The client is its own relay: a port that answers to relays go to takes privileges, one that a boot server answers
/// does not.
#[tokio::test]
async fn dhcp_alone() {
    let (netboot, mut seen) = site(Mode::Reservation);
    let counters = Arc::clone(&netboot.counters);
    let socket = dhcp::bind_at("lo", 0).unwrap();
    let to = (Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port());
    let (stop, stopped) = end();
    let service = tokio::spawn(dhcp::serve(socket, ("lo".into(), dhcp::Port::Server), netboot, stopped));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(&request(MessageType::Request).encode(), to).await.unwrap();
    // What it gave is told, whether or not this client's port is the one that hears it.
    let told = timeout(SOON, async {
        loop {
            if let Sighting::Activity(activity) = seen.recv().await.unwrap() {
                return activity;
            }
        }
    });
    assert!(format!("{:?}", told.await.unwrap().what).contains("127.0.0.1"));
    assert_eq!((counters.acks.get(), counters.tftp_files.get(), counters.http_files.get()), (1, 0, 0));
    drop(stop);
    service.await.unwrap();
}

#[tokio::test]
async fn proxydhcp_alone() {
    let (netboot, _seen) = site(Mode::Proxy);
    let socket = dhcp::bind_at("lo", 0).unwrap();
    let to = (Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port());
    let (stop, stopped) = end();
    let service = tokio::spawn(dhcp::serve(socket, ("lo".into(), dhcp::Port::Boot), netboot, stopped));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(&request(MessageType::Request).encode(), to).await.unwrap();
    let mut buffer = [0; 1500];
    let length = timeout(SOON, client.recv(&mut buffer)).await.unwrap().unwrap();
    let reply = Packet::decode(&buffer[..length]).unwrap();
    assert_eq!((reply.message_type(), reply.yiaddr), (Some(MessageType::Ack), Ipv4Addr::UNSPECIFIED));
    assert_eq!(reply.file, b"snponly.efi");
    assert!(!reply.options.has(LEASE_TIME) && !reply.options.has(SUBNET_MASK));
    drop(stop);
    service.await.unwrap();
}

#[tokio::test]
async fn tftp_alone() {
    let (netboot, _seen) = site(Mode::Off);
    let socket = tftp::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let to = socket.local_addr().unwrap();
    let (stop, stopped) = end();
    let service = tokio::spawn(tftp::serve(socket, tftp::Options::default(), netboot, stopped));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(b"\0\x01snponly.efi\0octet\0", to).await.unwrap();
    let mut buffer = [0; 600];
    let (length, from) = timeout(SOON, client.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..length], b"\0\x03\0\x01a loader");
    client.send_to(b"\0\x04\0\x01", from).await.unwrap();
    drop(stop);
    timeout(SOON, service).await.unwrap().unwrap();
}

#[tokio::test]
async fn http_alone() {
    let (netboot, _seen) = site(Mode::Off);
    let listener = http::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let to: SocketAddr = listener.local_addr().unwrap();
    let (stop, stopped) = end();
    let service = tokio::spawn(http::serve(listener, http::router(netboot, http::Caps::default()), stopped));
    let mut stream = TcpStream::connect(to).await.unwrap();
    let ask = format!("GET /ipxe/script/{MAC}/auto.ipxe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("#!ipxe") && answer.contains("ironhook.ticket=t1cket "), "{answer}");
    drop(stop);
    service.await.unwrap().unwrap();
}
