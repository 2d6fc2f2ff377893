//! A machine that is given kernel and initramfs by hand, for stories about the boot itself: no network, no server, an
//! image of a few lines of YAML. What it has besides processor and memory is said in QEMU's own words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accel;
use crate::command::{CommandError, command, run};
use crate::console::{Console, ConsoleError, Line};
use crate::lab::Places;
use crate::process::{Process, ProcessError};

/// How such a machine is built.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// For its files, in `out/lab`.
    pub name: &'a str,
    /// The LinuxKit files of its image, as text.
    pub yaml: &'a [&'a str],
    /// The kernel command line.
    pub append: &'a str,
    /// RAM.
    pub memory_mib: u32,
    /// More arguments of QEMU. The one that reads the console is `-chardev stdio,id=console`, which they connect.
    pub qemu: &'a [&'a str],
}

/// Until the rest of a line has come, on a busy machine.
const END_OF_LINE: Duration = Duration::from_secs(5);

/// A first serial port as the console.
pub const SERIAL: [&str; 2] = ["-serial", "chardev:console"];

/// Such a machine could not be built or switched on.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The working copy.
    #[error("cannot find the working copy")]
    Places(#[source] std::io::Error),
    /// A file of it.
    #[error("cannot write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The image.
    #[error(transparent)]
    Tool(#[from] CommandError),
    /// The accelerator.
    #[error("cannot find out which accelerator QEMU may use")]
    Accelerator(#[source] std::io::Error),
    /// QEMU.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Switched on; off when dropped.
#[derive(Debug)]
pub struct Machine {
    // In the order of their ends.
    process: Process,
    console: Console,
    directory: PathBuf,
}

/// Kernel and initramfs in a directory of their own.
pub fn image(name: &str, yaml: &[&str]) -> Result<PathBuf, DirectError> {
    image_with(name, yaml, &[])
}

/// As [`image`], with more arguments of `ironhook-image build`.
pub fn image_with(name: &str, yaml: &[&str], more: &[&str]) -> Result<PathBuf, DirectError> {
    let places = Places::find().map_err(DirectError::Places)?;
    let directory = places.out.join("lab").join(name);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DirectError::File { path, source }
    };
    std::fs::create_dir_all(&directory).map_err(failed(&directory))?;
    let mut build = command("true", []);
    for (i, text) in yaml.iter().enumerate() {
        let path = directory.join(format!("{i}.yaml"));
        std::fs::write(&path, text).map_err(failed(&path))?;
        if i == 0 {
            build = std::process::Command::new(places.programs.join("ironhook-image"));
            build.arg("build").arg("--cache").arg(places.out.join("cache")).args(["--level", "1", "--out"]);
            build.arg(&directory).args(more);
        }
        build.arg(path);
    }
    run(&mut build)?;
    Ok(directory)
}

impl Machine {
    /// Builds the image and switches the machine on.
    pub fn start(build: &Build<'_>) -> Result<Self, DirectError> {
        let image = image(build.name, build.yaml)?;
        Self::boot(build, &image)
    }

    /// Switches it on with an image that is there.
    pub fn boot(build: &Build<'_>, image: &Path) -> Result<Self, DirectError> {
        let (kernel, initramfs) = (image.join("vmlinuz-x86_64"), image.join("initramfs-x86_64"));
        let mut given: Vec<OsString> = vec!["-append".into(), build.append.into(), "-kernel".into(), kernel.into()];
        given.extend(["-initrd".into(), initramfs.into()]);
        Self::switch_on(build, image, &given)
    }

    /// Switches it on without a kernel: its card's ROM is to find one. Its files go into `directory`.
    pub fn netboot(build: &Build<'_>, directory: &Path) -> Result<Self, DirectError> {
        Self::switch_on(build, directory, &[])
    }

    fn switch_on(build: &Build<'_>, image: &Path, given: &[OsString]) -> Result<Self, DirectError> {
        let accel = accel::probe().map_err(DirectError::Accelerator)?;
        let cpu = if accel == "kvm" { "host" } else { "max,svm=off" };
        let mut qemu = command("qemu-system-x86_64", ["-machine", "q35,graphics=off", "-accel", accel, "-cpu", cpu]);
        qemu.args(["-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"]);
        qemu.args(["-chardev", "stdio,id=console", "-device", "virtio-rng-pci"]);
        qemu.args(["-m", &format!("{}M", build.memory_mib)]).args(given).args(build.qemu);
        let log = |kind: &str| image.join(format!("{}.{kind}.log", build.name));
        let (process, output) = Process::piped("qemu", &mut qemu, &log("qemu"))?;
        let path = log("serial");
        let console = Console::new(output, &path).map_err(|source| DirectError::File { path, source })?;
        Ok(Self { process, console, directory: image.to_owned() })
    }

    /// Its console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits for a text on the console, from its first line on.
    pub fn wait_for(&self, text: &str, after: Duration) -> Result<Line, ConsoleError> {
        self.console.wait_for(&[text], 0, after)
    }

    /// As [`Machine::wait_for`], to the end of the line.
    pub fn line(&self, text: &str, after: Duration) -> Result<Line, ConsoleError> {
        let begun = self.wait_for(text, after)?;
        let lines = self.console.follow();
        // A prompt has no end; then the beginning has to do.
        let mut whole = std::iter::from_fn(|| lines.recv_timeout(END_OF_LINE).ok());
        Ok(whole.find(|line| line.text.contains(text)).unwrap_or(begun))
    }

    /// Waits until it has switched itself off, or wanted to start again; all it said.
    pub fn until_off(mut self, after: Duration) -> Vec<Line> {
        let lines = self.console.follow();
        let end = std::time::Instant::now() + after;
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(std::time::Instant::now())) {
            said.push(line);
        }
        // Ended by itself, it is gone by now; else its owner has waited long enough.
        let _ = self.process.check();
        said
    }
}
