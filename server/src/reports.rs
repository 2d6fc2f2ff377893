//! Reports of boots that do not get on: sent by the machine itself, the newest kept per machine, given to the operator.
//! They are not looked into here. Who sends one is known by nothing but its address, so only machines that there are can,
//! each for itself, and what one may send is bounded.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, put};
use serde_json::json;
use spec::Mac;

use crate::machines::Machines;
use crate::objects::{Key, Kind};

/// Of a report.
pub const LARGEST: usize = 8 << 20;
/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where they are, and who may send them.
#[derive(Clone)]
pub struct Reports {
    dir: Arc<PathBuf>,
    machines: Machines,
}

impl Reports {
    /// Below the state directory; made when the first comes.
    pub fn new(state: &std::path::Path, machines: Machines) -> Self {
        Self { dir: Arc::new(state.join("reports")), machines }
    }

    /// What machines ask for.
    pub fn for_machines(self) -> Router {
        Router::new().route("/report/{mac}", put(take)).layer(DefaultBodyLimit::max(LARGEST)).with_state(self)
    }

    /// What the operator asks for.
    pub fn for_operators(self) -> Router {
        let path = "/apis/ironhook.dev/v1alpha1/namespaces/{namespace}/hardware/{name}/report";
        Router::new().route(path, get(give)).with_state(self)
    }

    fn path(&self, mac: Mac) -> PathBuf {
        self.dir.join(format!("{}.tar.gz", mac.to_string().replace(':', "-")))
    }

    fn keep(&self, mac: Mac, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&*self.dir)?;
        let (path, new) = (self.path(mac), self.path(mac).with_extension("new"));
        fs::write(&new, bytes)?;
        fs::rename(new, path)
    }
}

async fn take(
    State(reports): State<Reports>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(mac): Path<String>,
    body: Bytes,
) -> Response {
    let refuse = |status: StatusCode, why: &str| {
        tracing::warn!(%peer, mac, "report refused: {why}");
        (status, format!("{why}\n")).into_response()
    };
    let Ok(address) = mac.parse::<Mac>() else { return refuse(StatusCode::BAD_REQUEST, "not a MAC address") };
    let Some(machine) = reports.machines.record_by_mac(address) else {
        return refuse(StatusCode::NOT_FOUND, "no Hardware has this MAC address");
    };
    let other = reports.machines.record_by_address(peer.ip().to_canonical()).filter(|other| other.key != machine.key);
    if other.is_some() {
        return refuse(StatusCode::FORBIDDEN, "this is another machine's address");
    }
    if !body.starts_with(&GZIP) {
        return refuse(StatusCode::BAD_REQUEST, "not a gzip file");
    }
    let bytes = body.len();
    match tokio::task::spawn_blocking(move || reports.keep(address, &body)).await {
        Ok(Ok(())) => {
            tracing::warn!(machine = %machine.key.name, mac, bytes, "a boot does not get on: `ironhook report` shows why");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(Err(error)) => refuse(StatusCode::INSUFFICIENT_STORAGE, &format!("cannot be kept: {error}")),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot be kept: {error}")),
    }
}

async fn give(State(reports): State<Reports>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let none = |message: String| (StatusCode::NOT_FOUND, Json(json!({ "message": message }))).into_response();
    let key = Key::new(Kind::Hardware, &namespace, &name);
    let Some(machine) = reports.machines.record(&key) else { return none(format!("there is no hardware {name}")) };
    let macs = machine.spec.interfaces.iter().filter_map(|interface| interface.dhcp.as_ref()?.mac);
    let newest = macs
        .filter_map(|mac| Some((fs::metadata(reports.path(mac)).ok()?.modified().ok()?, reports.path(mac))))
        .max()
        .map(|(_, path)| path);
    let Some(path) = newest else { return none(format!("{name} has sent no report")) };
    match tokio::fs::read(&path).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/gzip")], bytes).into_response(),
        Err(error) => none(format!("the report of {name} cannot be read: {error}")),
    }
}
