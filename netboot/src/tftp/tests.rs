//! The service over loopback, with a small client that can lose packets.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use spec::activity::What;
use tokio::sync::oneshot;

use super::*;
use crate::tests::{Seen, machine, netboot, pattern};

struct Lab {
    server: SocketAddr,
    activity: Seen,
    stop: oneshot::Sender<()>,
    service: tokio::task::JoinHandle<()>,
}

async fn lab() -> Lab {
    lab_with(Options::default()).await
}

async fn lab_with(options: Options) -> Lab {
    let mut machine = machine();
    if let Some(lease) = &mut machine.lease {
        lease.address = Ipv4Addr::LOCALHOST;
    }
    let (netboot, activity) = netboot(vec![machine], Path::new("/nonexistent"));
    let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let server = socket.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let service = tokio::spawn(serve(socket, options, netboot, async { stopped.await.unwrap_or(()) }));
    Lab { server, activity, stop, service }
}

/// A client that pretends not to have received the datagrams that `lose` picks by their count.
struct Client {
    socket: UdpSocket,
    received: usize,
    lose: fn(usize) -> bool,
}

impl Client {
    async fn ask(server: SocketAddr, request: &str, lose: fn(usize) -> bool) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.send_to(&[&[0, 1], request.as_bytes()].concat(), server).await.unwrap();
        Self { socket, received: 0, lose }
    }

    async fn receive(&mut self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await.unwrap();
            self.received += 1;
            if !(self.lose)(self.received) {
                return (buffer[..length].to_vec(), from);
            }
        }
    }

    async fn acknowledge(&self, number: u16, to: SocketAddr) {
        self.socket.send_to(&[&[0, 4], &number.to_be_bytes()[..]].concat(), to).await.unwrap();
    }

    /// The whole file, acknowledged in windows, with what the server said of options.
    async fn get(mut self, block: usize, window: u16) -> (Vec<u8>, Vec<u8>) {
        let (mut content, mut options, mut next, mut in_window) = (Vec::new(), Vec::new(), 1_u16, 0);
        loop {
            let (datagram, from) = self.receive().await;
            match datagram[1] {
                6 => {
                    options = datagram[2..].to_vec();
                    self.acknowledge(0, from).await;
                }
                3 if datagram[2..4] == next.to_be_bytes() => {
                    content.extend(&datagram[4..]);
                    (next, in_window) = (next.wrapping_add(1), in_window + 1);
                    let last = datagram.len() - 4 < block;
                    if last || in_window == window {
                        self.acknowledge(next.wrapping_sub(1), from).await;
                        in_window = 0;
                    }
                    if last {
                        return (content, options);
                    }
                }
                // A gap or a repetition: what is there so far, as RFC 7440 wants it.
                3 => {
                    self.acknowledge(next.wrapping_sub(1), from).await;
                    in_window = 0;
                }
                other => panic!("opcode {other}: {:?}", String::from_utf8_lossy(&datagram)),
            }
        }
    }
}

fn never(_: usize) -> bool {
    false
}

#[tokio::test]
async fn a_file_arrives_whole_with_and_without_options() {
    let mut lab = lab().await;
    let (content, options) = Client::ask(lab.server, "aa-bb/undionly.kpxe\0octet\0", never).await.get(512, 1).await;
    assert!(content == pattern(100_000) && options.is_empty());
    let request = "undionly.kpxe\0octet\0tsize\x000\0blksize\x001432\0windowsize\x004\0";
    let (content, options) = Client::ask(lab.server, request, never).await.get(1432, 4).await;
    assert_eq!(options, b"tsize\x00100000\0blksize\x001432\0windowsize\x004\0");
    assert!(content == pattern(100_000));
    let (content, _) = Client::ask(lab.server, "full.kpxe\0octet\0", never).await.get(512, 1).await;
    assert!(content == pattern(1024));

    for (name, size) in [("undionly.kpxe", 100_000), ("undionly.kpxe", 100_000), ("full.kpxe", 1024)] {
        let told = lab.activity.recv().await.unwrap();
        assert_eq!(told.machine.as_deref(), Some("default/machine-1"));
        match told.what {
            What::File { service, path, bytes, total, .. } => {
                assert_eq!((service.as_str(), path.as_str(), bytes, total), ("tftp", name, size, size));
            }
            other => panic!("{other:?}"),
        }
    }
    drop(lab.stop);
    lab.service.await.unwrap();
}

