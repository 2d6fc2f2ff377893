//! The HTTP service: boot scripts, loaders, kernel and initramfs, images. Paths: docs/architecture.md.
//! It answers from `Machines` and from directories; no redirects, no chunks, no listings.

mod content;
mod files;
mod range;
mod script;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::future::{Future, IntoFuture};
use std::io::{self, Cursor};
use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{StatusCode, header::CONTENT_TYPE, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use spec::Mac;
use spec::activity::What;
use tokio::io::{AsyncRead, AsyncSeek};
use tokio::net::TcpListener;

use crate::{Machine, Netboot, Settings};
use content::{Content, Origin, respond};
use files::OpenError;

type Peer = ConnectInfo<SocketAddr>;

/// All paths of this service. It has no fallback, so that it can be merged with other routers, and it wants to be
/// served with the peers' addresses, as [`serve`] does.
pub fn router(netboot: Netboot) -> Router {
    Router::new()
        .route("/auto.ipxe", get(script_by_address))
        .route("/{mac}/auto.ipxe", get(script_by_mac))
        .route("/ipxe/script/{mac}/auto.ipxe", get(script_by_mac))
        .route("/ipxe/{mac}/{file}", get(loader))
        .route("/ipxe/binary/{mac}/{file}", get(loader))
        .route("/misc/osie/current/{file}", get(osie))
        .route("/files/{*path}", get(file))
        .with_state(netboot)
}

/// Listens.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// The service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for http on {address}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Serves a router until `shutdown` ends and the responses under way are sent.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown).into_future().await
}

/// Who asks, as far as it is known.
struct Asker {
    netboot: Netboot,
    peer: SocketAddr,
    mac: Option<Mac>,
    machine: Option<Machine>,
}

impl Asker {
    fn by_address(netboot: Netboot, peer: SocketAddr) -> Self {
        let machine = match peer.ip().to_canonical() {
            IpAddr::V4(address) => netboot.machines.by_address(address),
            IpAddr::V6(_) => None,
        };
        Self { mac: machine.as_ref().map(|machine| machine.mac), netboot, peer, machine }
    }

    fn by_mac(netboot: Netboot, peer: SocketAddr, mac: Mac) -> Self {
        let machine = netboot.machines.by_mac(mac);
        Self { netboot, peer, mac: Some(mac), machine }
    }

    fn emit(&self, what: What) {
        self.netboot.sink.emit(self.mac, self.machine.as_ref().map(|machine| machine.name.clone()), what);
    }

    fn refuse(&self, asked: &str, why: &str) -> Response {
        let mac = self.mac.map_or_else(|| "unknown".into(), |mac| mac.to_string());
        tracing::warn!(%mac, peer = %self.peer, asked, why, "HTTP: refused");
        self.emit(What::Refused { asked: asked.into(), why: why.into() });
        (StatusCode::NOT_FOUND, format!("{asked} is not for {mac} at {}: {why}\n", self.peer.ip())).into_response()
    }

    fn script(&self) -> Response {
        let asked = "boot script";
        let Some(machine) = &self.machine else {
            let what = if self.mac.is_some() { "MAC address" } else { "IP address" };
            return self.refuse(asked, &format!("no Hardware has this {what}"));
        };
        if !machine.allow_pxe {
            return self.refuse(asked, "its Hardware does not allow it (netboot.allowPXE)");
        }
        let settings: &Arc<Settings> = &self.netboot.settings;
        let text = match script::script(machine, settings) {
            Ok(script) => {
                tracing::info!(mac = %machine.mac, machine = machine.name, boots = script.boots, "HTTP: boot script");
                self.emit(What::Script { boots: script.boots.into() });
                script.text
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(mac = %machine.mac, machine = machine.name, why, "HTTP: cannot make a boot script");
                self.emit(What::Refused { asked: asked.into(), why: why.clone() });
                script::failure(machine, &why)
            }
        };
        ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
    }

    async fn send<R>(self, request: &Parts, content: Content<R>) -> Response
    where
        R: AsyncRead + AsyncSeek + Unpin + Send + 'static,
    {
        let origin = Origin {
            sink: self.netboot.sink,
            mac: self.mac,
            machine: self.machine.map(|machine| machine.name),
            path: request.uri.path().to_owned(),
        };
        respond(&request.method, &request.headers, content, origin).await.unwrap_or_else(|error| {
            tracing::error!(path = request.uri.path(), %error, "HTTP: cannot read a file");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
    }

    async fn send_file(self, request: &Parts, root: &FilePath, path: &str) -> Response {
        match files::open(root, path).await {
            Ok(content) => self.send(request, content).await,
            Err(error @ OpenError::Read { .. }) => {
                let why = chain(&error);
                tracing::error!(path = request.uri.path(), why, "HTTP: cannot serve a file");
                self.emit(What::Refused { asked: request.uri.path().into(), why });
                (StatusCode::INTERNAL_SERVER_ERROR, "the server cannot read this file\n").into_response()
            }
            Err(error) => self.refuse(request.uri.path(), &error.to_string()),
        }
    }
}

async fn script_by_address(State(netboot): State<Netboot>, ConnectInfo(peer): Peer) -> Response {
    Asker::by_address(netboot, peer).script()
}

async fn script_by_mac(State(netboot): State<Netboot>, ConnectInfo(peer): Peer, Path(mac): Path<String>) -> Response {
    match mac.parse() {
        Ok(mac) => Asker::by_mac(netboot, peer, mac).script(),
        Err(_) => Asker::by_address(netboot, peer).refuse("boot script", &format!("{mac:?} is not a MAC address")),
    }
}

async fn loader(
    State(netboot): State<Netboot>,
    ConnectInfo(peer): Peer,
    Path((mac, file)): Path<(String, String)>,
    request: Parts,
) -> Response {
    let content = netboot.loaders.get(&file);
    let asker = match mac.parse() {
        Ok(mac) => Asker::by_mac(netboot, peer, mac),
        Err(_) => Asker::by_address(netboot, peer),
    };
    match content {
        Some(bytes) => {
            let total = bytes.len() as u64;
            asker.send(&request, Content { reader: Cursor::new(bytes), total, etag: None, modified: None }).await
        }
        None => asker.refuse(request.uri.path(), "there is no loader of this name"),
    }
}

async fn osie(
    State(netboot): State<Netboot>,
    ConnectInfo(peer): Peer,
    Path(path): Path<String>,
    request: Parts,
) -> Response {
    let settings = netboot.settings.clone();
    Asker::by_address(netboot, peer).send_file(&request, &settings.osie, &path).await
}

async fn file(
    State(netboot): State<Netboot>,
    ConnectInfo(peer): Peer,
    Path(path): Path<String>,
    request: Parts,
) -> Response {
    let settings = netboot.settings.clone();
    Asker::by_address(netboot, peer).send_file(&request, &settings.files, &path).await
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
