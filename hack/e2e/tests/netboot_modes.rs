//! Two interfaces in different modes, switched while files flow, and the doctor: the built server, real sockets, and
//! clients and foreign servers in namespaces of their own. No machine is booted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::SOON;
use e2e::command::run;
use e2e::neighbour::Neighbour;
use e2e::process::Process;
use e2e::wait::{self, PAUSE, TimedOut};
use serde_json::Value;

const KNOWN: &str = "52:54:00:00:20:01";
const STRANGER: &str = "52:54:00:00:20:99";
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 71, 0, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 72, 0, 1);
const LOADER: usize = 300_000;
/// Enough for a transfer to be under way while modes change.
const IMAGE: usize = 64 << 20;

const HARDWARE: &str = "apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: known, labels: {rack: r1}}
spec:
  metadata: {instance: {id: known-instance, hostname: known}}
  interfaces:
    - netboot: {allowPXE: true}
      dhcp:
        mac: \"52:54:00:00:20:01\"
        ip: {address: 10.71.0.50, netmask: 255.255.255.0}
";

struct Site {
    dir: tempfile::TempDir,
    server: Process,
    api: String,
    left: Neighbour,
    right: Neighbour,
}

fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().unwrap();
    beside.parent().unwrap().parent().unwrap().join(name)
}

fn peer() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/dhcp_client.py").display().to_string()
}

