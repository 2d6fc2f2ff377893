//! A site around the machine of [`crate::lab`]: a cable, a lease, Debian's registry behind a proxy that makes mistakes on
//! demand, and a worker image in it that says what it was given. The engine under test is the host's real dockerd,
//! started by the built `bootkit engine`.
#![allow(dead_code, reason = "every test program uses another part")]

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::lab::{Lab, Running, lab, skip};

pub mod proxy;

/// Where the other end of the cable is, and the machine.
pub const HOST: &str = "10.77.0.1";
pub const MACHINE: &str = "10.77.0.2";
/// The registry itself, and what makes its mistakes.
pub const REGISTRY: &str = "10.77.0.1:5000";
pub const FAULTY: &str = "10.77.0.1:5001";
/// Of the registry, where it asks for any: the second is `hunter2hunter2` by bcrypt.
pub const USER: &str = "bob";
pub const PASSWORD: &str = "hunter2hunter2";
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuHNzobToyoUx/XDeHA.0qHXOcixZPlSm";
/// What the image of the tests is called behind its registry.
pub const NAME: &str = "site/worker:1";

/// How the registry is.
#[derive(Default)]
pub struct Registry {
    pub tls: bool,
    pub password: bool,
}

pub struct Site {
    pub lab: Lab,
    pub dir: tempfile::TempDir,
    registry: Option<Running>,
    pub engine: Option<Running>,
}

