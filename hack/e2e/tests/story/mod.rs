//! A story of a whole machine with the image that ships: its site bundle, and what runs on the host for it: registry,
//! proxy, the built server. The machine sees the host's loopback at 10.0.2.2, and the host sees it as itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::direct::{Build, Machine, SERIAL, image};
use e2e::httpd;
use e2e::lab::Places;
use e2e::wait::{self, TimedOut};

pub const BOOT: Duration = Duration::from_secs(600);
pub const HOST: &str = "10.0.2.2";
const CARD: [&str; 4] = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="];
pub const GRPC: &str = "grpc_authority=10.0.2.2:9 tinkerbell_tls=false worker_id=w1";
pub const NAME: &str = "site/worker:1";
pub const USER: &str = "bob";
pub const SECRET: &str = "hunter2hunter2";
/// Of the secret, by bcrypt.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuHNzobToyoUx/XDeHA.0qHXOcixZPlSm";
pub const DONE: &str = "standin: that is all";

const SOON: Duration = Duration::from_secs(60);
/// What every command line of a story begins with.
pub const CONSOLE: &str = "console=ttyS0 quiet ironhook.panic_seconds=3";
/// QEMU's own card, seen from the host.
pub const MAC: &str = "52:54:00:12:34:56";
const HARDWARE: &str = r#"apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: m1, namespace: default}
spec:
  interfaces:
    - netboot: {allowPXE: true, allowWorkflow: true}
      dhcp:
        arch: x86_64
        hostname: m1
        mac: "52:54:00:12:34:56"
        ip: {address: 127.0.0.1, netmask: 255.0.0.0}
  metadata: {instance: {id: "i-77", hostname: m1}}
"#;

