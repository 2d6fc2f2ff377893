//! Images that the image itself brings, as volumes of its LinuxKit file (docs/site-bundle.md): both flavours run a
//! workflow whose action is nowhere else, one under crun without an engine, the other under docker.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::command::run;
use e2e::direct::{Build, Machine, SERIAL, image_with};
use e2e::lab::Places;
use e2e::process::Process;
use e2e::wait;
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(400);
const MAC: &str = "52:54:00:12:34:56";
const MARK: &[u8] = b"what was here before";
const VOLUME: &str = "volumes:
  - {name: disk-wipe, image: docker.io/ironhook/disk-wipe:latest, format: oci, readonly: true}
services:
";
const WORKER: &str = "      - /run/worker:/worker\n";
const BIND: &str = "      - /run/worker:/worker\n      - disk-wipe:/usr/share/ironhook/images/disk-wipe:ro\n";

/// The server on the host, which the machine sees at 10.0.2.2.
struct Server {
    _process: Process,
    program: std::path::PathBuf,
    api: String,
    grpc: u16,
}

impl Server {
    fn start(places: &Places, dir: &Path) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http, grpc, metadata, api) = (free(), free(), free(), free());
        for name in ["state", "none"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let (state, none) = (dir.join("state").display().to_string(), dir.join("none").display().to_string());
        let listen = |address| json!({"listen": address});
        let config = json!({"address": "127.0.0.1", "state": state, "artifacts": none, "loaders": none, "files": none, "dhcp": "off",
            "tftp": "off", "http": listen(http), "grpc": listen(grpc), "metadata": listen(metadata), "api": listen(api)});
        let path = dir.join("serve.yaml");
        fs::write(&path, config.to_string()).unwrap();
        let program = places.programs.join("ironhook");
        let mut serve = Command::new(&program);
        serve.args(["serve", "--config"]).arg(path);
        let process = Process::spawn("ironhook serve", &mut serve, &dir.join("server.log")).unwrap();
        let server = Self { _process: process, program, api: format!("http://{api}"), grpc: grpc.port() };
        wait::until("the server", Duration::from_secs(60), || {
            Ok::<_, wait::TimedOut>(wait::listens(api).then_some(()))
        })
        .unwrap();
        server
    }

    fn ironhook(&self, arguments: &[&str]) -> String {
        run(Command::new(&self.program).args(arguments).env("IRONHOOK_SERVER", &self.api))
            .unwrap_or_else(|e| panic!("{e}"))
    }
}

fn objects() -> String {
    let object = |kind: &str, spec: Value| {
        json!({"apiVersion": "tinkerbell.org/v1alpha1", "kind": kind, "metadata": {"name": "m1", "namespace": "default"}, "spec": spec}).to_string()
    };
    let interface = json!({"netboot": {"allowPXE": true, "allowWorkflow": true},
        "dhcp": {"mac": MAC, "ip": {"address": "10.0.2.15", "netmask": "255.255.255.0"}}});
    let action = json!({"name": "wipe", "image": "ironhook/disk-wipe:latest", "timeout": 300, "environment": {"DEST_DISK": "/dev/vda"}});
    let template = json!({"version": "0.1", "name": "wipe", "global_timeout": 900,
        "tasks": [{"name": "os", "worker": "{{.device_1}}", "volumes": ["/dev:/dev"], "actions": [action]}]});
    [
        object("Hardware", json!({"interfaces": [interface], "disks": [{"device": "/dev/vda"}]})),
        object("Template", json!({"data": template.to_string()})),
        object("Workflow", json!({"templateRef": "m1", "hardwareRef": "m1", "hardwareMap": {"device_1": MAC}})),
    ]
    .join("\n---\n")
}

/// Boots the flavour with the action's image in it, and runs the workflow to its end; what the console said.
fn runs(flavour: &str, memory_mib: u32) -> Machine {
    let places = Places::find().unwrap();
    let text = fs::read_to_string(places.repo.join("linuxkit").join(flavour)).unwrap();
    let yaml = text.replace("services:\n", VOLUME).replace(WORKER, BIND);
    assert!(yaml.contains(BIND) && yaml.contains(VOLUME));
    let name = format!("boot-embedded-{}", flavour.trim_end_matches(".yaml"));
    let image = image_with(&name, &[&yaml], &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let disk = image.join("disk.raw");
    let file = fs::File::create(&disk).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(MARK, 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&places, dir.path());
    let objects_file = dir.path().join("objects.yaml");
    fs::write(&objects_file, objects()).unwrap();
    server.ironhook(&["apply", "-f", &objects_file.display().to_string()]);
    let drive = format!("file={},format=raw,if=virtio", disk.display());
    let mut qemu = SERIAL.to_vec();
    qemu.extend(["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=", "-drive", &drive]);
    let append = format!("console=ttyS0 quiet grpc_authority=10.0.2.2:{} tinkerbell_tls=false", server.grpc);
    let build = Build { name: &name, yaml: &[], append: &append, memory_mib, qemu: &qemu };
    let machine = Machine::boot(&build, &image).unwrap_or_else(|e| panic!("{e:?}"));
    machine.line("ironhook: agent ready", BOOT).unwrap_or_else(|e| panic!("{e}"));
    let mut last = Value::Null;
    let ended = wait::until("the end of the workflow", BOOT, || {
        last = serde_json::from_str(&server.ironhook(&["get", "workflow", "m1", "-o", "json"])).unwrap();
        let state = last["status"]["state"].as_str().unwrap_or_default().to_owned();
        Ok::<_, wait::TimedOut>(["SUCCESS", "FAILED", "TIMEOUT"].contains(&state.as_str()).then_some(state))
    });
    assert_eq!(ended.unwrap_or_else(|e| panic!("{e}: {last:#}")), "SUCCESS", "{last:#}");
    let mut head = vec![0; MARK.len()];
    fs::File::open(&disk).unwrap().read_exact_at(&mut head, 0).unwrap();
    assert_ne!(head, MARK);
    machine
}

#[test]
#[ignore = "make test-full: a machine"]
fn the_slim_flavour_runs_an_embedded_action_without_an_engine() {
    let machine = runs("slim.yaml", 1024);
    machine.line("no pull: the machine has it", BOOT).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
#[ignore = "make test-full: a machine"]
fn the_engine_has_an_embedded_action_before_it_is_asked_for() {
    let machine = runs("ironhook.yaml", 3072);
    machine
        .line("1 images of /usr/share/ironhook/images/disk-wipe are in the engine", BOOT)
        .unwrap_or_else(|e| panic!("{e}"));
    machine.line("no pull: the machine has it", BOOT).unwrap_or_else(|e| panic!("{e}"));
}
