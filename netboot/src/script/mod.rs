//! A decision to what a boot program reads, pure: iPXE, GRUB, pxelinux, Raspberry Pi. Decides nothing itself.

mod grub;
mod ipxe;
mod line;
#[cfg(test)]
mod tests;

use spec::cmdline::RenderError;
use spec::{Mac, Secret, WorkerId};

pub use line::{Line, LineError, Target, config_url, line};

use crate::rules::Verdict;
use crate::{Custom, History, Installer, Machine, Settings};

/// Who boots, and all that its script is made of.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The interface it boots from.
    pub mac: Mac,
    /// When it is known.
    pub machine: Option<&'a Machine>,
    /// What it said.
    pub history: &'a History,
    /// Of the site, as this machine reaches it.
    pub settings: &'a Settings,
    /// For its command line.
    pub ticket: Option<&'a Secret>,
}

/// A script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// `installer`, `disk`, `park`, `custom`, `chain` or `script`.
    pub boots: &'static str,
    /// What the boot program reads.
    pub text: String,
}

/// No script can be made for the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The server's word.
    #[error("{0}")]
    Installer(String),
    /// Its line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A rule says `custom`.
    #[error("its rule says custom, and its Hardware has no iPXE script (netboot.ipxe)")]
    NoCustom,
    /// For boot programs that load from where they came.
    #[error(
        "its Hardware has an installation environment of its own (netboot.osie), which a boot program other than iPXE does not load"
    )]
    OwnEnvironment,
    /// For boot programs that chain nothing.
    #[error("a boot program other than iPXE cannot run an iPXE script")]
    NotIpxe,
}

/// Which file of those that are not iPXE's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `grub.cfg`; kernel and initramfs from the device that GRUB came from.
    Grub,
    /// `grub.cfg` of virtual media, where they lie in `/boot`.
    GrubMedia,
    /// `pxelinux.cfg/01-<mac>`.
    Pxelinux,
    /// `cmdline.txt`.
    RaspberryLine,
    /// `config.txt`.
    RaspberryConfig,
}