#[tokio::test]
async fn lost_datagrams_are_sent_again() {
    let lab = lab().await;
    // The acknowledgement of options, a block in the middle of a window, and the last one of a window.
    let lose = |count| matches!(count, 1 | 5 | 11);
    let request = "undionly.kpxe\0octet\0timeout\x001\0windowsize\x004\0blksize\x001400\0";
    let (content, _) = Client::ask(lab.server, request, lose).await.get(1400, 4).await;
    assert!(content == pattern(100_000));
    let lose = |count| count == 7;
    let (content, _) = Client::ask(lab.server, "undionly.kpxe\0octet\0", lose).await.get(512, 1).await;
    assert!(content == pattern(100_000));
}

#[tokio::test]
async fn a_duplicate_acknowledgement_gets_no_second_copy() {
    let lab = lab().await;
    let mut client = Client::ask(lab.server, "full.kpxe\0octet\0", never).await;
    let (_, from) = client.receive().await;
    for _ in 0..3 {
        client.acknowledge(1, from).await;
    }
    client.acknowledge(2, from).await;
    let mut numbers = vec![];
    for _ in 0..2 {
        numbers.push(client.receive().await.0[3]);
    }
    assert_eq!(numbers, [2, 3]);
    client.acknowledge(3, from).await;
}