impl Site {
    /// The site, or a loud skip.
    pub fn new(test: &str, cmdline: &str) -> Option<Self> {
        for program in ["dockerd", "docker", "docker-registry", "skopeo", "openssl", "busybox", "crun", "iptables"] {
            let found = Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")]).output();
            if !found.is_ok_and(|output| output.status.success()) {
                skip(
                    test,
                    &format!(
                        "{program} is not installed (docker.io, docker-registry, skopeo, openssl, busybox-static, crun, iptables)"
                    ),
                );
                return None;
            }
        }
        if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
            skip(test, "needs root: a container engine runs as root");
            return None;
        }
        let lab = lab(test, cmdline)?;
        // Its own /etc over the host's, whose alternatives the engine's tools need.
        lab.machine_does(
            "mkdir -p /run/etc/upper /run/etc/work /run/docker /host_root/run /worker; \
             mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc; \
             mkdir -p /etc/ironhook; mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/docker; mount -t tmpfs tmpfs /worker",
        );
        // The lab's own /sys hides the host's groups, of whatever generation; the engine's containers need them.
        lab.machine_does(
            "if test -e /proc/1/root/sys/fs/cgroup/cgroup.controllers; then mount -t cgroup2 cgroup2 /sys/fs/cgroup; else \
             mount -t tmpfs tmpfs /sys/fs/cgroup; \
             for one in $(awk '$4 == 1 && $2 > 0 { print $1 }' /proc/cgroups); do \
             mkdir /sys/fs/cgroup/$one; mount -t cgroup -o $one cgroup /sys/fs/cgroup/$one; done; \
             mkdir /sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd || true; fi",
        );
        lab.plug("eth0", super::lab::MAC);
        lab.outside_does(&format!("ip addr add {HOST}/24 dev s-eth0"));
        lab.machine_does(&format!(
            "ip addr add {MACHINE}/24 dev eth0; ip link set eth0 up; ip route add default via {HOST}"
        ));
        Some(Self { lab, dir: tempfile::tempdir().unwrap(), registry: None, engine: None })
    }

    /// The network is up, as `bootkit network` says it.
    pub fn lease(&self) {
        let lease = json!({"interface": "eth0", "mac": super::lab::MAC, "address": MACHINE, "prefix": 24, "server": HOST, "seconds": 3600});
        fs::write(self.lab.path("/run/ironhook/lease.new"), lease.to_string()).unwrap();
        fs::rename(self.lab.path("/run/ironhook/lease.new"), self.lab.path("/run/ironhook/lease.json")).unwrap();
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts the registry, with the image of the tests in it.
    pub fn registry(&mut self, kind: &Registry) {
        let dir = self.dir.path();
        let mut http = json!({ "addr": REGISTRY });
        if kind.tls {
            self.authority();
            http["tls"] = json!({"certificate": dir.join("server.pem"), "key": dir.join("server.key")});
        }
        let mut config = json!({"version": "0.1", "log": {"level": "warn"}, "storage": {"filesystem": {"rootdirectory": dir.join("registry")}}, "http": http});
        if kind.password {
            let passwords = self.file("htpasswd", format!("{USER}:{HASH}\n"));
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": passwords}});
        }
        let config = self.file("registry.yaml", config.to_string());
        let mut command = self.lab.on_outside("docker-registry");
        command.arg("serve").arg(config);
        self.registry = Some(Running::start(command));
        self.push(NAME);
    }

    /// Stops it.
    pub fn no_registry(&mut self) {
        self.registry = None;
    }

    /// Puts the image of the layout into the registry.
    pub fn push(&self, name: &str) {
        let layout = self.layout();
        super::lab::eventually("the image is in the registry", || {
            let mut skopeo = self.lab.on_outside("skopeo");
            skopeo.args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--dest-creds",
                &format!("{USER}:{PASSWORD}"),
            ]);
            skopeo
                .arg(format!("oci:{}:{REGISTRY}/{NAME}", layout.display()))
                .arg(format!("docker://{REGISTRY}/{name}"));
            skopeo.output().unwrap().status.success()
        });
    }

    /// A private authority and the registry's certificate.
    fn authority(&self) {
        let script = format!(
            "cd {0}; openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=Site CA' 2>&1; \
             openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj '/CN=registry' 2>&1; \
             echo subjectAltName=IP:{HOST} > san; \
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem 2>&1",
            self.dir.path().display()
        );
        let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// An OCI layout with the image of the tests under its full name: busybox, and a layer that compresses badly.
    pub fn layout(&self) -> PathBuf {
        let dir = self.dir.path().join("layout");
        if dir.join("index.json").exists() {
            return dir;
        }
        let blob = |bytes: &[u8]| {
            let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
            fs::write(dir.join("blobs/sha256").join(&hex), bytes).unwrap();
            json!({"digest": format!("sha256:{hex}"), "size": bytes.len()})
        };
        let layer = layer();
        let diff: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
        // Says what it was given where the test can read it, then works until it is ended.
        let script = "env > /worker/env; cat /proc/self/mountinfo > /worker/mounts; grep CapEff /proc/self/status > /worker/caps; \
                      test -S /var/run/docker.sock && echo socket >> /worker/caps; hostname >> /worker/caps; echo begun; \
                      while ! test -e /worker/end; do sleep 1; done; echo last words; exit 7";
        let config = json!({"architecture": arch(), "os": "linux", "config": {"Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff}")]}});
        let mut config = blob(config.to_string().as_bytes());
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let mut layer = blob(&layer);
        layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]});
        let mut entry = blob(manifest.to_string().as_bytes());
        entry["mediaType"] = manifest["mediaType"].clone();
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": format!("{REGISTRY}/{NAME}")});
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
        dir
    }

    /// Starts `bootkit engine` with the real dockerd and waits until it answers.
    pub fn engine(&mut self) {
        let engine = self.lab.bootkit(&["engine", "--dockerd", dockerd()]);
        engine.expect("ironhook: engine ready");
        // In the docker component /run is what the others have as /run/docker.
        self.lab.machine_does("touch /run/docker/docker.sock; mount --bind /run/docker.sock /run/docker/docker.sock");
        self.engine = Some(engine);
    }

    /// The docker command line on the machine.
    pub fn docker(&self, args: &[&str]) -> String {
        let output =
            self.lab.on_machine("docker").args(["--host", "unix:///run/docker.sock"]).args(args).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Takes worker and image away from the engine.
    pub fn forget(&self) {
        self.docker(&["rm", "--force", "tink-worker"]);
        for image in self.docker(&["images", "--quiet"]).lines() {
            self.docker(&["rmi", "--force", image]);
        }
    }

    /// What arrives by syslog at the other end of the cable.
    pub fn syslog(&self, address: &'static str) -> Arc<Mutex<Vec<String>>> {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (kept, pid) = (Arc::clone(&lines), self.lab.outside_pid());
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            proxy::enter(pid);
            let socket = UdpSocket::bind(address).unwrap();
            ready.send(()).unwrap();
            let mut buffer = [0; 65536];
            while let Ok(length) = socket.recv(&mut buffer) {
                kept.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
            }
        });
        started.recv().unwrap();
        lines
    }

    /// The container as the engine describes it.
    pub fn inspect(&self, name: &str) -> Value {
        serde_json::from_str::<Value>(&self.docker(&["inspect", name])).unwrap()[0].clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.docker(&["rm", "--force", "tink-worker"]);
            engine.terminate();
            let _ = engine.end();
        }
        // Places that only the engine's component has; other tests may still have theirs in them.
        for place in ["/host_root/run", "/host_root", "/worker"] {
            let _ = fs::remove_dir(place);
        }
    }
}

/// Whether privileged containers can be made here, or a loud skip.
pub fn all_capabilities(test: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let last: u32 = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let all = mask("CapEff:").count_ones() == last + 1;
    if !all {
        skip(
            test,
            "not all capabilities: privileged containers cannot be made here; hack/e2e/tests/bootkit_vm.rs shows it on a whole machine",
        );
    }
    all
}

fn dockerd() -> &'static str {
    ["/usr/sbin/dockerd", "/usr/bin/dockerd"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("dockerd")
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let busybox = Command::new("sh").args(["-c", "command -v busybox"]).output().unwrap().stdout;
    let busybox = fs::read(String::from_utf8(busybox).unwrap().trim()).unwrap();
    let mut add = |name: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("bin/busybox", 0o755, &busybox);
    // Splitmix64: no compressor makes it smaller.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).to_le_bytes()
    })
    .take(500_000)
    .flatten()
    .collect();
    add("noise", 0o644, &noise);
    for tool in ["sh", "env", "cat", "grep", "test", "sleep", "echo", "hostname"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{tool}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}
