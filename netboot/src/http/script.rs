//! A machine and the site's settings to an iPXE script, pure. No path through a script ends in silence.
//! The loops use nothing but what Debian's oldest supported iPXE (2019) and the ROMs of QEMU understand.

use spec::cmdline::{
    FACILITY, GRPC_AUTHORITY, HW_ADDR, IRONHOOK_WORKER, LIMIT_EFI, RenderError, Renderer, TINKERBELL_INSECURE_TLS,
    TINKERBELL_TLS, WORKER_ID,
};

use crate::{Boot, Installer, Machine, Settings};

const TRIES: u32 = 5;

/// A script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Script {
    /// `installer` or `disk`.
    pub boots: &'static str,
    pub text: String,
}

/// No script can be made for the machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScriptError {
    #[error("its Hardware has the architecture {0:?}; x86_64 and aarch64 are known")]
    Architecture(String),
    #[error(
        "iPXE would not pass on the kernel argument {0:?}: control characters, \"${{\", a leading '#', \"||\", \"&&\" and \";\" mean something to it"
    )]
    Argument(String),
    #[error("no kernel command line can be made")]
    CommandLine(#[source] RenderError),
}

/// The script for the next boot of a machine.
pub(super) fn script(machine: &Machine, settings: &Settings) -> Result<Script, ScriptError> {
    match &machine.boot {
        Boot::Installer(installer) => {
            Ok(Script { boots: "installer", text: boot_installer(machine, installer, settings)? })
        }
        Boot::Disk { why } => Ok(Script { boots: "disk", text: boot_disk(machine, why) }),
    }
}

/// What a machine is sent when there is a script for it but none can be made: the reason, on its screen.
pub(super) fn failure(machine: &Machine, why: &str) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {} ({}) cannot be booted: {}\n\
         echo Ironhook: correct it on the server; this machine starts again in 60 seconds\n\
         sleep 60 ||\n\
         reboot || exit 1\n",
        plain(&machine.name),
        machine.mac,
        plain(why),
    )
}

fn boot_installer(machine: &Machine, installer: &Installer, settings: &Settings) -> Result<String, ScriptError> {
    let arch = machine.arch.as_str();
    let line = command_line(machine, installer, settings)?;
    let base = settings.url("/misc/osie/current");
    Ok(format!(
        "#!ipxe\n\
         echo Ironhook: {name} ({mac}) boots the installation environment\n\
         set tries:int32 0\n\
         :kernel\n\
         set step kernel\n\
         set file {base}/vmlinuz-{arch}\n\
         kernel ${{file}} {line} && goto initrd || goto failed\n\
         :initrd\n\
         set step initrd\n\
         set file {base}/initramfs-{arch}\n\
         initrd ${{file}} && goto boot || goto failed\n\
         :boot\n\
         set step kernel\n\
         set file the kernel, which was loaded but does not start\n\
         boot ||\n\
         imgfree ||\n\
         :failed\n\
         inc tries\n\
         echo Ironhook: attempt ${{tries}} of {TRIES} failed: ${{file}}\n\
         iseq ${{tries}} {TRIES} && goto given_up ||\n\
         echo Ironhook: next attempt in 5 seconds\n\
         sleep 5 ||\n\
         goto ${{step}}\n\
         :given_up\n\
         echo Ironhook: given up; the server's log says what it sent. This machine starts again in 60 seconds\n\
         sleep 60 ||\n\
         reboot || exit 1\n",
        name = plain(&machine.name),
        mac = machine.mac,
    ))
}

fn boot_disk(machine: &Machine, why: &str) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {name} ({mac}) boots from its own disk: {why}\n\
         iseq ${{platform}} efi && goto firmware ||\n\
         sanboot --no-describe --drive 0x80 || goto failed\n\
         :firmware\n\
         echo Ironhook: back to the firmware, which goes on with its boot order\n\
         exit 1\n\
         :failed\n\
         echo Ironhook: the first disk (0x80) does not boot. This machine starts again in 60 seconds\n\
         sleep 60 ||\n\
         reboot || exit 1\n",
        name = plain(&machine.name),
        mac = machine.mac,
        why = plain(why),
    )
}

/// In smee's order: operators' arguments come last and so win, the machine's after the site's.
fn command_line(machine: &Machine, installer: &Installer, settings: &Settings) -> Result<String, ScriptError> {
    let serial = match machine.arch.as_str() {
        "x86_64" => "ttyS0,115200",
        "aarch64" => "ttyAMA0,115200",
        other => return Err(ScriptError::Architecture(other.to_owned())),
    };
    let facility = installer.facility.as_deref().unwrap_or_default();
    let operators = [&settings.kernel_args[..], &installer.extra_args[..]].concat();
    for text in operators.iter().map(String::as_str).chain([facility]) {
        check(text)?;
    }
    let mut line = Renderer::default();
    if !facility.is_empty() {
        // Operators append arguments to the facility's text (wire reference §12, 45), so it is taken as it stands.
        line.raw(&format!("{}={facility}", FACILITY.name));
    }
    line.set(&GRPC_AUTHORITY, &settings.grpc_authority);
    line.set(&TINKERBELL_TLS, &settings.grpc_tls.to_string());
    line.set(&TINKERBELL_INSECURE_TLS, &settings.grpc_insecure_tls.to_string());
    line.set(&WORKER_ID, installer.worker_id.as_str());
    line.set(&HW_ADDR, &machine.mac.to_string());
    line.set(&IRONHOOK_WORKER, "builtin");
    // The kernel's EFI stub finds what iPXE loaded by this name.
    line.raw(&format!("initrd=initramfs-{}", machine.arch));
    let has_console = |text: &str| text.split_whitespace().any(|field| field.starts_with("console="));
    if !operators.iter().map(String::as_str).chain([facility]).any(has_console) {
        line.raw(&format!("console=tty0 console={serial}"));
    }
    for text in &operators {
        line.raw(text);
    }
    let line = line.finish(LIMIT_EFI).map_err(ScriptError::CommandLine)?;
    check(&line)?;
    Ok(line)
}

/// iPXE splits a line at spaces, expands `${...}`, and has three separators and a comment sign; it has no quotes.
fn check(text: &str) -> Result<(), ScriptError> {
    let special = |field: &str| matches!(field, "||" | "&&" | ";") || field.starts_with('#');
    if text.chars().any(char::is_control) || text.contains("${") || text.split_whitespace().any(special) {
        return Err(ScriptError::Argument(text.to_owned()));
    }
    Ok(())
}

/// Text for `echo`, without what means something to iPXE.
fn plain(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control(), " ").replace("${", "$ {");
    let harmless = |field: &&str| !matches!(*field, "||" | "&&" | ";") && !field.starts_with('#');
    text.split_whitespace().filter(harmless).collect::<Vec<_>>().join(" ")
}
