//! A machine without hardware for the tests of `bootkit`: its own network, mounts and host name, with its own `/run` and
//! kernel command line, and the other end of its cables in a second network. All of it ends with the test.
#![allow(dead_code, reason = "every test program uses another part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take before a test fails. Never slept.
const LIMIT: Duration = Duration::from_secs(300);
/// Where the tests' DHCP server listens.
pub const SERVER: &str = "10.77.0.1";
/// The address of `eth0`.
pub const MAC: &str = "02:00:00:77:00:01";

/// The machine and what it is connected to. Each holder lives until its standard input is closed.
pub struct Lab {
    machine: Child,
    outside: Child,
    enter: Vec<&'static str>,
}

/// The machine, or a loud skip.
pub fn lab(test: &str, cmdline: &str) -> Option<Lab> {
    match Lab::new(cmdline) {
        Ok(lab) => Some(lab),
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

/// Around the capture of the test harness: a skip is always seen.
pub fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP {test}: {why}");
}

/// As [`lab`], for tests that need a DHCP server.
pub fn lab_with_dnsmasq(test: &str, cmdline: &str) -> Option<Lab> {
    if Command::new("dnsmasq").arg("--version").output().is_err() {
        skip(test, "dnsmasq is not installed (Debian: dnsmasq-base)");
        return None;
    }
    lab(test, cmdline)
}

impl Lab {
    fn new(cmdline: &str) -> Result<Self, String> {
        let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
        let trial = Command::new("unshare").args(user).args(["--net", "--mount", "--uts", "true"]).output();
        if !trial.is_ok_and(|output| output.status.success()) {
            return Err("neither root nor allowed to make user namespaces".into());
        }
        let script = "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir /run/ironhook && \
                      ip link set lo up && echo ready && exec cat";
        let machine = hold(Command::new("unshare").args(user).args(["--net", "--mount", "--uts", "sh", "-c", script]));
        let enter = if root { vec![] } else { vec!["--user", "--preserve-credentials"] };
        let script = "ip link set lo up && echo ready && exec cat";
        let outside = hold(inside(&enter, machine.id(), "unshare").args(["--net", "sh", "-c", script]));
        let lab = Self { machine, outside, enter };
        fs::write(lab.path("/run/cmdline"), format!("{cmdline}\n")).unwrap();
        lab.machine_does("mount --bind /run/cmdline /proc/cmdline");
        Ok(lab)
    }

    /// A file of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.machine.id()).into()
    }

    /// Its text; empty when it is not there.
    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// The process that holds the network at the other end.
    pub fn outside_pid(&self) -> u32 {
        self.outside.id()
    }

    /// A program on the machine.
    pub fn on_machine(&self, program: &str) -> Command {
        inside(&self.enter, self.machine.id(), program)
    }

    /// A program at the other end of the cables.
    pub fn on_outside(&self, program: &str) -> Command {
        inside(&self.enter, self.outside.id(), program)
    }

    /// A line of shell on the machine.
    pub fn machine_does(&self, script: &str) -> String {
        succeed(self.on_machine("sh").args(["-ec", script]))
    }

    /// A line of shell at the other end.
    pub fn outside_does(&self, script: &str) -> String {
        succeed(self.on_outside("sh").args(["-ec", script]))
    }

    /// A cable from the machine's `name` to the other end's `s-<name>`, whose side is up.
    pub fn plug(&self, name: &str, mac: &str) {
        let machine = self.machine.id();
        self.outside_does(&format!(
            "ip link add s-{name} type veth peer name {name} address {mac} netns {machine}; ip link set s-{name} up"
        ));
    }

    /// A DHCP server at the other end of the cable, with the lease file of this one start.
    pub fn dnsmasq(&self, cable: &str, options: &[&str]) -> Running {
        self.outside_does(&format!("ip addr replace {SERVER}/24 dev s-{cable}"));
        let mut command = self.on_outside("dnsmasq");
        command.args(["--conf-file=/dev/null", "--no-daemon", "--port=0", "--leasefile-ro", "--log-dhcp"]);
        command.args(["--no-ping", "--bind-dynamic", "--user=root", "--group=root", "--pid-file="]);
        command.arg(format!("--interface=s-{cable}")).args(options);
        let running = Running::start(command);
        running.expect("started, version");
        running
    }

    /// The built program on the machine.
    pub fn bootkit(&self, args: &[&str]) -> Running {
        let mut command = self.on_machine(env!("CARGO_BIN_EXE_bootkit"));
        command.args(args);
        Running::start(command)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for holder in [&mut self.outside, &mut self.machine] {
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}

/// A program whose output, both streams, is read line by line. It is killed with the test.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// The next line that holds the text.
    pub fn expect(&self, text: &str) -> String {
        self.until(text).pop().unwrap()
    }

    /// The lines up to the next one that holds the text, which are shown if it does not come.
    pub fn until(&self, text: &str) -> Vec<String> {
        let (end, mut seen) = (Instant::now() + LIMIT, Vec::<String>::new());
        while seen.last().is_none_or(|line| !line.contains(text)) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("no line with {text:?} ({error}); there was:\n{}", seen.join("\n")),
            }
        }
        seen
    }

    /// Waits for its end; all lines not yet read.
    pub fn end(mut self) -> (ExitStatus, String) {
        let (end, mut rest) = (Instant::now() + LIMIT, Vec::new());
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            rest.push(line);
        }
        assert!(Instant::now() < end, "it did not end; there was:\n{}", rest.join("\n"));
        (self.child.wait().unwrap(), rest.join("\n"))
    }

    /// Sends SIGTERM to the one process that it has started.
    pub fn terminate_child(&self) {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        succeed(Command::new("kill").arg(children.trim()));
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        // nsenter has become the program, so this is its process.
        succeed(Command::new("kill").arg(self.child.id().to_string()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::yield_now();
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn inside(enter: &[&str], pid: u32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--net", "--mount", "--uts"]).args(enter).arg(program);
    command
}

/// Starts what keeps a namespace alive, and waits until it is prepared.
fn hold(command: &mut Command) -> Child {
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "a namespace could not be prepared");
    holder
}
