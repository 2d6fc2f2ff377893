//! Each service alone with nothing but the capability that its port takes, what the doctor finds by what machines did and
//! would be told, and what of it a restart forgets: the built server, real sockets, a client in a namespace of its own.
//! No machine is booted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::SOON;
use e2e::command::run;
use e2e::neighbour::Neighbour;
use e2e::process::Process;
use e2e::wait::{self, TimedOut};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 74, 0, 1);
const DEAF: &str = "52:54:00:00:40:01";
const LOOPING: &str = "52:54:00:00:40:02";

const OBJECTS: &str = "apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: deaf}
spec:
  interfaces:
    - netboot: {allowPXE: true}
      dhcp: {mac: \"52:54:00:00:40:01\", ip: {address: 10.74.0.51, netmask: 255.255.255.0}}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: looping, labels: {ironhook.dev/always-netboot: \"true\"}}
spec:
  interfaces:
    - netboot: {allowPXE: true}
      dhcp: {mac: \"52:54:00:00:40:02\", ip: {address: 10.74.0.52, netmask: 255.255.255.0}}
";

struct Site {
    dir: tempfile::TempDir,
    server: Process,
    machines: Neighbour,
}

fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().unwrap();
    beside.parent().unwrap().parent().unwrap().join(name)
}

/// With no capabilities but those for ports below 1024.
fn serve(dir: &Path) -> Process {
    let mut serve = Command::new("setpriv");
    serve.args(["--inh-caps=-all", "--bounding-set=-all,+net_bind_service"]).arg(program("ironhook"));
    serve.args(["serve", "--config"]).arg(dir.join("serve.yaml")).env("NO_COLOR", "1");
    let server = Process::spawn("ironhook serve", &mut serve, &dir.join("server.log")).unwrap();
    wait::until("the API", SOON, || Ok::<_, TimedOut>(TcpStream::connect("127.0.0.1:7480").is_ok().then_some(())))
        .unwrap_or_else(|e| panic!("{e}: {}", fs::read_to_string(dir.join("server.log")).unwrap_or_default()));
    server
}

impl Site {
    /// `services`: lines of the configuration.
    fn new(services: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for sub in ["state", "artifacts", "loaders", "files"] {
            fs::create_dir(at(sub)).unwrap();
        }
        for loader in ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"] {
            fs::write(at("loaders").join(loader), "a loader").unwrap();
        }
        let idle = ["sleep", "infinity"];
        let machines = Neighbour::on_link(("rack", HERE), [10, 74, 0, 9].into(), &idle, &at("rack.log")).unwrap();
        let config = format!(
            "address: {HERE}\ninterface: rack\n{services}state: {0}/state\nartifacts: {0}/artifacts\n\
             loaders: {0}/loaders\nfiles: {0}/files\n\
             grpc: {{listen: \"127.0.0.1:0\"}}\nmetadata: off\napi: {{listen: \"127.0.0.1:7480\"}}\n\
             netboot:\n  rules:\n    - {{name: enough, when: {{mac: \"{LOOPING}\", boots: \">=3\"}}, then: park}}\n",
            dir.path().display()
        );
        fs::write(at("serve.yaml"), config).unwrap();
        fs::write(at("objects.yaml"), OBJECTS).unwrap();
        let site = Self { server: serve(dir.path()), machines, dir };
        site.apply("objects.yaml");
        site
    }

    fn apply(&self, name: &str) {
        self.ironhook(&["apply", "-f", self.dir.path().join(name).to_str().unwrap()]);
    }

    fn ironhook(&self, args: &[&str]) -> String {
        run(Command::new(program("ironhook")).args(args)).unwrap_or_else(|e| panic!("{e}"))
    }

    /// What it says, and its exit status.
    fn doctor(&self) -> (String, Option<i32>) {
        let output = Command::new(program("ironhook")).args(["netboot", "doctor"]).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }

    /// A machine asks for its server; how many answers it heard.
    fn discovers(&self, mac: &str) -> usize {
        let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/dhcp_client.py");
        let words = ["python3", peer.to_str().unwrap(), mac, "7", "--wait", "1"];
        self.machines.run(&words).unwrap_or_else(|e| panic!("{e}")).lines().count()
    }

    fn script(&self, mac: &str) -> String {
        Self::get((HERE, 7080), &format!("/ipxe/script/{mac}/auto.ipxe"))
    }

    fn metrics(&self) -> String {
        Self::get((Ipv4Addr::LOCALHOST, 7480), "/metrics")
    }

    fn get(from: (Ipv4Addr, u16), path: &str) -> String {
        let mut stream = TcpStream::connect(from).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {HERE}\r\nConnection: close\r\n\r\n").unwrap();
        let mut script = String::new();
        stream.read_to_string(&mut script).unwrap();
        script
    }
}

#[test]
fn each_service_runs_alone_with_its_own_privileges() {
    let none = [("dhcp", "off"), ("tftp", "off"), ("http", "off")];
    let port =
        |name: &str, is: &str| none.map(|(n, off)| format!("{n}: {}\n", if n == name { is } else { off })).concat();
    for (service, mode) in [("dhcp", "reservation"), ("dhcp", "proxy"), ("tftp", "on"), ("http", "on")] {
        let site = Site::new(&port(service, mode));
        let status = fs::read_to_string(format!("/proc/{}/status", site.server.id())).unwrap();
        assert!(status.contains("CapEff:\t0000000000000400\n"), "only CAP_NET_BIND_SERVICE: {status}");
        let told = site.ironhook(&["netboot", "status"]);
        let others = ["dhcp on", "proxydhcp on", "tftp ", "http "].map(|name| told.contains(name));
        let wanted = [service == "dhcp", mode == "proxy", service == "tftp", service == "http"];
        assert_eq!(others, wanted, "{told}");
        assert_eq!(site.discovers(DEAF), usize::from(service == "dhcp"), "{service} {mode}");
        assert_eq!(loader(), service == "tftp", "{service} {mode}");
        assert_eq!(TcpStream::connect((HERE, 7080)).is_ok(), service == "http", "{service} {mode}");
        if service == "http" {
            assert!(site.script(LOOPING).contains("#!ipxe"));
        }
    }
}