#[tokio::test]
async fn what_is_not_in_the_table_is_answered_at_once() {
    let mut lab = lab().await;
    for (request, code, text) in [
        ("pxelinux.0\0octet\0", 1, "\"pxelinux.0\""),
        ("../../../../etc/passwd\0octet\0", 1, "\"passwd\""),
        ("undionly.kpxe\0netascii\0", 4, "octet"),
    ] {
        let (answer, from) = Client::ask(lab.server, request, never).await.receive().await;
        assert_eq!((&answer[..4], from), (&[0, 5, 0, code][..], lab.server), "{request}");
        assert!(String::from_utf8_lossy(&answer[4..]).contains(text), "{request}");
        assert!(matches!(lab.activity.recv().await.unwrap().what, What::Refused { .. }));
    }
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(b"\0\x02undionly.kpxe\0octet\0", lab.server).await.unwrap();
    let mut buffer = [0; 100];
    client.recv(&mut buffer).await.unwrap();
    assert_eq!(buffer[..4], [0, 5, 0, 2]);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_transfer_and_is_reported_only_if_it_took_something() {
    let mut lab = lab().await;
    let hang_up = b"\0\x05\0\x08enough\0";
    let mut probe = Client::ask(lab.server, "undionly.kpxe\0octet\0tsize\x000\0", never).await;
    let (_, from) = probe.receive().await;
    probe.socket.send_to(hang_up, from).await.unwrap();
    let mut client = Client::ask(lab.server, "undionly.kpxe\0octet\0", never).await;
    let (_, from) = client.receive().await;
    client.acknowledge(1, from).await;
    client.receive().await;
    client.socket.send_to(hang_up, from).await.unwrap();
    match lab.activity.recv().await.unwrap().what {
        What::File { bytes, total, .. } => assert_eq!((bytes, total), (512, 100_000)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn on_one_port_transfers_run_beside_each_other_and_end_whole_when_the_service_is_switched_off() {
    let lab = lab_with(Options { single_port: true, drain: None }).await;
    let options = "undionly.kpxe\0octet\0blksize\x001400\0windowsize\x004\0";
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::ask(lab.server, options, never).await);
    }
    // All have begun, from the one port, before the service is told to end.
    for client in &mut clients {
        let (datagram, from) = client.receive().await;
        assert_eq!((datagram[1], from), (6, lab.server));
        client.acknowledge(0, from).await;
    }
    drop(lab.stop);
    for client in clients {
        let (content, _) = client.get(1400, 4).await;
        assert!(content == pattern(100_000));
    }
    lab.service.await.unwrap();
}

#[tokio::test]
async fn a_file_survives_five_percent_loss_and_two_hundred_milliseconds() {
    for single_port in [false, true] {
        let lab = lab_with(Options { single_port, drain: None }).await;
        let relay = relay::Relay::to(lab.server).await;
        let request = "undionly.kpxe\0octet\0timeout\x001\0blksize\x001432\0windowsize\x008\0";
        let (content, _) = PatientClient::get(relay.address, request, 1432, 8).await;
        assert!(content == pattern(100_000));
        assert!(relay.lost.load(std::sync::atomic::Ordering::Relaxed) >= 3, "the link was to lose something");
    }
}

/// Asks again, and acknowledges again, as firmware does.
struct PatientClient;

impl PatientClient {
    async fn get(server: SocketAddr, request: &str, block: usize, window: u16) -> (Vec<u8>, usize) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let first = [&[0, 1], request.as_bytes()].concat();
        let (mut content, mut next, mut in_window, mut last_sent) = (Vec::new(), 1_u16, 0, first);
        let (mut repeats, mut buffer) = (0, [0; 2048]);
        socket.send_to(&last_sent, server).await.unwrap();
        loop {
            let received = timeout(Duration::from_millis(1500), socket.recv(&mut buffer)).await;
            let Ok(length) = received else {
                repeats += 1;
                assert!(repeats < 50, "the server has gone silent");
                socket.send_to(&last_sent, server).await.unwrap();
                continue;
            };
            let datagram = &buffer[..length.unwrap()];
            let mut done = false;
            match datagram[1] {
                6 => in_window = window,
                3 if datagram[2..4] == next.to_be_bytes() => {
                    content.extend(&datagram[4..]);
                    (next, in_window, done) = (next.wrapping_add(1), in_window + 1, datagram.len() - 4 < block);
                }
                3 => in_window = window,
                other => panic!("opcode {other}"),
            }
            if done || in_window >= window {
                last_sent = [&[0, 4], &next.wrapping_sub(1).to_be_bytes()[..]].concat();
                socket.send_to(&last_sent, server).await.unwrap();
                in_window = 0;
            }
            if done {
                return (content, repeats);
            }
        }
    }
}

#[tokio::test]
async fn what_is_unknown_is_said_within_a_tenth_of_a_second() {
    let lab = lab().await;
    let mut slowest = Duration::ZERO;
    for name in ["pxelinux.0", "ldlinux.c32", "boot.cfg", "12345678/start4.elf", "pxelinux.cfg/default", "grub.cfg-01"]
    {
        let started = Instant::now();
        let (answer, _) = Client::ask(lab.server, &format!("{name}\0octet\0"), never).await.receive().await;
        slowest = slowest.max(started.elapsed());
        assert_eq!(answer[..2], [0, 5], "{name}");
    }
    // Four times the goal: the machine may be busy.
    assert!(slowest < Duration::from_millis(400), "{slowest:?}");
}

#[tokio::test]
async fn scripts_and_configurations_are_those_of_the_machine() {
    let lab = lab().await;
    for (name, wanted) in [
        ("autoexec.ipxe", "dhcp && goto script"),
        ("52:54:00:00:00:01/autoexec.ipxe", "/ipxe/script/52:54:00:00:00:01/auto.ipxe"),
        ("grub/grub.cfg", "configfile /grub/${net_default_mac}/grub.cfg"),
        ("grub/52:54:00:00:00:01/grub.cfg", "linux /vmlinuz-x86_64 grpc_authority="),
        ("pxelinux.cfg/01-52-54-00-00-00-01", "KERNEL vmlinuz-x86_64"),
        ("12345678/cmdline.txt", "worker_id=52:54:00:00:00:01"),
        ("12345678/config.txt", "arm_64bit=1"),
        ("52:54:00:00:00:01/undionly.kpxe-00-0123456789abcdef-01", "\0\u{1}\u{2}"),
    ] {
        let request = format!("{name}\0octet\0blksize\x001432\0");
        let (content, _) = Client::ask(lab.server, &request, never).await.get(1432, 1).await;
        let text = String::from_utf8_lossy(&content);
        assert!(text.contains(wanted), "{name}: {}", &text[..text.len().min(300)]);
    }
}