/// Ended with its owner.
pub struct Service(pub Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A story: its files, and what runs on the host for it.
pub struct Story {
    name: String,
    pub dir: tempfile::TempDir,
    pub places: Places,
    services: Vec<Service>,
}

impl Story {
    pub fn new(name: &str) -> Self {
        let places = Places::find().unwrap();
        let tool = places.programs.join("ironhook-image");
        let programs = places.programs.display().to_string();
        let run = Command::new(tool)
            .current_dir(&places.repo)
            .args(["component", "--programs", &programs, "hack/e2e/components/standin"])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Self { name: format!("bootkit-{name}"), dir: tempfile::tempdir().unwrap(), places, services: Vec::new() }
    }

    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A file of the site bundle.
    pub fn bring(&self, path: &str, text: impl AsRef<[u8]>) {
        self.file(&format!("bundle/{path}"), text);
    }

    /// Debian's registry with the stand-in in it; where the host has it.
    pub fn registry(&mut self, tls: bool, password: bool) -> SocketAddr {
        let dir = self.dir.path().to_owned();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\n",
            dir.join("registry")
        );
        config += "http:\n  addr: 127.0.0.1:0\n";
        if tls {
            certificates(&dir);
            config +=
                &format!("  tls: {{certificate: {:?}, key: {:?}}}\n", dir.join("server.pem"), dir.join("server.key"));
        }
        if password {
            let file = self.file("htpasswd", format!("{USER}:{HASH}\n"));
            config += &format!("auth: {{htpasswd: {{realm: test, path: {file:?}}}}}\n");
        }
        let config = self.file("registry.yaml", config);
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        self.services.push(Service(child));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on ") {
                    let address = rest.split(['"', ' ', ',']).next().unwrap_or_default().to_owned();
                    let _ = tell.send(address);
                }
            }
        });
        let address: SocketAddr = told.recv_timeout(Duration::from_secs(60)).unwrap().parse().unwrap();
        self.copy("standin", &format!("docker://{address}/{NAME}"));
        address
    }

    /// An image of ours, to somewhere.
    pub fn copy(&self, image: &str, to: &str) {
        let layout = self.places.out.join("cache/oci");
        let output = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--dest-creds",
                &format!("{USER}:{SECRET}"),
            ])
            .arg(format!("oci:{}:docker.io/ironhook/{image}:dev", layout.display()))
            .arg(to)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The built server with this machine as its only Hardware, called `m1`.
    pub fn server(&self, more: &str) -> Server {
        let at = |name: &str| {
            let path = self.dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let any = "{listen: 127.0.0.1:0}";
        let config = format!(
            "address: 127.0.0.1\nstate: {}\nartifacts: {}\nloaders: {}\nfiles: {}\ndhcp: off\ntftp: off\nhttp: {any}\n\
             metadata: {any}\napi: {any}\n{more}",
            at("state"),
            at("artifacts"),
            at("loaders"),
            at("files")
        );
        let config = if more.contains("grpc:") { config } else { config + &format!("grpc: {any}\n") };
        let config = self.file("serve.yaml", config);
        let log = self.dir.path().join("server.log");
        let program = self.places.programs.join("ironhook");
        let stderr = fs::File::create(&log).unwrap();
        let child =
            Command::new(&program).args(["serve", "--config"]).arg(config).env("NO_COLOR", "1").stderr(stderr).spawn();
        let server = Server { log, program, _service: Service(child.unwrap()) };
        let hardware = self.file("hardware.yaml", HARDWARE);
        server.cli(&["apply", "-f", hardware.to_str().unwrap()]);
        server
    }

    /// The image that ships, with the bundle behind it, on a machine with this command line.
    pub fn boot(&self, append: &str) -> Machine {
        self.boot_with(append, &[])
    }

    pub fn boot_with(&self, append: &str, change: &[(&str, &str)]) -> Machine {
        let mut yaml = fs::read_to_string(self.places.repo.join("linuxkit/ironhook.yaml")).unwrap();
        for (from, to) in change {
            assert!(yaml.contains(from), "{from}");
            yaml = yaml.replace(from, to);
        }
        let directory = image(&self.name, &[&yaml]).unwrap_or_else(|e| panic!("{e:?}"));
        self.append_bundle(&directory);
        self.switch_on(&directory, append, &[])
    }

    /// Puts the bundle behind the initramfs, if there is one.
    pub fn append_bundle(&self, directory: &Path) {
        let bundle = self.dir.path().join("bundle");
        if !bundle.exists() {
            return;
        }
        let archive = shell("cd \"$0\" && find * | cpio -o -H newc --quiet", &[&bundle]);
        let mut initramfs = fs::File::options().append(true).open(directory.join("initramfs-x86_64")).unwrap();
        let length = initramfs.metadata().unwrap().len();
        initramfs.write_all(&[0; 4][..((4 - length % 4) % 4) as usize]).unwrap();
        initramfs.write_all(&archive).unwrap();
    }

    /// An image that is there, with more of QEMU's arguments.
    pub fn switch_on(&self, directory: &Path, append: &str, more: &[&str]) -> Machine {
        let qemu = [&SERIAL[..], &CARD, &["-smp", "2"], more].concat();
        let append = format!("{CONSOLE} {append}");
        let build = Build { name: &self.name, yaml: &[], append: &append, memory_mib: 2048, qemu: &qemu };
        Machine::boot(&build, directory).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// The image that ships as far as its first step: nothing runs on it.
    pub fn first_step(&self) -> PathBuf {
        let yaml = fs::read_to_string(self.places.repo.join("linuxkit/ironhook.yaml")).unwrap();
        let first = yaml.split("services:\n").next().unwrap();
        image(&self.name, &[first]).unwrap_or_else(|e| panic!("{e:?}"))
    }

    /// Puts a driver that the image leaves out, and the module that it needs, into the bundle, with the whole index of
    /// modules, as docs/site-bundle.md has it. `alias` is what its device is called.
    pub fn bring_driver(&self, directory: &Path, driver: &str, needs: &str, alias: &str) {
        let index = self.dir.path().join("index");
        fs::create_dir_all(&index).unwrap();
        let unpack = "cd \"$0\"; zstd -qdc \"$1\" | cpio -idm --quiet 'usr/lib/modules/*/modules.dep' 'usr/lib/modules/*/modules.alias'";
        shell(unpack, &[&index, &directory.join("initramfs-x86_64")]);
        let modules = index.join("usr/lib/modules");
        let release = fs::read_dir(&modules).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
        let own = format!("usr/lib/modules/{release}");
        let lock = fs::read_to_string(self.places.repo.join("image/debs.lock")).unwrap();
        let package = format!("linux-image-{release}");
        let mut locked = lock.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let locked = locked.find(|words| words.get(1) == Some(&package.as_str())).unwrap();
        let deb = self.places.out.join(format!("cache/debs/{}.deb", locked[5]));
        let (driver, needs) = (format!("kernel/{driver}.ko.xz"), format!("kernel/{needs}.ko.xz"));
        for module in [&driver, &needs] {
            let file = format!("{own}/{module}");
            let bytes =
                shell("dpkg-deb --fsys-tarfile \"$0\" | tar -xO \"$1\"", &[&deb, Path::new(&format!("./{file}"))]);
            self.bring(&file, bytes);
        }
        let name = Path::new(&driver).file_name().unwrap().to_str().unwrap().trim_end_matches(".ko.xz");
        let whole = |index: &str| fs::read_to_string(modules.join(&release).join(index)).unwrap();
        let dep = whole("modules.dep");
        assert!(!dep.contains(name), "{name} is in the image");
        self.bring(&format!("{own}/modules.dep"), format!("{dep}{driver}: {needs}\n{needs}:\n"));
        self.bring(&format!("{own}/modules.alias"), whole("modules.alias") + &format!("alias {alias} {name}\n"));
    }
}

/// What a line of shell writes; its arguments are `$0`, `$1`.
fn shell(script: &str, arguments: &[&Path]) -> Vec<u8> {
    let output = Command::new("sh").args(["-ec", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Its log is a file: what is in it, and what must not be, can be looked for.
pub struct Server {
    pub log: PathBuf,
    program: PathBuf,
    _service: Service,
}

impl Server {
    /// Where a service of it listens.
    pub fn address(&self, service: &str) -> SocketAddr {
        let found = wait::until(&format!("the server's {service} to listen"), SOON, || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let line =
                log.lines().find(|line| line.contains("listening") && line.contains(&format!("service=\"{service}\"")));
            Ok::<_, TimedOut>(line.map(|line| line.split("address=").nth(1).unwrap_or_default().to_owned()))
        });
        let found = found.unwrap();
        found.split_whitespace().next().unwrap_or_default().parse().unwrap_or_else(|e| panic!("{found}: {e}"))
    }

    /// The operator's command line, to its good end.
    pub fn cli(&self, args: &[&str]) -> String {
        let api = format!("http://{}", self.address("api"));
        let output = Command::new(&self.program).args(args).env("IRONHOOK_SERVER", api).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a machine gets at a path.
    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address("http")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{path}: {text}");
        text
    }
}

/// What arrives by syslog at a port of the host.
pub fn syslog() -> (u16, Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, lines) = (socket.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let kept = Arc::clone(&lines);
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length) = socket.recv(&mut buffer) {
            kept.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned());
        }
    });
    (port, lines)
}

