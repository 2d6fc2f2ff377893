//! The lab as one value: network, registry, server, witness and files, for one story with as many machines as it
//! needs. Everything it starts ends with it; what it wrote stays in `out/lab/<name>` to be read.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use spec::Mac;

use crate::accel;
use crate::command::{CommandError, command, run};
use crate::network::{ADDRESS, BRIDGE, Network, NetworkError, Tap};
use crate::process::{Process, ProcessError};
use crate::target::{self, Target, TargetError};
use crate::vm::{Build, Firmware, Vm, VmError};
use crate::wait::{self, TimedOut};

/// Only in the lab's namespace, so these can be fixed, as they are on a site.
const REGISTRY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ADDRESS), 5000);
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);
/// The server's files, images and scripts.
pub const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ADDRESS), 7080);
/// For services of the host to come up on a busy machine.
const STARTUP: Duration = Duration::from_secs(60);
/// What the action images are called in the layout and in the registry.
const ACTIONS: [&str; 5] = ["disk-wipe", "image-write", "disk-partition", "file-write", "boot"];

/// The lab could not be set up, or one of its services failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Something that `make` builds is not there.
    #[error("{0} is missing; make image builds it")]
    Missing(PathBuf),
    /// A file of the lab.
    #[error("cannot read or write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A host tool or the `ironhook` command line.
    #[error(transparent)]
    Tool(#[from] CommandError),
    /// A service.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The target image.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A machine.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// A condition.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The server's answer is not what it is documented to be.
    #[error("the answer of {0:?} is not JSON")]
    Answer(String, #[source] serde_json::Error),
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The working copy.
    pub repo: PathBuf,
    /// Our programs.
    pub programs: PathBuf,
    /// `out` of the working copy.
    pub out: PathBuf,
}

impl Places {
    /// Of the working copy that this was built from, with the programs beside the running one.
    pub fn find() -> io::Result<Self> {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let program = std::env::current_exe()?;
        let beside = program.parent().map(Path::to_owned).unwrap_or_default();
        // Tests run from `deps`, below the programs.
        let programs = if beside.ends_with("deps") { beside.join("..") } else { beside };
        Ok(Self { out: repo.join("out"), programs: programs.canonicalize()?, repo })
    }
}

/// The lab.
#[derive(Debug)]
pub struct Lab {
    places: Places,
    dir: PathBuf,
    accel: &'static str,
    target: Target,
    server: Option<Process>,
    _registry: Process,
    // Last, because the others use it.
    network: Network,
}

impl Lab {
    /// Sets up network, registry with the action images, and server. `name` is for its directory.
    pub fn new(name: &str, places: Places, say: &mut dyn FnMut(&str)) -> Result<Self, LabError> {
        let target = target::cached(&places.repo, &places.out)?;
        let dir = places.out.join("lab").join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(file_error(&dir))?;
        }
        fs::create_dir_all(&dir).map_err(file_error(&dir))?;
        let network = Network::new()?;
        let accel = accel::probe().map_err(VmError::Accelerator)?;
        say("starting the registry");
        let registry = registry(&dir)?;
        let mut lab = Self { places, dir, accel, target, server: None, _registry: registry, network };
        say("pushing the actions into it");
        for action in ACTIONS {
            lab.push(action)?;
        }
        say("starting the server");
        lab.configure()?;
        lab.start_server()?;
        Ok(lab)
    }

    /// Where logs and disks of this lab are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The accelerator that machines run under.
    pub fn accel(&self) -> &'static str {
        self.accel
    }

    /// The OS to install.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The server's log.
    pub fn server_log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Copies an image from the layout in `out/cache/oci` into the registry.
    pub fn push(&self, image: &str) -> Result<(), LabError> {
        let layout = existing(self.places.out.join("cache/oci"))?;
        let mut skopeo = command("skopeo", ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
        skopeo.arg(format!("oci:{}:docker.io/ironhook/{image}:latest", layout.display()));
        run(skopeo.arg(format!("docker://{REGISTRY}/ironhook/{image}:latest")))?;
        Ok(())
    }

    fn configure(&self) -> Result<(), LabError> {
        let out = &self.places.out;
        for artifact in ["vmlinuz-x86_64", "initramfs-x86_64", "loaders"] {
            existing(out.join(artifact))?;
        }
        let images = self.target.file.parent().unwrap_or(out).display();
        let (state, out) = (self.dir.join("state"), out.display());
        self.write(
            "serve.yaml",
            &format!(
                "address: {ADDRESS}
interface: {BRIDGE}
state: {}
artifacts: {out}
loaders: {out}/loaders
files: {images}
kernelArgs: \"insecure_registries={REGISTRY} ironhook.panic_seconds=10 no_timer_check\"
tftp: {{listen: \"{ADDRESS}:69\"}}
http: {{listen: \"{HTTP}\"}}
grpc: {{listen: \"{ADDRESS}:42113\"}}
metadata: {{listen: \"{ADDRESS}:50061\"}}
api: {{listen: \"{API}\"}}
",
                state.display()
            ),
        )?;
        Ok(())
    }

    /// Starts the server, as often as it was killed, on the same state.
    pub fn start_server(&mut self) -> Result<(), LabError> {
        let program = existing(self.places.programs.join("ironhook"))?;
        let mut serve = Command::new(program);
        serve.args(["serve", "--config"]).arg(self.dir.join("serve.yaml"));
        let server = self.server.insert(Process::spawn("ironhook serve", &mut serve, &self.server_log())?);
        answering("the server's API", server, API)
    }

    /// `kill -9`.
    pub fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// Fails when the server has ended by itself.
    pub fn check(&mut self) -> Result<(), LabError> {
        Ok(self.server.as_mut().map_or(Ok(()), Process::check)?)
    }

    /// `ironhook apply`; the text stays in the lab's directory.
    pub fn apply(&self, name: &str, yaml: &str) -> Result<(), LabError> {
        let file = self.write(&format!("{name}.yaml"), yaml)?;
        self.ironhook(&["apply", "-f", &file.display().to_string()])?;
        Ok(())
    }

    /// `ironhook get workflow NAME -o json`.
    pub fn workflow(&self, name: &str) -> Result<serde_json::Value, LabError> {
        let text = self.ironhook(&["get", "workflow", name, "-o", "json"])?;
        serde_json::from_str(&text).map_err(|source| LabError::Answer(format!("get workflow {name}"), source))
    }

    /// Waits until a workflow has ended, well or not, and returns it.
    pub fn finished(&mut self, name: &str, after: Duration) -> Result<serde_json::Value, LabError> {
        wait::until(&format!("the end of workflow {name}"), after, || {
            self.check()?;
            let workflow = self.workflow(name)?;
            let state = workflow["status"]["state"].as_str().unwrap_or_default();
            Ok(["SUCCESS", "FAILED", "TIMEOUT"].contains(&state).then(|| workflow.clone()))
        })
    }

    /// The operator's command line, to its end.
    pub fn ironhook(&self, args: &[&str]) -> Result<String, LabError> {
        let program = existing(self.places.programs.join("ironhook"))?;
        Ok(run(Command::new(program).args(args).env("IRONHOOK_SERVER", format!("http://{API}")))?)
    }

    /// Where the API is.
    pub fn api(&self) -> SocketAddr {
        API
    }

    /// Switches a machine on that boots from the network first.
    pub fn boot(&self, name: &str, mac: Mac, firmware: Firmware, disks: &[PathBuf]) -> Result<Vm, LabError> {
        let tap = Some(self.network.tap(&format!("tap-{name}"))?);
        let build = Build { name, mac, firmware, disks, media: None, tap, memory_mib: 3072 };
        Ok(Vm::start(build, self.accel, &self.dir)?)
    }

    /// Switches a machine on that has virtual media in its drive, and boots from it.
    pub fn boot_media(&self, name: &str, mac: Mac, firmware: Firmware, media: &Path) -> Result<Vm, LabError> {
        let tap = Some(self.network.tap(&format!("tap-{name}"))?);
        let build = Build { name, mac, firmware, disks: &[], media: Some(media), tap, memory_mib: 3072 };
        Ok(Vm::start(build, self.accel, &self.dir)?)
    }

    /// A port of the lab's network for a machine that is not [`Lab::boot`]'s.
    pub fn tap(&self, name: &str) -> Result<Tap, LabError> {
        Ok(self.network.tap(name)?)
    }

    /// Switches a machine on that has nothing but its disks.
    pub fn boot_disks(&self, name: &str, disks: &[PathBuf]) -> Result<Vm, LabError> {
        let build = Build {
            name,
            mac: Mac::new([0x52, 0x54, 0, 0, 0, 1]),
            firmware: Firmware::SeaBios,
            disks,
            media: None,
            tap: None,
            memory_mib: 256,
        };
        Ok(Vm::start(build, self.accel, &self.dir)?)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(file_error(&path))?;
        Ok(path)
    }
}

/// Debian's docker-registry on the bridge.
fn registry(dir: &Path) -> Result<Process, LabError> {
    let config = dir.join("registry.yaml");
    let storage = dir.join("registry");
    let text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{REGISTRY}\"}}\n",
        storage.display().to_string()
    );
    fs::write(&config, text).map_err(file_error(&config))?;
    let mut serve = command("docker-registry", ["serve"]);
    let mut process = Process::spawn("docker-registry", serve.arg(&config), &dir.join("registry.log"))?;
    answering("the registry", &mut process, REGISTRY)?;
    Ok(process)
}

fn answering(what: &str, process: &mut Process, address: SocketAddr) -> Result<(), LabError> {
    wait::until(what, STARTUP, || {
        process.check()?;
        Ok::<_, LabError>(wait::listens(address).then_some(()))
    })
}

fn existing(path: PathBuf) -> Result<PathBuf, LabError> {
    if path.exists() { Ok(path) } else { Err(LabError::Missing(path)) }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File { path, source }
}
