//! `/iso/<mac>/<name>.iso`: virtual media of one machine, made as they are read, or an existing ISO with this machine's
//! arguments in its placeholder. Tickets are left out: media are read in thousands of pieces and booted whenever.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{StatusCode, request::Parts};
use axum::response::{IntoResponse, Response};
use spec::activity::What;

use super::content::{Content, Reader};
use super::{Http, Peer, refuse};
use crate::asker::Asker;
use crate::chain;
use crate::iso::{self, Configs, Image, Spots};
use crate::rules::Verdict;
use crate::script::{Boot, Kind};

const MEDIA: &str = "application/vnd.efi-iso";
/// Existing ISOs whose placeholders are remembered.
const REMEMBERED: usize = 64;

/// Where placeholders stand, by file and its state.
pub(super) type Found = Mutex<HashMap<(PathBuf, String), Arc<Spots>>>;

pub(super) async fn iso(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    Path((said, file)): Path<(String, String)>,
    request: Parts,
) -> Response {
    let asker = http.asker(peer, said.parse().ok(), &request.headers);
    let asked = request.uri.path().to_owned();
    if !file.ends_with(".iso") {
        return refuse(&asker, &asked, "its name does not end in .iso");
    }
    if said.parse::<spec::Mac>().is_err() {
        return (StatusCode::BAD_REQUEST, format!("{said:?} is not a MAC address\n")).into_response();
    }
    let decision = asker.decide();
    if let Verdict::Refuse(why) = &decision.verdict {
        return refuse(&asker, &asked, why);
    }
    let found = Arc::clone(&http.found);
    // The asker goes there and comes back: making an image reads files.
    let made = tokio::task::spawn_blocking(move || {
        let image = image(&asker, &decision.verdict, &found);
        (asker, image)
    });
    match made.await {
        Ok((asker, Ok(image))) => {
            let (total, etag) = (image.total(), Some(image.etag.clone()));
            let content = Content { reader: Reader::Image(Arc::new(image)), total, etag, modified: None, kind: MEDIA };
            http.send(&asker, &request, content, true).await
        }
        Ok((asker, Err(why))) => {
            tracing::error!(path = asked, why, "HTTP: cannot make an ISO");
            asker.emit(What::Refused { asked, why: why.clone() });
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn image(asker: &Asker, verdict: &Verdict, found: &Found) -> Result<Image, String> {
    let Some(mac) = asker.mac else { return Err("it has no MAC address".into()) };
    let boot = asker.boot(mac, None);
    if let Some(source) = asker.machine.as_ref().and_then(|machine| machine.iso.clone()) {
        return existing(&asker.settings.files, &source, &boot, found);
    }
    let file = |kind| match boot.file(kind, verdict) {
        Some(Ok(script)) => Ok(script.text),
        Some(Err(error)) => Err(chain(&error)),
        None => Err("the rules give this machine nothing to boot".to_owned()),
    };
    // isolinux reads what pxelinux reads, from other places.
    let isolinux = file(Kind::Pxelinux)?
        .replace("KERNEL vmlinuz", "KERNEL /boot/vmlinuz")
        .replace("INITRD initramfs", "INITRD /boot/initramfs");
    let configs = Configs { grub: file(Kind::GrubMedia)?, isolinux };
    iso::make(&boot.arch(), &asker.settings.osie, &*asker.netboot.loaders, &configs).map_err(|error| chain(&error))
}

/// `source` is a path below the directory of files, or a URL of this server to one.
fn existing(files: &FilePath, source: &str, boot: &Boot<'_>, found: &Found) -> Result<Image, String> {
    let path = source.split_once("/files/").map_or(source, |(_, path)| path);
    let plain = !path.contains(['\0', '\\', ':']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain {
        return Err(format!(
            "isoboot.sourceISO {source:?} is neither a path below the directory of files nor a URL of one"
        ));
    }
    let path = files.join(path);
    let cannot = |error: std::io::Error| format!("cannot read the ISO {}: {error}", path.display());
    let file = File::open(&path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let state = format!("{:x}-{:?}", metadata.len(), metadata.modified().ok());
    let key = (path.clone(), state.clone());
    let known = found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let spots = match known {
        Some(spots) => spots,
        None => {
            let spots = Arc::new(iso::find(&file).map_err(cannot)?);
            let mut table = found.lock().unwrap_or_else(PoisonError::into_inner);
            if table.len() >= REMEMBERED {
                table.clear();
            }
            table.insert(key, Arc::clone(&spots));
            spots
        }
    };
    let line = boot.line().map_err(|error| chain(&error))?;
    let tag: String = state.chars().filter(char::is_ascii_alphanumeric).collect();
    iso::patched(Arc::new(file), &tag, &spots, &line.text)
        .map_err(|error| format!("{}: {}", path.display(), chain(&error)))
}
