//! From a command line to a worker on a whole machine with the image that ships: where the worker comes from, what a site
//! may do wrong, and the words that a person then sees. The machine sees the host's loopback at 10.0.2.2.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::direct::{Build, Machine, SERIAL, image};
use e2e::httpd;
use e2e::lab::Places;

const BOOT: Duration = Duration::from_secs(600);
const HOST: &str = "10.0.2.2";
const CARD: [&str; 4] = ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="];
const GRPC: &str = "grpc_authority=10.0.2.2:9 tinkerbell_tls=false worker_id=w1";
const NAME: &str = "site/worker:1";
const USER: &str = "bob";
const SECRET: &str = "hunter2hunter2";
/// Of the secret, by bcrypt.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuHNzobToyoUx/XDeHA.0qHXOcixZPlSm";
const DONE: &str = "standin: that is all";

/// Ended with its owner.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A story: its files, and what runs on the host for it.
struct Story {
    name: String,
    dir: tempfile::TempDir,
    places: Places,
    services: Vec<Service>,
}

impl Story {
    fn new(name: &str) -> Self {
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

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A file of the site bundle.
    fn bring(&self, path: &str, text: impl AsRef<[u8]>) {
        self.file(&format!("bundle/{path}"), text);
    }

    /// Debian's registry with the stand-in in it; where the host has it.
    fn registry(&mut self, tls: bool, password: bool) -> SocketAddr {
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
        let lines = io::BufRead::lines(io::BufReader::new(child.stderr.take().unwrap()));
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
        self.copy(&format!("docker://{address}/{NAME}"));
        address
    }

    /// The stand-in, to somewhere.
    fn copy(&self, to: &str) {
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
            .arg(format!("oci:{}:docker.io/ironhook/standin:dev", layout.display()))
            .arg(to)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The image that ships, with the bundle behind it, on a machine with this command line.
    fn boot(&self, append: &str) -> Machine {
        self.boot_with(append, &[])
    }

    fn boot_with(&self, append: &str, change: &[(&str, &str)]) -> Machine {
        let mut yaml = fs::read_to_string(self.places.repo.join("linuxkit/ironhook.yaml")).unwrap();
        for (from, to) in change {
            assert!(yaml.contains(from), "{from}");
            yaml = yaml.replace(from, to);
        }
        let directory = image(&self.name, &[&yaml]).unwrap_or_else(|e| panic!("{e:?}"));
        let bundle = self.dir.path().join("bundle");
        if bundle.exists() {
            let script = "cd \"$0\" && find etc | cpio -o -H newc --quiet";
            let archive = Command::new("sh").args(["-c", script]).arg(&bundle).output().unwrap();
            assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
            let path = directory.join("initramfs-x86_64");
            let mut initramfs = fs::File::options().append(true).open(&path).unwrap();
            let length = initramfs.metadata().unwrap().len();
            initramfs.write_all(&[0; 4][..((4 - length % 4) % 4) as usize]).unwrap();
            initramfs.write_all(&archive.stdout).unwrap();
        }
        let qemu = [&SERIAL[..], &CARD, &["-smp", "2"]].concat();
        let append = format!("console=ttyS0 quiet ironhook.panic_seconds=3 {append}");
        let build = Build { name: &self.name, yaml: &[], append: &append, memory_mib: 2048, qemu: &qemu };
        Machine::boot(&build, &directory).unwrap_or_else(|e| panic!("{e:?}"))
    }
}

fn sees(machine: &Machine, text: &str) -> String {
    machine.line(text, BOOT).unwrap_or_else(|e| panic!("{e}")).text
}

fn all(machine: &Machine) -> Vec<String> {
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
fn relay(upstream: SocketAddr, ill: Duration) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
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
fn answer(text: String) -> SocketAddr {
    httpd::serve(Ipv4Addr::LOCALHOST, move |_, client| {
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len())
    })
    .unwrap()
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_worker_comes_from_an_insecure_registry_with_a_password_that_is_ill_for_a_minute_and_is_given_what_hook_gives() {
    let mut story = Story::new("worker");
    let registry = story.registry(false, true);
    let (relay, asked) = relay(registry, Duration::from_secs(60));
    // The password stands in metadata only.
    let metadata =
        answer(format!(r#"{{"ironhook": {{"registry_username": "{USER}", "registry_password": "{SECRET}"}}}}"#));
    let own = format!("{HOST}:{}", relay.port());
    let machine = story.boot(&format!(
        "{GRPC} docker_registry={own} tink_worker_image={own}/{NAME} insecure_registries={own} ironhook.metadata=http://{HOST}:{}",
        metadata.port()
    ));
    let ill = sees(&machine, "worker: waiting for image");
    assert!(ill.contains("[registry]") && ill.contains("500"), "{ill}");
    sees(&machine, &format!("ironhook: worker: pulled {own}/{NAME}"));
    sees(&machine, DONE);
    let said = all(&machine);
    let has = |text: &str| said.iter().any(|line| line.contains(text));
    for variable in [
        &format!("DOCKER_REGISTRY={own}"),
        "REGISTRY_USERNAME=bob",
        "TINKERBELL_GRPC_AUTHORITY=10.0.2.2:9",
        "TINKERBELL_TLS=false",
        "TINKERBELL_INSECURE_TLS=",
        "WORKER_ID=w1",
        "ID=w1",
        "HTTP_PROXY=",
        "HTTPS_PROXY=",
        "NO_PROXY=",
    ] {
        assert!(said.iter().any(|line| line.ends_with(&format!("standin: env {variable}"))), "{variable} in {said:#?}");
    }
    for mount in ["/worker", "/dev", "/run"] {
        assert!(said.iter().any(|line| line.ends_with(&format!("standin: mount {mount}"))), "{mount} in {said:#?}");
    }
    for fact in ["the engine's socket", "the machine's /run", "the machine's /dev", "REGISTRY_PASSWORD has 14 letters"]
    {
        assert!(has(&format!("standin: {fact}")), "{fact} in {said:#?}");
    }
    // Privileged: every capability there is.
    let caps = said.iter().find_map(|line| line.split_once("standin: caps ")).unwrap().1.trim().to_owned();
    assert!(u64::from_str_radix(&caps, 16).unwrap().count_ones() >= 40, "{caps}");
    assert!(has("standin: secret on the command line 0 times, in dmesg 0 times"), "{said:#?}");
    assert!(!has(SECRET), "the secret is on the console");
    assert!(asked.lock().unwrap().iter().all(|line| !line.contains(SECRET)));
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_registry_with_a_private_authority_is_believed_because_of_the_site_bundle() {
    let mut story = Story::new("authority");
    let registry = story.registry(true, false);
    let own = format!("{HOST}:{}", registry.port());
    story.bring("etc/ironhook/ca.pem", fs::read(story.dir.path().join("ca.pem")).unwrap());
    // Everything else is in the bundle too: the command line says nothing.
    story.bring(
        "etc/ironhook/site.conf",
        format!("grpc_authority=10.0.2.2:9\ntinkerbell_tls=false\ntink_worker_image={own}/{NAME}\n"),
    );
    let machine = story.boot("");
    sees(&machine, "command line: with the keys of /etc/ironhook/site.conf");
    sees(&machine, &format!("ironhook: worker: pulled {own}/{NAME}"));
    sees(&machine, DONE);
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_proxy_is_the_only_way_to_the_registry() {
    let mut story = Story::new("proxy");
    let registry = story.registry(false, false);
    let (proxy, asked) = relay(registry, Duration::ZERO);
    // Nobody but the proxy finds a host of this name.
    let machine = story.boot(&format!(
        "{GRPC} tink_worker_image=registry.test/{NAME} insecure_registries=registry.test HTTP_PROXY=http://{HOST}:{0} HTTPS_PROXY=http://{HOST}:{0}",
        proxy.port()
    ));
    sees(&machine, DONE);
    let asked = asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.starts_with("GET http://registry.test/v2/")), "{asked:?}");
}

#[test]
#[ignore = "make test-full: a machine"]
fn without_a_registry_the_images_of_the_bundle_are_there() {
    let story = Story::new("embedded");
    let name = "registry.invalid/site/worker:1";
    let images = story.dir.path().join("bundle/etc/ironhook/images");
    fs::create_dir_all(images.parent().unwrap()).unwrap();
    story.copy(&format!("oci:{}:{name}", images.display()));
    let machine = story.boot(&format!("{GRPC} tink_worker_image={name}"));
    sees(&machine, "1 images of /etc/ironhook/images are in the engine");
    sees(&machine, &format!("{name} cannot be pulled, so the engine's own copy is used"));
    sees(&machine, DONE);
}

#[test]
#[ignore = "make test-full: a machine"]
fn an_image_without_its_engine_says_so_and_the_server_gets_the_report() {
    let story = Story::new("no-engine");
    let kept = Arc::<Mutex<Vec<(String, usize)>>>::default();
    let sent = Arc::clone(&kept);
    let server = httpd::serve(Ipv4Addr::LOCALHOST, move |request, client| {
        sent.lock().unwrap().push((format!("{} {}", request.method, request.path), request.body.len()));
        client.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    })
    .unwrap();
    let machine = story.boot_with(
        &format!("{GRPC} ironhook.server=http://{HOST}:{}", server.port()),
        &[("    image: docker.io/ironhook/docker:dev\n", "    image: docker.io/ironhook/docker:dev\n    command: [/usr/bin/bootkit, engine, --dockerd, /nowhere/dockerd]\n")],
    );
    sees(&machine, "engine failed [engine_missing]: no dockerd at /nowhere/dockerd");
    sees(&machine, "engine: what helps: the image is incomplete");
    sees(&machine, "ironhook: report: sent to ");
    let kept = kept.lock().unwrap();
    assert!(kept[0].0.starts_with("PUT /report/52:54:00:12:34:56") && kept[0].1 > 1000, "{kept:?}");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_server_that_is_away_for_three_minutes_is_waited_for() {
    let story = Story::new("away");
    // Taken and given back: nobody listens there until the server does.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let machine = story.boot(&format!("grpc_authority={HOST}:{port} tinkerbell_tls=false worker_id=w1"));
    sees(&machine, "ironhook: network ");
    std::thread::sleep(Duration::from_secs(180));
    assert!(!all(&machine).iter().any(|line| line.contains("agent ready")));
    let state = story.dir.path();
    for name in ["state", "artifacts", "loaders", "files"] {
        fs::create_dir_all(state.join(name)).unwrap();
    }
    let at = |name: &str| state.join(name).display().to_string();
    let config = story.file(
        "serve.yaml",
        format!(
            "address: 127.0.0.1\nstate: {}\nartifacts: {}\nloaders: {}\nfiles: {}\ndhcp: off\ntftp: off\nhttp: {{listen: 127.0.0.1:0}}\n\
             grpc: {{listen: 127.0.0.1:{port}}}\nmetadata: off\napi: {{listen: 127.0.0.1:0}}\n",
            at("state"),
            at("artifacts"),
            at("loaders"),
            at("files")
        ),
    );
    let server = Command::new(story.places.programs.join("ironhook"))
        .args(["serve", "--config"])
        .arg(config)
        .stderr(Stdio::null())
        .spawn();
    let _server = Service(server.unwrap());
    sees(&machine, "ironhook: agent ready (worker w1, server 10.0.2.2:");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_bare_key_is_named_and_ends_the_boot() {
    let machine = Story::new("bare").boot("grpc_authority=10.0.2.2:9 tinkerbell_tls worker_id=w1");
    sees(&machine, "command line: ERROR: tinkerbell_tls: given without a value, expected tinkerbell_tls=true or false");
    sees(&machine, "cmdline failed [bad_config]");
    sees(&machine, "starting again in 3 s");
}

#[test]
#[ignore = "make test-full: a machine"]
fn four_kilobytes_of_command_line_end_the_boot_and_a_file_takes_them() {
    let hosts: Vec<String> = (0..300).map(|n| format!("host-{n:03}.test")).collect();
    let long = format!("NO_PROXY={}", hosts.join(","));
    assert!(long.len() > 4000);
    let story = Story::new("long");
    let machine = story.boot(&format!("ironhook.worker=image {long} {GRPC} tink_worker_image=registry.test/{NAME}"));
    let told = sees(&machine, "the kernel keeps 2047 and has cut the rest off");
    assert!(told.contains("ironhook.config=<url>"), "{told}");
    sees(&machine, "cmdline failed [command_line_cut]");
    let said = machine.until_off(BOOT);
    assert!(
        !said.iter().any(|line| line.text.contains("agent ready") || line.text.contains("worker:")),
        "a worker was started"
    );

    // The same keys from a file: the agent of the image has all of them, and waits for its server.
    let file = answer(format!("{long}\nHTTP_PROXY=http://proxy.test:3128\n{}\n", GRPC.replace(' ', "\n")));
    let machine = story.boot(&format!("ironhook.config=http://{HOST}:{}/site.conf", file.port()));
    sees(&machine, "ironhook.config has no digest and comes without TLS");
    sees(&machine, "10.0.2.2:9");
}
