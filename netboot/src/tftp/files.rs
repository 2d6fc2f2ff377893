//! What a TFTP path means: a loader, the script or configuration of the machine that asks, kernel and initramfs, or
//! the files of a Raspberry Pi. No path leads anywhere else; what is unknown is said at once.

use std::path::Path;

use axum::body::Bytes;
use spec::Mac;

use super::packet::{ErrorCode, Request};
use super::source::Source;
use crate::asker::Asker;
use crate::rules::Verdict;
use crate::script::{Kind, grub_doorman};
use crate::{Netboot, Step};

type Refused = (ErrorCode, String);

/// Finds the content of a request.
pub(super) fn find(request: &Request, asker: &Asker) -> Result<Source, Refused> {
    if request.mode != "octet" {
        return Err((ErrorCode::Illegal, format!("mode {:?} is not served, only octet", request.mode)));
    }
    let path = request.path.replace('\\', "/");
    let name = request.base_name();
    let folder = path.rsplit('/').nth(1).unwrap_or_default();
    if let Some(loader) = loader(&asker.netboot, name) {
        return Ok(loader.into());
    }
    match name {
        "autoexec.ipxe" => script(asker, folder.parse().ok()),
        "grub.cfg" => match folder.parse::<Mac>() {
            Ok(mac) => machine_file(asker, Some(mac), Kind::Grub),
            Err(_) => Ok(Bytes::from_static(grub_doorman().as_bytes()).into()),
        },
        _ if folder == "pxelinux.cfg" => match name.parse::<Mac>() {
            Ok(mac) if name.starts_with("01-") => machine_file(asker, Some(mac), Kind::Pxelinux),
            _ => Err(missing(name)),
        },
        _ if is_artifact(name) => file(&asker.settings.osie, name)?.ok_or_else(|| missing(name)),
        _ if is_serial(folder) => raspberry(asker, name),
        _ => Err(missing(name)),
    }
}

/// OTEL's suffix of smee's names (wire reference §7.3) means nothing here.
fn loader(netboot: &Netboot, name: &str) -> Option<Bytes> {
    netboot.loaders.get(name).or_else(|| {
        let (plain, trace) = name.split_once("-00-")?;
        let hex = trace.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if hex { netboot.loaders.get(plain) } else { None }
    })
}

fn missing(name: &str) -> Refused {
    (ErrorCode::NotFound, format!("there is no file {name:?}"))
}

fn is_artifact(name: &str) -> bool {
    ["vmlinuz-x86_64", "vmlinuz-aarch64", "initramfs-x86_64", "initramfs-aarch64"].contains(&name)
}

/// A Raspberry Pi asks below the last eight digits of its serial number.
fn is_serial(folder: &str) -> bool {
    folder.len() == 8 && folder.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `name` is one component.
fn file(dir: &Path, name: &str) -> Result<Option<Source>, Refused> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Ok(None);
    }
    Source::open(&dir.join(name)).map_err(|error| {
        tracing::error!(dir = %dir.display(), name, %error, "TFTP: cannot read a file");
        (ErrorCode::Undefined, format!("the server cannot read {name:?}"))
    })
}

fn script(asker: &Asker, said: Option<Mac>) -> Result<Source, Refused> {
    let Some(mac) = said.or(asker.mac) else { return Err(missing("autoexec.ipxe")) };
    asker.netboot.stages.sign(mac);
    if let Verdict::Refuse(why) = asker.decide().verdict {
        return Err((ErrorCode::NotFound, why));
    }
    Ok(Bytes::from(asker.boot(mac, None).autoexec()).into())
}

fn machine_file(asker: &Asker, said: Option<Mac>, kind: Kind) -> Result<Source, Refused> {
    let Some(mac) = said.or(asker.mac) else { return Err(missing("a configuration for this machine")) };
    asker.netboot.stages.sign(mac);
    asker.remember();
    let ticket = asker.machine.as_ref().and_then(|_| asker.netboot.machines.ticket(mac));
    let decision = asker.decide();
    match asker.boot(mac, ticket.as_ref()).file(kind, &decision.verdict) {
        None => Err((ErrorCode::NotFound, "the rules give this machine nothing to boot".into())),
        Some(Ok(script)) => {
            asker.netboot.counters.scripts.one();
            asker.netboot.sink.step(mac, Step::Script { boots: script.boots.into(), rule: decision.rule });
            Ok(Bytes::from(script.text).into())
        }
        Some(Err(error)) => Err((ErrorCode::Undefined, crate::chain(&error))),
    }
}

fn raspberry(asker: &Asker, name: &str) -> Result<Source, Refused> {
    if let Some(source) = asker.settings.raspberry.as_deref().map(|dir| file(dir, name)).transpose()?.flatten() {
        return Ok(source);
    }
    match name {
        "cmdline.txt" => machine_file(asker, None, Kind::RaspberryLine),
        "config.txt" => machine_file(asker, None, Kind::RaspberryConfig),
        _ => Err(missing(name)),
    }
}
