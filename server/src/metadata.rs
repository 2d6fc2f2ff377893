//! What a machine is told about itself, by the address it asks from (wire reference §8): the EC2 tree that cloud-init
//! reads, and `/metadata` for the rootio actions. Reads the index of machines, nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRef, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, http};
use serde_json::{Value, json};
use spec::cmdline::{FROM_METADATA, site};

use crate::machines::{Machines, Record};
use crate::objects::hardware::{HardwareSpec, Instance, InstanceIp};

type Peer = ConnectInfo<SocketAddr>;

/// Where answers come from.
#[derive(Clone)]
struct Source {
    machines: Machines,
    /// Read anew for every answer, so that nothing of it stays here.
    credentials: Option<PathBuf>,
}

impl FromRef<Source> for Machines {
    fn from_ref(source: &Source) -> Self {
        source.machines.clone()
    }
}

/// The paths; wants to be served with the peers' addresses.
pub fn router(machines: Machines, credentials: Option<PathBuf>) -> Router {
    let mut router = Router::new().route("/metadata", get(hack));
    for version in ["2009-04-04", "latest"] {
        router = router
            .route(&format!("/{version}"), get(top))
            .route(&format!("/{version}/"), get(top))
            .route(&format!("/{version}/{{*path}}"), get(tree));
    }
    router.with_state(Source { machines, credentials })
}

/// A router of its own port.
pub fn service(machines: Machines, credentials: Option<PathBuf>) -> Router {
    router(machines, credentials).route("/healthz", get(|| async { "ok" }))
}

async fn top(machines: State<Machines>, peer: Peer) -> Response {
    answer(&machines, peer, "")
}

async fn tree(machines: State<Machines>, peer: Peer, Path(path): Path<String>) -> Response {
    answer(&machines, peer, path.trim_end_matches('/'))
}

fn answer(machines: &Machines, peer: Peer, path: &str) -> Response {
    let record = match known(machines, peer, path) {
        Ok(record) => record,
        Err(refused) => return refused,
    };
    match lookup(&record, path) {
        Some(text) => ([(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
        None => (StatusCode::NOT_FOUND, format!("there is no {path}\n")).into_response(),
    }
}

async fn hack(State(source): State<Source>, peer: Peer) -> Response {
    let record = match known(&source.machines, peer, "metadata") {
        Err(refused) => return refused,
        Ok(record) => record,
    };
    let instance = instance(&record.spec);
    let storage = instance.storage.unwrap_or_else(|| json!({"disks": [], "filesystems": []}));
    let id = instance.id.unwrap_or_else(|| record.key.name.clone());
    let mut answer = json!({ "id": id, "metadata": { "instance": { "storage": storage } } });
    match source.credentials.map(|path| keys(&path)) {
        None => {}
        Some(Ok(keys)) => answer["ironhook"] = keys,
        Some(Err(error)) => {
            // The machine asks again; without its credentials it would fail somewhere else.
            tracing::error!(%error, "metadata cannot be answered");
            return (StatusCode::SERVICE_UNAVAILABLE, "the server's file of credentials cannot be used\n")
                .into_response();
        }
    }
    Json(answer).into_response()
}

/// The file of keys as metadata tells them; the error names lines and never a value.
fn keys(path: &std::path::Path) -> Result<Value, String> {
    let failed = |what: String| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let entries = site::parse(&text, true).map_err(|mistakes| {
        failed(mistakes.iter().map(|m| format!("line {}: {}", m.line, m.what)).collect::<Vec<_>>().join("; "))
    })?;
    if let Some((key, _)) = entries.iter().find(|(key, _)| !FROM_METADATA.iter().any(|one| one.name == key.name)) {
        return Err(failed(format!("{}: no machine takes this from metadata (docs/command-line.md)", key.name)));
    }
    Ok(entries.into_iter().map(|(key, value)| (key.name.to_owned(), Value::from(value))).collect())
}

// The refusal is a whole response, made once per unknown peer.
#[allow(clippy::result_large_err)]
fn known(machines: &Machines, ConnectInfo(peer): Peer, path: &str) -> Result<Arc<Record>, Response> {
    let address = peer.ip().to_canonical();
    machines.record_by_address(address).ok_or_else(|| {
        tracing::warn!(%address, path, "metadata refused: no Hardware has this address");
        (StatusCode::NOT_FOUND, format!("no Hardware has the address {address}\n")).into_response()
    })
}

fn instance(spec: &HardwareSpec) -> Instance {
    spec.instance().cloned().unwrap_or_default()
}

/// The text at a path: a value, or the sorted names of a directory; values that are not set are empty.
fn lookup(record: &Record, path: &str) -> Option<String> {
    let leaves = leaves(record);
    if let Some(value) = leaves.get(path) {
        return Some(value.clone());
    }
    let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
    let mut names: Vec<String> = leaves
        .keys()
        .filter_map(|leaf| leaf.strip_prefix(inside.as_str()))
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(dir, _)| format!("{dir}/")))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() { None } else { Some(names.join("\n")) }
}

fn leaves(record: &Record) -> BTreeMap<&'static str, String> {
    let spec = &record.spec;
    let instance = instance(spec);
    let dhcp = spec.interfaces.iter().find_map(|i| i.dhcp.as_ref());
    let hostname = instance.hostname.clone().or_else(|| dhcp.and_then(|d| d.hostname.clone())).unwrap_or_default();
    let reserved = dhcp.and_then(|d| d.ip.as_ref()).map(|ip| ip.address).filter(IpAddr::is_ipv4);
    let address = |wanted: &dyn Fn(&InstanceIp, IpAddr) -> bool| {
        instance.ips.iter().find_map(|ip| ip.address.filter(|address| wanted(ip, *address)))
    };
    let shown = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let public = |ip: &InstanceIp| ip.public.unwrap_or(false);
    let facility = |key: &str| scalar(spec.metadata.as_ref().and_then(|m| m.facility.as_ref()?.get(key)));
    let system = |key: &str| scalar(instance.operating_system.as_ref().and_then(|os| os.get(key)));
    BTreeMap::from([
        ("user-data", spec.user_data.clone().unwrap_or_default()),
        ("meta-data/instance-id", instance.id.clone().unwrap_or_else(|| record.key.name.clone())),
        ("meta-data/hostname", hostname.clone()),
        ("meta-data/local-hostname", hostname),
        ("meta-data/iqn", String::new()),
        ("meta-data/plan", facility("plan_slug")),
        ("meta-data/facility", facility("facility_code")),
        ("meta-data/tags", instance.tags.join("\n")),
        ("meta-data/public-keys", instance.ssh_keys.join("\n")),
        ("meta-data/public-ipv4", shown(address(&|ip, a| a.is_ipv4() && public(ip)))),
        ("meta-data/public-ipv6", shown(address(&|_, a| a.is_ipv6()))),
        ("meta-data/local-ipv4", shown(address(&|ip, a| a.is_ipv4() && !public(ip)).or(reserved))),
        ("meta-data/operating-system/slug", system("slug")),
        ("meta-data/operating-system/distro", system("distro")),
        ("meta-data/operating-system/version", system("version")),
        ("meta-data/operating-system/image_tag", system("image_tag")),
        ("meta-data/operating-system/license_activation/state", String::new()),
    ])
}

fn scalar(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
