//! Boot scripts and configurations by HTTP: who asks is looked up, the rules decide, the text is made. A machine that
//! is known by its MAC address here has its address remembered, so that metadata finds it in proxy mode.

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use spec::activity::What;

use super::{Http, Peer, refuse};
use crate::asker::Asker;
use crate::facts::{Facts, clean};
use crate::rules::Verdict;
use crate::script::{Kind, grub_doorman};
use crate::{Step, chain};

const ASKED: &str = "boot script";

/// What a machine says of itself in the query of its script.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    uuid: Option<String>,
    serial: Option<String>,
    manufacturer: Option<String>,
    product: Option<String>,
    asked: Option<String>,
}

impl Said {
    fn facts(&self) -> Facts {
        let text = |text: &Option<String>| text.as_deref().and_then(clean);
        Facts {
            uuid: text(&self.uuid).map(|uuid| uuid.to_lowercase()),
            serial: text(&self.serial),
            manufacturer: text(&self.manufacturer),
            product: text(&self.product),
            ..Facts::default()
        }
    }
}

pub(super) async fn by_address(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    query: Result<Query<Said>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(&http.asker(peer, None, &headers), query.ok().map(|Query(said)| said))
}

pub(super) async fn by_mac(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    Path(mac): Path<String>,
    query: Result<Query<Said>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    match mac.parse() {
        Ok(mac) => answer(&http.asker(peer, Some(mac), &headers), query.ok().map(|Query(said)| said)),
        Err(_) => refuse(&http.asker(peer, None, &headers), ASKED, &format!("{mac:?} is not a MAC address")),
    }
}

/// The script, or why there is none.
pub(super) fn answer(asker: &Asker, said: Option<Said>) -> Response {
    let Some(mac) = asker.mac else { return refuse(asker, ASKED, "no Hardware has this IP address") };
    asker.netboot.stages.sign(mac);
    asker.remember();
    let said = said.unwrap_or_default();
    let mut asker_history = asker.history.clone();
    asker_history.facts.learn(said.facts());
    if said.asked.is_some() {
        asker.netboot.sink.facts(mac, said.facts());
    } else if asker.settings.rules.ask() && asker.history.facts.serial.is_none() {
        return text(asker.boot(mac, None).ask());
    }
    let subject = crate::rules::Subject { machine: asker.machine.as_deref(), history: &asker_history };
    let decision = asker.settings.rules.decide(subject);
    if let Verdict::Refuse(why) = &decision.verdict {
        return refuse(asker, ASKED, why);
    }
    let installs = matches!(decision.verdict, Verdict::Installer);
    let ticket = if installs && asker.machine.is_some() { asker.netboot.machines.ticket(mac) } else { None };
    let boot = asker.boot(mac, ticket.as_ref());
    match boot.ipxe(&decision.verdict) {
        None => refuse(asker, ASKED, "the rules refuse it"),
        Some(Ok(script)) => {
            let (machine, boots, rule) = (asker.name(), script.boots, decision.rule);
            tracing::info!(%mac, machine, boots, rule, "HTTP: boot script");
            if decision.verdict == Verdict::Park {
                tracing::warn!(%mac, machine, code = "boot_loop", boots = asker.history.boots, "HTTP: parked");
            }
            asker.netboot.counters.scripts.one();
            asker.emit(What::Script { boots: boots.into() });
            asker.netboot.sink.step(mac, Step::Script { boots: boots.into(), rule });
            text(script.text)
        }
        Some(Err(error)) => {
            let why = chain(&error);
            tracing::error!(%mac, machine = asker.name(), why, "HTTP: cannot make a boot script");
            asker.emit(What::Refused { asked: ASKED.into(), why: why.clone() });
            text(boot.failure(&why))
        }
    }
}

/// What iPXE runs before it has an address of its own.
pub(super) fn autoexec(asker: &Asker) -> Response {
    let Some(mac) = asker.mac else { return refuse(asker, "autoexec.ipxe", "no Hardware has this IP address") };
    asker.netboot.stages.sign(mac);
    match asker.decide().verdict {
        Verdict::Refuse(why) => refuse(asker, "autoexec.ipxe", &why),
        _ => text(asker.boot(mac, None).autoexec()),
    }
}

pub(super) async fn autoexec_by_address(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    headers: HeaderMap,
) -> Response {
    autoexec(&http.asker(peer, None, &headers))
}

/// `grub.cfg` of everybody.
pub(super) async fn doorman() -> Response {
    doorman_text()
}

pub(super) fn doorman_text() -> Response {
    text(grub_doorman().to_owned())
}

/// `grub.cfg` of one machine.
pub(super) async fn grub(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    Path(said): Path<String>,
    headers: HeaderMap,
) -> Response {
    let asker = http.asker(peer, said.parse().ok(), &headers);
    let Some(mac) = asker.mac else {
        return refuse(&asker, "grub.cfg", "neither its MAC nor its IP address is known");
    };
    asker.netboot.stages.sign(mac);
    asker.remember();
    let decision = asker.decide();
    let ticket = asker.machine.as_ref().and_then(|_| asker.netboot.machines.ticket(mac));
    match asker.boot(mac, ticket.as_ref()).file(Kind::Grub, &decision.verdict) {
        None => refuse(&asker, "grub.cfg", "the rules give this machine nothing to boot"),
        Some(Ok(script)) => {
            asker.netboot.counters.scripts.one();
            asker.emit(What::Script { boots: script.boots.into() });
            asker.netboot.sink.step(mac, Step::Script { boots: script.boots.into(), rule: decision.rule });
            text(script.text)
        }
        Some(Err(error)) => {
            let why = chain(&error);
            tracing::error!(%mac, machine = asker.name(), why, "HTTP: cannot make a grub.cfg");
            asker.emit(What::Refused { asked: "grub.cfg".into(), why: why.clone() });
            text(format!("echo \"Ironhook: {}\"\nsleep 60\nreboot\n", why.replace(['"', '$', '`', '\\', '\n'], "'")))
        }
    }
}

/// What did not fit on a machine's command line.
pub(super) async fn config(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    Path(said): Path<String>,
    headers: HeaderMap,
) -> Response {
    let asker = http.asker(peer, said.parse().ok(), &headers);
    let asked = "site configuration";
    let Some(mac) = asker.mac else { return refuse(&asker, asked, "this is no MAC address") };
    if let Verdict::Refuse(why) = asker.decide().verdict {
        return refuse(&asker, asked, &why);
    }
    match asker.boot(mac, None).line() {
        Ok(line) => text(line.file.unwrap_or_default()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", chain(&error))).into_response(),
    }
}

fn text(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