impl Site {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for sub in ["state", "artifacts", "loaders", "files"] {
            fs::create_dir(at(sub)).unwrap();
        }
        for loader in ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"] {
            fs::write(at("loaders").join(loader), vec![7; LOADER]).unwrap();
        }
        fs::write(at("files/image"), vec![1; IMAGE]).unwrap();
        let idle = ["sleep", "infinity"];
        let left = Neighbour::on_link(("left", LEFT), [10, 71, 0, 9].into(), &idle, &at("left.log")).unwrap();
        let right = Neighbour::on_link(("right", RIGHT), [10, 72, 0, 9].into(), &idle, &at("right.log")).unwrap();
        let config = format!(
            "address: {LEFT}\ninterface: left\ninterfaces:\n  - {{name: right, mode: proxy, address: {RIGHT}}}\n\
             state: {0}/state\nartifacts: {0}/artifacts\nloaders: {0}/loaders\nfiles: {0}/files\n\
             tftp: {{listen: \"0.0.0.0:69\"}}\nhttp: {{listen: \"0.0.0.0:7080\"}}\ngrpc: {{listen: \"127.0.0.1:0\"}}\n\
             metadata: off\napi: {{listen: \"127.0.0.1:7480\"}}\n{extra}",
            dir.path().display()
        );
        fs::write(at("serve.yaml"), config).unwrap();
        let mut serve = Command::new(program("ironhook"));
        serve.args(["serve", "--config"]).arg(at("serve.yaml")).env("NO_COLOR", "1");
        let server = Process::spawn("ironhook serve", &mut serve, &at("server.log")).unwrap();
        let site = Self { server, api: "http://127.0.0.1:7480".into(), left, right, dir };
        wait::until("the API", SOON, || Ok::<_, TimedOut>(TcpStream::connect("127.0.0.1:7480").is_ok().then_some(())))
            .unwrap_or_else(|e| panic!("{e}: {}", site.log()));
        fs::write(site.dir.path().join("known.yaml"), HARDWARE).unwrap();
        site.ironhook(&["apply", "-f", site.dir.path().join("known.yaml").to_str().unwrap()]);
        site
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    fn ironhook(&self, args: &[&str]) -> String {
        run(Command::new(program("ironhook")).args(args).env("IRONHOOK_SERVER", &self.api))
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// The exit status counts for findings.
    fn doctor(&self) -> String {
        let output = Command::new(program("ironhook"))
            .args(["netboot", "doctor"])
            .env("IRONHOOK_SERVER", &self.api)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A loader on its way by TFTP, after its first block.
struct Loading {
    socket: UdpSocket,
    got: Vec<u8>,
}

impl Loading {
    /// Whether nobody listens there: the kernel says so at once.
    fn refused() -> bool {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(PAUSE)).unwrap();
        socket.connect((LEFT, 69)).unwrap();
        socket.send(b"\0\x01snponly.efi\0octet\0").unwrap();
        socket.recv(&mut [0; 600]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    fn begin() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.send_to(b"\0\x01snponly.efi\0octet\0", (LEFT, 69)).unwrap();
        let mut block = [0; 600];
        let (length, from) = socket.recv_from(&mut block).unwrap();
        assert_eq!(block[..4], [0, 3, 0, 1]);
        socket.connect(from).unwrap();
        Self { socket, got: block[4..length].to_vec() }
    }

    /// To its end.
    fn rest(mut self) -> Vec<u8> {
        let mut block = [0; 600];
        loop {
            let blocks = self.got.len().div_ceil(512) as u16;
            self.socket.send(&[&[0, 4], &blocks.to_be_bytes()[..]].concat()).unwrap();
            if !self.got.len().is_multiple_of(512) {
                return self.got;
            }
            let mut length = 0;
            // Not one that was repeated while nobody listened.
            while block[2..4] != (blocks + 1).to_be_bytes() {
                length = self.socket.recv(&mut block).unwrap();
            }
            self.got.extend(&block[4..length]);
        }
    }
}

/// What a client hears.
fn ask(from: &Neighbour, mac: &str, more: &[&str]) -> Vec<Value> {
    let peer = peer();
    let words = [&["python3", peer.as_str(), mac, "7"], more].concat();
    let text = from.run(&words).unwrap_or_else(|e| panic!("{e}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn two_interfaces_have_their_own_modes_and_switching_cuts_no_transfer() {
    let site = Site::new("");
    let offers = ask(&site.left, KNOWN, &[]);
    assert_eq!(
        (&offers[0]["address"], &offers[0]["file"]),
        (&"10.71.0.50".into(), &"snponly.efi".into()),
        "{offers:?}"
    );
    assert_eq!(offers[0]["server"], LEFT.to_string());
    let offers = ask(&site.right, KNOWN, &[]);
    assert_eq!(
        (&offers[0]["address"], &offers[0]["next"]),
        (&"0.0.0.0".into(), &RIGHT.to_string().into()),
        "{offers:?}"
    );
    let offers = ask(&site.right, KNOWN, &["--port", "4011", "--to", &RIGHT.to_string()]);
    assert_eq!((&offers[0]["type"], &offers[0]["file"]), (&5.into(), &"snponly.efi".into()), "{offers:?}");
    assert!(ask(&site.right, STRANGER, &[]).is_empty() && ask(&site.left, STRANGER, &[]).is_empty());

    // A download is held in the middle by its reader while everything around it changes.
    let mut download = TcpStream::connect((LEFT, 7080)).unwrap();
    write!(download, "GET /files/image HTTP/1.1\r\nHost: {LEFT}:7080\r\nConnection: close\r\n\r\n").unwrap();
    let mut head = [0; 4096];
    download.read_exact(&mut head).unwrap();
    let set = |args: &[&str]| site.ironhook(&[&["netboot", "set"], args].concat());
    assert!(set(&["--interface", "right", "--mode", "auto"]).contains("auto"));
    let offers = ask(&site.right, STRANGER, &[]);
    assert_eq!((&offers[0]["address"], &offers[0]["file"]), (&"0.0.0.0".into(), &"snponly.efi".into()), "{offers:?}");
    set(&["--interface", "left", "--mode", "off"]);
    assert!(ask(&site.left, KNOWN, &[]).is_empty());
    let loader = Loading::begin();
    let shown = set(&["--tftp", "off", "--http", "off"]);
    assert!(!shown.contains("tftp") && !shown.contains("http "), "{shown}");
    // Each service ends on a thread of its own, soon after the answer.
    let comes = |what, done: &dyn Fn() -> bool| {
        wait::until(what, SOON, || Ok::<_, TimedOut>(done().then_some(()))).unwrap();
    };
    comes("http to take nothing new", &|| TcpStream::connect((LEFT, 7080)).is_err());
    assert_eq!(loader.rest(), vec![7; LOADER]);
    comes("tftp to take nothing new", &Loading::refused);
    set(&["--interface", "left", "--mode", "reservation", "--tftp", "on", "--http", "on"]);
    comes("tftp to be back", &|| !Loading::refused());
    assert_eq!(ask(&site.left, KNOWN, &[])[0]["address"], "10.71.0.50");
    let mut rest = Vec::new();
    download.read_to_end(&mut rest).unwrap();
    let body = head.len() + rest.len();
    assert!(body > IMAGE && body < IMAGE + 4096, "{body} bytes came of {IMAGE}");

    // The file again: what was switched is forgotten.
    let pid = site.server.id().to_string();
    run(Command::new("kill").args(["-HUP", &pid])).unwrap();
    wait::until("the file to be read again", SOON, || {
        Ok::<_, TimedOut>(ask(&site.right, STRANGER, &["--wait", "0.5"]).is_empty().then_some(()))
    })
    .unwrap_or_else(|e| panic!("{e}: {}", site.log()));
}

#[test]
fn explain_tells_the_rule_and_the_timeline_what_happened() {
    let site = Site::new(
        "netboot:\n  rules:\n    - name: lab rack\n      when: {label.rack: r9}\n      then: installer\n    - name: strangers of the lab\n      when: {known: false, mac: '52:54:00:00:20:*'}\n      then: enroll\n",
    );
    ask(&site.left, KNOWN, &[]);
    let told = site.ironhook(&["netboot", "explain", "--mac", KNOWN]);
    for wanted in [
        "Not:           lab rack (label.rack is \"r1\", not r9)",
        "Rule:          nothing to do",
        "Gets:          disk",
        "DHCP:          left (reservation), PXEClient arch 7: address 10.71.0.50, file snponly.efi",
        "sanboot",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let told = site.ironhook(&["netboot", "explain", "--mac", STRANGER]);
    assert!(
        told.contains("Rule:          strangers of the lab") && told.contains("worker_id=52:54:00:00:20:99"),
        "{told}"
    );
    let mut stream = TcpStream::connect((LEFT, 7080)).unwrap();
    write!(stream, "GET /ipxe/script/{STRANGER}/auto.ipxe HTTP/1.1\r\nHost: {LEFT}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut script = String::new();
    stream.read_to_string(&mut script).unwrap();
    assert!(script.contains("#!ipxe") && script.contains("hw_addr=52:54:00:00:20:99"), "{script}");
    let seen = wait::until("the timeline", SOON, || {
        let seen = site.ironhook(&["netboot", "timeline", "--mac", KNOWN]);
        Ok::<_, TimedOut>(
            (seen.contains("DISCOVER by PXEClient") && seen.contains("OFFER (reservation) snponly.efi"))
                .then_some(seen),
        )
    });
    seen.unwrap();
}

#[test]
fn a_machine_that_never_hears_the_proxy_and_someone_elses_boot_file_are_found_by_the_doctor() {
    let site = Site::new("");
    assert!(site.doctor().contains("nothing is wrong"), "{}", site.doctor());
    // Beside the proxy, somebody hands out a boot file of his own.
    let log = site.dir.path().join("dnsmasq.log");
    let foreign = [
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=eth0",
        "--user=root",
        "--dhcp-range=10.71.0.100,10.71.0.110,255.255.255.0,1h",
        "--dhcp-boot=pxelinux.0",
        "--leasefile-ro",
        "--dhcp-authoritative",
    ];
    drop(site.left);
    let left = Neighbour::on_link(("foreign", [10, 73, 0, 1].into()), [10, 71, 0, 2].into(), &foreign, &log);
    let _left = left.unwrap();
    // It answers on the link that the server's `left` was: the server is told of the new one.
    let path = site.dir.path().join("serve.yaml");
    let text = fs::read_to_string(&path).unwrap().replace("interface: left", "interface: foreign");
    fs::write(&path, text).unwrap();
    run(Command::new("kill").args(["-HUP", &site.server.id().to_string()])).unwrap();
    let found = wait::until("the doctor to hear it", SOON, || {
        let output = Command::new(program("ironhook"))
            .args(["netboot", "doctor"])
            .env("IRONHOOK_SERVER", "http://127.0.0.1:7480")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        Ok::<_, TimedOut>(text.contains("pxelinux.0").then_some(text))
    })
    .unwrap();
    assert!(found.contains("someone else's DHCP answered with a boot file first: 10.71.0.2 on foreign"), "{found}");
    assert!(found.contains("duplicate server: 10.71.0.2 gives addresses on foreign as well"), "{found}");
}
