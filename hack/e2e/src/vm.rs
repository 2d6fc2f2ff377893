//! One virtual machine: firmware, disks, a network card on the lab's bridge, and its console.
//! What it boots is decided by firmware and server, as with a real one.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use spec::Mac;

use crate::command::command;
use crate::console::{Console, ConsoleError, Line};
use crate::network::Tap;
use crate::process::{Process, ProcessError};

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

const SECURE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const SECURE_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// What the machine starts with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firmware {
    /// BIOS; the network card's own iPXE boots from the network.
    SeaBios,
    /// UEFI; its own PXE client boots from the network.
    Ovmf,
    /// UEFI; its HTTP boot client does.
    OvmfHttp,
    /// UEFI with Microsoft's keys, which runs only what is signed.
    OvmfSecure,
}

impl Firmware {
    /// Code and variables of a UEFI.
    fn flash(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::SeaBios => None,
            Self::Ovmf | Self::OvmfHttp => Some((OVMF_CODE, OVMF_VARS)),
            Self::OvmfSecure => Some((SECURE_CODE, SECURE_VARS)),
        }
    }
}

/// How a machine is built.
#[derive(Debug)]
pub struct Build<'a> {
    /// For its files.
    pub name: &'a str,
    /// Of its network card.
    pub mac: Mac,
    /// What it starts with.
    pub firmware: Firmware,
    /// Raw disks: /dev/vda, /dev/vdb, ...
    pub disks: &'a [PathBuf],
    /// In its CD drive, before everything else.
    pub media: Option<&'a Path>,
    /// Its port of the bridge; without one it has no network card.
    pub tap: Option<Tap>,
    /// RAM.
    pub memory_mib: u32,
}

/// A machine could not be switched on.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// No accelerator could be chosen.
    #[error("cannot find out which accelerator QEMU may use")]
    Accelerator(#[source] io::Error),
    /// One of its files.
    #[error("cannot read or write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A machine that is switched on; off when dropped.
#[derive(Debug)]
pub struct Vm {
    // In the order of their ends: the console's reader ends with the process, the tap may go after it.
    process: Process,
    console: Console,
    _tap: Option<Tap>,
}

impl Vm {
    /// Switches a machine on; its files go below `dir`.
    pub fn start(build: Build<'_>, accel: &str, dir: &Path) -> Result<Self, VmError> {
        let mut qemu = qemu(&build, accel);
        if let Some((code, template)) = build.firmware.flash() {
            let vars = dir.join(format!("{}.vars", build.name));
            std::fs::copy(template, &vars).map_err(file_error(Path::new(template)))?;
            qemu.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={code}"), "-drive"]);
            qemu.arg(format!("if=pflash,format=raw,file={}", vars.display()));
        }
        match build.firmware {
            // Otherwise its PXE client is faster.
            Firmware::OvmfHttp => {
                for version in ["IPv4", "IPv6"] {
                    qemu.args(["-fw_cfg", &format!("name=opt/org.tianocore/{version}PXESupport,string=no")]);
                }
            }
            // Its variables are out of reach of what it runs.
            Firmware::OvmfSecure => {
                qemu.args(["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]);
            }
            Firmware::SeaBios | Firmware::Ovmf => {}
        }
        let log = dir.join(format!("{}.serial.log", build.name));
        let (process, output) = Process::piped("qemu", &mut qemu, &dir.join(format!("{}.qemu.log", build.name)))?;
        let console = Console::new(output, &log).map_err(file_error(&log))?;
        Ok(Self { process, console, _tap: build.tap })
    }

    /// Its serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Fails, with what QEMU said, when it has ended by itself.
    pub fn check(&mut self) -> Result<(), VmError> {
        Ok(self.process.check()?)
    }

    /// Waits for a text on the console, from its first line on.
    pub fn wait_for(&self, text: &str, after: Duration) -> Result<Line, ConsoleError> {
        self.console.wait_for(&[text], 0, after)
    }
}

/// What every machine of the lab is, the one that tries out an accelerator included.
pub(crate) fn base(accel: &str) -> Command {
    // `graphics=off` sends BIOS and iPXE to the serial port; no nested virtualisation, whose modules only cost time.
    let cpu = if accel == "kvm" { "host" } else { "max,svm=off" };
    let mut qemu = command("qemu-system-x86_64", ["-machine", "q35,graphics=off", "-accel", accel, "-cpu", cpu]);
    qemu.args(["-smp", "2", "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio"]);
    qemu
}

fn qemu(build: &Build<'_>, accel: &str) -> Command {
    let mut qemu = base(accel);
    qemu.args(["-m", &format!("{}M", build.memory_mib), "-device", "virtio-rng-pci"]);
    if let Some(tap) = &build.tap {
        qemu.args(["-netdev", &format!("tap,id=net0,ifname={},script=no,downscript=no", tap.name())]);
        // Without a ROM of the card's, OVMF's own driver and PXE client do the work.
        let rom = if build.firmware.flash().is_some() { ",romfile=" } else { "" };
        qemu.args(["-device", &format!("virtio-net-pci,netdev=net0,mac={},bootindex=1{rom}", build.mac)]);
    }
    if let Some(media) = build.media {
        qemu.args(["-drive", &format!("id=media,if=none,media=cdrom,readonly=on,format=raw,file={}", media.display())]);
        qemu.args(["-device", "ide-cd,drive=media,bootindex=0"]);
    }
    for (i, disk) in build.disks.iter().enumerate() {
        qemu.args(["-drive", &format!("id=disk{i},if=none,format=raw,cache=writeback,file={}", disk.display())]);
        qemu.args(["-device", &format!("virtio-blk-pci,drive=disk{i},serial=lab{i},bootindex={}", i + 2)]);
    }
    qemu
}

/// Makes an empty disk that takes room only as it is written.
pub fn empty_disk(path: &Path, bytes: u64) -> Result<(), VmError> {
    let make = || std::fs::File::create(path)?.set_len(bytes);
    make().map_err(file_error(path))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> VmError {
    let path = path.to_owned();
    move |source| VmError::File { path, source }
}