impl Boot<'_> {
    /// `namespace/name (mac)`, for screens.
    fn who(&self) -> String {
        let name = self.machine.map_or("an unknown machine", |machine| machine.name.as_str());
        format!("{} ({})", plain(name), self.mac)
    }

    /// `x86_64` or `aarch64`, as its Hardware or else its firmware says.
    pub fn arch(&self) -> String {
        let said = self.history.facts.architecture();
        self.machine.map_or_else(|| said.unwrap_or("x86_64").to_owned(), |machine| machine.arch.clone())
    }

    /// Why a machine has nothing to install.
    fn why_disk(&self) -> String {
        let workflow = self.machine.map(|machine| &machine.workflow);
        match workflow.filter(|workflow| !workflow.name.is_empty()) {
            None => "no workflow is waiting".into(),
            Some(last) => format!("no workflow is waiting, workflow {} has {}", last.name, last.state.as_str()),
        }
    }

    fn why_park(&self) -> String {
        let workflow = self.machine.map(|machine| machine.workflow.clone()).unwrap_or_default();
        format!("{} boots since workflow {} has failed: {}", self.history.boots, workflow.name, workflow.reason)
    }

    /// What the environment is told; a machine that nobody has described is its MAC address.
    pub fn installer(&self) -> Result<Installer, ScriptError> {
        if let Some(machine) = self.machine {
            return machine.installer.clone().map_err(ScriptError::Installer);
        }
        let worker_id = WorkerId::try_from(self.mac.to_string())
            .map_err(|error| ScriptError::Installer(format!("its MAC address is no worker id: {error}")))?;
        Ok(Installer::of(worker_id))
    }

    /// Its kernel command line.
    pub fn line(&self) -> Result<Line, ScriptError> {
        let (installer, arch) = (self.installer()?, self.arch());
        Ok(line(&Target { mac: self.mac, arch: &arch, installer: &installer }, self.settings, self.ticket)?)
    }

    /// For iPXE. None: refused.
    pub fn ipxe(&self, verdict: &Verdict) -> Option<Result<Script, ScriptError>> {
        let who = self.who();
        let script = |boots, text| Ok(Script { boots, text });
        Some(match verdict {
            Verdict::Refuse(_) => return None,
            Verdict::Installer | Verdict::Enroll => self.ipxe_installer(&who),
            Verdict::Disk => script("disk", ipxe::disk(&who, &self.why_disk())),
            Verdict::Park => script("park", ipxe::park(&who, &self.why_park(), self.mac, self.settings)),
            Verdict::Chain(url) => script("chain", ipxe::chain(&who, url)),
            Verdict::Script(text) => script("script", verbatim(text)),
            Verdict::Custom => match self.machine.and_then(|machine| machine.custom.as_ref()) {
                Some(Custom::Url(url)) => script("custom", ipxe::chain(&who, url)),
                Some(Custom::Script(text)) => script("custom", verbatim(text)),
                None => Err(ScriptError::NoCustom),
            },
        })
    }

    fn ipxe_installer(&self, who: &str) -> Result<Script, ScriptError> {
        let (installer, arch, line) = (self.installer()?, self.arch(), self.line()?);
        let files = [installer.kernel_name(&arch), installer.initrd_name(&arch)];
        let base = installer.base_url.unwrap_or_else(|| self.settings.url("/misc/osie/current"));
        Ok(Script { boots: "installer", text: ipxe::installer(who, base.trim_end_matches('/'), &files, &line) })
    }

    /// For the others. None: refused.
    pub fn file(&self, kind: Kind, verdict: &Verdict) -> Option<Result<Script, ScriptError>> {
        if let Some(own) = self.machine.and_then(|machine| machine.pxelinux.clone()).filter(|_| kind == Kind::Pxelinux)
        {
            let refused = matches!(verdict, Verdict::Refuse(_));
            return (!refused).then_some(Ok(Script { boots: "custom", text: own }));
        }
        let who = self.who();
        let script = |boots, text| Ok(Script { boots, text });
        Some(match (verdict, kind) {
            (Verdict::Refuse(_), _) => return None,
            (Verdict::Installer | Verdict::Enroll, _) => self.file_installer(kind, &who),
            (Verdict::Disk | Verdict::Park, Kind::RaspberryLine | Kind::RaspberryConfig) => return None,
            (Verdict::Disk, Kind::Grub | Kind::GrubMedia) => script("disk", grub::disk(&who, &self.why_disk())),
            (Verdict::Park, Kind::Grub | Kind::GrubMedia) => script("park", grub::park(&who, &self.why_park())),
            (Verdict::Disk | Verdict::Park, Kind::Pxelinux) => script("disk", grub::pxelinux_disk()),
            (Verdict::Chain(_) | Verdict::Script(_) | Verdict::Custom, _) => Err(ScriptError::NotIpxe),
        })
    }

    fn file_installer(&self, kind: Kind, who: &str) -> Result<Script, ScriptError> {
        let (arch, line, installer) = (self.arch(), self.line()?, self.installer()?);
        if installer.base_url.is_some() || installer.kernel.is_some() || installer.initrd.is_some() {
            return Err(ScriptError::OwnEnvironment);
        }
        let text = match kind {
            Kind::Grub => grub::installer(who, "", &arch, &line)?,
            Kind::GrubMedia => grub::installer(who, "/boot", &arch, &line)?,
            Kind::Pxelinux => grub::pxelinux_installer(&arch, &line),
            Kind::RaspberryLine => format!("{}\n", line.text),
            Kind::RaspberryConfig => grub::raspberry_config(self.settings),
        };
        Ok(Script { boots: "installer", text })
    }

    /// The reason on its screen.
    pub fn failure(&self, why: &str) -> String {
        ipxe::failure(&self.who(), why)
    }

    /// `autoexec.ipxe`: an address first, then its script.
    pub fn autoexec(&self) -> String {
        ipxe::autoexec(self.mac, self.settings)
    }

    /// The same question again, with its serial number.
    pub fn ask(&self) -> String {
        ipxe::ask(self.mac, self.settings)
    }
}

/// What GRUB reads first.
pub fn grub_doorman() -> &'static str {
    grub::DOORMAN
}

/// Whether a script failed only because its line is too long, and how long it is.
pub fn too_long(error: &ScriptError) -> Option<usize> {
    match error {
        ScriptError::Line(LineError::CommandLine(RenderError::TooLong { length, .. })) => Some(*length),
        _ => None,
    }
}

/// The operator's own, which need not begin as iPXE wants it.
fn verbatim(text: &str) -> String {
    if text.starts_with("#!ipxe") { text.to_owned() } else { format!("#!ipxe\n{text}\n") }
}

/// Text for `echo`, without what means something to iPXE.
fn plain(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control(), " ").replace("${", "$ {");
    let harmless = |field: &&str| !matches!(*field, "||" | "&&" | ";") && !field.starts_with('#');
    text.split_whitespace().filter(harmless).collect::<Vec<_>>().join(" ")
}
