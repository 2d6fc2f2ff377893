//! The kernel command line of a machine, rendered from `spec`'s table, and the file that takes what does not fit. Pure.
//! In smee's order: operators' arguments come last and so win, the machine's after the site's.

use spec::cmdline::{
    EARLY, FACILITY, GRPC_AUTHORITY, HW_ADDR, IRONHOOK_CONFIG, IRONHOOK_CONSOLES, IRONHOOK_TICKET, IRONHOOK_WORKER,
    Key, LIMIT_EFI, RenderError, Renderer, TINKERBELL_INSECURE_TLS, TINKERBELL_TLS, VLAN_ID, WORKER_ID, key, site,
};
use spec::{Mac, Secret};

use crate::{Installer, Settings};

/// What does not move into the file: without these, nobody could ask for it or for anything else.
const STAY: [&Key; 5] = [&WORKER_ID, &GRPC_AUTHORITY, &TINKERBELL_TLS, &TINKERBELL_INSECURE_TLS, &IRONHOOK_TICKET];

/// Who boots the installation environment.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The interface it boots from.
    pub mac: Mac,
    /// `x86_64` or `aarch64`.
    pub arch: &'a str,
    /// What it is told.
    pub installer: &'a Installer,
}

/// A command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The line, at most [`LIMIT_EFI`] bytes.
    pub text: String,
    /// What did not fit, as the file that the line names in `ironhook.config`.
    pub file: Option<String>,
    /// How long the line would have been.
    pub wanted: usize,
}

/// No line can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Of the Hardware.
    #[error("its Hardware has the architecture {0:?}; x86_64 and aarch64 are known")]
    Architecture(String),
    /// Of `netboot.osie`.
    #[error("its Hardware has {0:?} as a file of netboot.osie, which is no plain path")]
    File(String),
    /// Boot programs would read it as something of theirs.
    #[error(
        "iPXE would not pass on the kernel argument {0:?}: control characters, \"${{\", a leading '#', \"||\", \"&&\" and \";\" mean something to it"
    )]
    Argument(String),
    /// It does not fit, or not at all.
    #[error("no kernel command line can be made")]
    CommandLine(#[source] RenderError),
}

/// Where the file of a machine is.
pub fn config_url(mac: Mac, settings: &Settings) -> String {
    settings.url(&format!("/ipxe/config/{mac}/site.conf"))
}

/// The line of a machine, with its file when it would be cut otherwise.
pub fn line(target: &Target<'_>, settings: &Settings, ticket: Option<&Secret>) -> Result<Line, LineError> {
    let fields = fields(target, settings, ticket)?;
    let wanted = fields.join(" ").len();
    let (text, file) =
        if wanted <= LIMIT_EFI { (fields.join(" "), None) } else { moved(fields, target.mac, settings)? };
    check(&text)?;
    Ok(Line { text, file, wanted })
}