pub fn sees(machine: &Machine, text: &str) -> String {
    machine.line(text, BOOT).unwrap_or_else(|e| panic!("{e}")).text
}

pub fn all(machine: &Machine) -> Vec<String> {
    machine.console().lines_from(0).into_iter().map(|line| line.text).collect()
}

/// A private authority, and a certificate for the host as the machine sees it.
fn certificates(dir: &Path) {
    let script = format!(
        "cd {0}; openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj '/CN=Site CA'; \
         openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj '/CN=registry'; \
         echo subjectAltName=IP:{HOST} > san; \
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem",
        dir.display()
    );
    let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Between the machine and `upstream`: 500 for a time from the first request on, then everything is passed on. It also
/// takes whole URLs, as a proxy does. Every request line is kept.
pub fn relay(upstream: SocketAddr, ill: Duration) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let (kept, first) = (Arc::clone(&asked), Mutex::new(None::<Instant>));
    let address = httpd::serve(Ipv4Addr::LOCALHOST, move |request, client| {
        kept.lock().unwrap().push(format!("{} {}", request.method, request.path));
        if first.lock().unwrap().get_or_insert_with(Instant::now).elapsed() < ill {
            return client.write_all(b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let path = match request.path.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => &request.path,
        };
        let mut server = TcpStream::connect(upstream)?;
        write!(server, "{} {path} HTTP/1.1\r\n", request.method)?;
        for header in request.headers.iter().filter(|header| !header.to_ascii_lowercase().starts_with("connection:")) {
            write!(server, "{header}\r\n")?;
        }
        write!(server, "Connection: close\r\n\r\n")?;
        server.write_all(&request.body)?;
        io::copy(&mut server, client).map(drop)
    });
    (address.unwrap(), asked)
}

/// One answer to everything.
pub fn answer(text: String) -> SocketAddr {
    httpd::serve(Ipv4Addr::LOCALHOST, move |_, client| {
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
    })
    .unwrap()
}