#[test]
fn a_flood_of_a_hundred_thousand_strangers_costs_no_memory_and_no_known_machine_its_answer() {
    let site = Site::new("dhcp: reservation\n");
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", site.server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert_eq!(site.discovers(DEAF), 1);
    let before = memory();
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/dhcp_client.py");
    let words = ["python3", peer.to_str().unwrap(), "02:00:00:00:00:00", "7", "--count", "100000", "--wait", "1"];
    let told = site.machines.run(&words).unwrap_or_else(|e| panic!("{e}"));
    assert!(told.contains("\"answered\": 0,"), "{told}");
    // Firmware asks again by itself: what the flood has pushed out of the socket is asked for once more.
    wait::until("the known machine to be answered", SOON, || {
        Ok::<_, TimedOut>((site.discovers(DEAF) == 1).then_some(()))
    })
    .unwrap();
    let metrics = site.metrics();
    let heard: u64 =
        metrics.lines().find_map(|l| l.strip_prefix("ironhook_dhcp_discovers_total ")).unwrap().parse().unwrap();
    let grown = memory().saturating_sub(before);
    assert!(heard > 50_000, "the flood was to arrive: {heard}");
    assert!(grown < 64 << 10, "{grown} KiB more than before");
    let strangers = fs::read_dir(site.dir.path().join("state/seen")).map_or(0, |all| all.count());
    assert!(strangers <= 1, "{strangers} files");
}

/// Whether the loader came by TFTP; where nobody listens, the kernel says so.
fn loader() -> bool {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.send_to(b"\0\x01snponly.efi\0octet\0", (HERE, 69)).unwrap();
    let mut answer = [0; 600];
    // Unconnected sockets are not told of a closed port: ask as well from one that is.
    let probe = UdpSocket::bind((HERE, 0)).unwrap();
    probe.connect((HERE, 69)).unwrap();
    probe.send(b"\0\x01none\0octet\0").unwrap();
    probe.set_read_timeout(Some(SOON)).unwrap();
    if probe.recv(&mut answer).is_err() {
        return false;
    }
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    socket.send_to(b"\0\x04\0\x01", from).unwrap();
    assert_eq!(&answer[..length], b"\0\x03\0\x01a loader");
    true
}

#[test]
fn replies_that_never_reach_a_machine_and_a_line_that_is_too_long_are_found_by_the_doctor() {
    let site = Site::new("dhcp: proxy\n");
    assert_eq!(site.doctor(), ("nothing is wrong that can be seen from here\n".into(), Some(0)));
    // It asks again and again, and never does what only one does that has heard the answers.
    for _ in 0..3 {
        assert_eq!(site.discovers(DEAF), 1);
    }
    let (found, code) = wait::until("the doctor to see it", SOON, || {
        let told = site.doctor();
        Ok::<_, TimedOut>(told.0.contains("no_proxy_reply").then_some(told))
    })
    .unwrap();
    let wanted = format!("no proxy reply reached the client: {DEAF} asked 3 times, was answered 3 times");
    assert!(found.contains(&wanted) && found.contains("do: let UDP ports 67, 68 and 4011 through"), "{found}");
    assert_eq!(code, Some(1));
    // It has heard: it asks for its script.
    site.script(DEAF);
    wait::until("the finding to go", SOON, || {
        Ok::<_, TimedOut>((!site.doctor().0.contains("no_proxy_reply")).then_some(()))
    })
    .unwrap();

    let long = OBJECTS.replace(
        "- netboot: {allowPXE: true}",
        &format!("- netboot: {{allowPXE: true, osie: {{kernelParams: [\"debug={}\"]}}}}", "x".repeat(2100)),
    );
    fs::write(site.dir.path().join("long.yaml"), long).unwrap();
    site.apply("long.yaml");
    let (found, code) = site.doctor();
    assert!(found.contains("command_line_too_long: command line too long: default/deaf would have"), "{found}");
    assert!(found.contains("do: shorten kernelArgs or the Hardware's kernelParams"), "{found}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_machine_that_was_parked_stays_parked_when_the_server_was_killed_and_started_again() {
    let mut site = Site::new("dhcp: off\n");
    let boots = |site: &Site| site.ironhook(&["netboot", "explain", "--mac", LOOPING]);
    for count in 1..=3 {
        assert!(site.script(LOOPING).contains("initramfs"), "boot {count} brings the environment");
        wait::until("the boot to be counted", SOON, || {
            Ok::<_, TimedOut>(boots(&site).contains(&format!("Boots:         {count} ")).then_some(()))
        })
        .unwrap();
    }
    assert!(site.script(LOOPING).contains("boot_loop"), "the fourth is parked");
    run(Command::new("kill").args(["-9", &site.server.id().to_string()])).unwrap();
    wait::until("the server to be gone", SOON, || {
        Ok::<_, TimedOut>(TcpStream::connect("127.0.0.1:7480").is_err().then_some(()))
    })
    .unwrap();
    site.server = serve(site.dir.path());
    assert!(site.script(LOOPING).contains("boot_loop"), "{}", boots(&site));
    let seen = site.ironhook(&["netboot", "timeline", "--mac", LOOPING]);
    assert!(seen.matches("installer").count() >= 3, "{seen}");
}