fn fields(target: &Target<'_>, settings: &Settings, ticket: Option<&Secret>) -> Result<Vec<String>, LineError> {
    let Target { mac, arch, installer } = target;
    // The last console of the line is the one of /dev/console. A kernel has one serial console of a PC only and takes
    // the first that is named, there or not: ttyS1 here would silence ttyS0 (measured). What we print goes to every
    // console that the machine has (`ironhook.consoles`); on arm64 the kernel finds them in the firmware's tables.
    let consoles = match *arch {
        "x86_64" => "console=tty0 console=ttyS0,115200",
        "aarch64" => "",
        other => return Err(LineError::Architecture(other.to_owned())),
    };
    let facility = installer.facility.as_deref().unwrap_or_default();
    let operators = [&settings.kernel_args[..], &installer.extra_args[..]].concat();
    for text in operators.iter().map(String::as_str).chain([facility]) {
        check(text)?;
    }
    for name in installer.kernel.iter().chain(&installer.initrd) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+~".contains(c);
        if !name.chars().all(plain) || name.split('/').any(|part| matches!(part, "" | "..")) {
            return Err(LineError::File(name.clone()));
        }
    }
    let has = |name: &str| {
        let texts = operators.iter().map(String::as_str).chain([facility]);
        texts.flat_map(str::split_whitespace).any(|field| field.starts_with(name))
    };
    let mut line = Renderer::default();
    if let Some(vlan) = installer.vlan {
        line.set(&VLAN_ID, &vlan.to_string());
    }
    if !facility.is_empty() {
        // Operators append arguments to the facility's text (wire reference §12, 45), so it is taken as it stands.
        line.raw(&format!("{}={facility}", FACILITY.name));
    }
    line.set(&GRPC_AUTHORITY, &settings.grpc_authority);
    line.set(&TINKERBELL_TLS, &settings.grpc_tls.to_string());
    line.set(&TINKERBELL_INSECURE_TLS, &settings.grpc_insecure_tls.to_string());
    line.set(&WORKER_ID, installer.worker_id.as_str());
    line.set(&HW_ADDR, &mac.to_string());
    if let Some(ticket) = ticket {
        line.set(&IRONHOOK_TICKET, ticket.expose());
    }
    if !has("tink_worker_image=") {
        line.set(&IRONHOOK_WORKER, "builtin");
    }
    // The kernel's EFI stub finds what iPXE loaded by this name.
    let initrd = installer.initrd_name(arch);
    line.raw(&format!("initrd={}", initrd.rsplit('/').next().unwrap_or_default()));
    if !has("console=") {
        line.raw(consoles).set(&IRONHOOK_CONSOLES, "all");
    }
    // The kernel would try every cipher of the image first: 3 of 12 seconds of a boot, measured under emulation.
    // Who wants FIPS wants that.
    if !has("fips=") {
        line.raw("cryptomgr.notests=1");
    }
    for text in &operators {
        line.raw(text);
    }
    // Judged and joined without a limit; what is too long is moved next.
    let text = line.finish(usize::MAX).map_err(LineError::CommandLine)?;
    Ok(text.split(' ').map(str::to_owned).collect())
}

/// All keys of ours that can wait for a network go into the file; the kernel's own arguments cannot.
fn moved(fields: Vec<String>, mac: Mac, settings: &Settings) -> Result<(String, Option<String>), LineError> {
    let (mut stay, mut file) = (Vec::new(), Vec::<(&'static Key, String)>::new());
    for field in fields {
        let row = field.split_once('=').and_then(|(name, value)| Some((key(name)?, value.to_owned())));
        match row {
            Some((key, value)) if can_move(key) => {
                // On the line the last one counts, and a file may have one only.
                file.retain(|(other, _)| other.name != key.name);
                file.push((key, value));
            }
            _ => stay.push(field),
        }
    }
    let mut line = Renderer::default();
    line.raw(&stay.join(" "));
    let own = stay.iter().any(|field| field.starts_with("ironhook.config="));
    if !own {
        line.set(&IRONHOOK_CONFIG, &config_url(mac, settings));
    }
    let limit = if own { 0 } else { LIMIT_EFI };
    match line.finish(limit) {
        Ok(text) => Ok((text, Some(site::render(file.iter().map(|(key, value)| (*key, value.as_str())))))),
        Err(RenderError::TooLong { length, .. }) => {
            Err(LineError::CommandLine(RenderError::TooLong { length, limit: LIMIT_EFI }))
        }
        Err(error) => Err(LineError::CommandLine(error)),
    }
}

fn can_move(key: &Key) -> bool {
    !EARLY.iter().chain(&STAY).any(|other| other.name == key.name)
}

/// iPXE splits a line at spaces, expands `${...}`, and has three separators and a comment sign; it has no quotes.
fn check(text: &str) -> Result<(), LineError> {
    let special = |field: &str| matches!(field, "||" | "&&" | ";") || field.starts_with('#');
    if text.chars().any(char::is_control) || text.contains("${") || text.split_whitespace().any(special) {
        return Err(LineError::Argument(text.to_owned()));
    }
    Ok(())
}
