//! The HTTP service: boot scripts, loaders, kernel and initramfs, images, ISOs. Paths: docs/architecture.md.
//! It answers from `Machines` and from directories; no redirects, no chunks, no listings.

mod connection;
mod content;
mod files;
mod gate;
mod media;
mod range;
mod scripts;
#[cfg(test)]
mod tests;
pub mod tls;

use std::future::{Future, IntoFuture};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use spec::Mac;
use spec::activity::What;
use tokio::net::TcpListener;

use crate::Netboot;
use crate::asker::Asker;
use connection::{Caller, Plain, introduce};
use content::{Content, Origin, Reader, kind_of, respond};
use files::OpenError;
pub use gate::Caps;
use gate::Gate;

type Peer = ConnectInfo<SocketAddr>;

/// What the handlers share.
#[derive(Clone)]
struct Http {
    netboot: Netboot,
    gate: Arc<Gate>,
    /// Where placeholders stand in ISOs that are patched.
    found: Arc<media::Found>,
}

/// All paths of this service. It has no fallback, so that it can be merged with other routers, and it wants to be
/// served with the peers' addresses, as [`serve`] does.
pub fn router(netboot: Netboot, caps: Caps) -> Router {
    let mut router = Router::new()
        .route("/auto.ipxe", get(scripts::by_address))
        .route("/autoexec.ipxe", get(scripts::autoexec_by_address))
        .route("/{mac}/auto.ipxe", get(scripts::by_mac))
        .route("/ipxe/script/{mac}/auto.ipxe", get(scripts::by_mac))
        .route("/ipxe/config/{mac}/site.conf", get(scripts::config))
        .route("/grub/grub.cfg", get(scripts::doorman))
        .route("/grub/{mac}/grub.cfg", get(scripts::grub))
        .route("/ipxe/{mac}/{file}", get(loader))
        .route("/ipxe/binary/{mac}/{file}", get(loader))
        .route("/misc/osie/current/{file}", get(osie))
        .route("/files/{*path}", get(file))
        .route("/iso/{mac}/{file}", get(media::iso))
        .route("/metrics", get(metrics))
        .route("/smee/metrics", get(metrics))
        .route("/healthcheck", get(|| async { "ok" }));
    // Where a GRUB that came by HTTP looks for them.
    for name in ["vmlinuz-x86_64", "initramfs-x86_64", "vmlinuz-aarch64", "initramfs-aarch64"] {
        router = router.route(&format!("/{name}"), get(artifact));
    }
    router.with_state(Http { netboot, gate: Arc::new(Gate::new(caps)), found: Arc::default() })
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
    let service = router.layer(from_fn(introduce)).into_make_service_with_connect_info::<Caller>();
    axum::serve(Plain(listener), service).with_graceful_shutdown(shutdown).into_future().await
}

impl Http {
    fn asker(&self, peer: SocketAddr, mac: Option<Mac>, headers: &HeaderMap) -> Asker {
        Asker::new(self.netboot.clone(), peer, mac).reached_at(host(headers))
    }

    /// `big`: takes its turn among the others.
    async fn send(&self, asker: &Asker, request: &Parts, content: Content, big: bool) -> Response {
        let counters = &self.netboot.counters;
        let waits = big && request.method != axum::http::Method::HEAD;
        let pass = if waits { self.gate.enter(asker.peer, counters).await } else { None };
        let origin = Origin {
            sink: self.netboot.sink.clone(),
            counters: Arc::clone(counters),
            mac: asker.mac,
            machine: asker.name(),
            path: request.uri.path().to_owned(),
            _pass: pass,
        };
        respond(request, content, origin)
    }

    async fn send_file(&self, asker: Asker, request: &Parts, root: &FilePath, path: &str) -> Response {
        match files::open(root, path).await {
            Ok(content) => self.send(&asker, request, content, true).await,
            Err(error @ OpenError::Read { .. }) => {
                let why = crate::chain(&error);
                tracing::error!(path = request.uri.path(), why, "HTTP: cannot serve a file");
                asker.emit(What::Refused { asked: request.uri.path().into(), why });
                (StatusCode::INTERNAL_SERVER_ERROR, "the server cannot read this file\n").into_response()
            }
            Err(error) => refuse(&asker, request.uri.path(), &error.to_string()),
        }
    }
}

/// The address of ours that a client used, as it says itself. It is believed only if it is one of ours.
fn host(headers: &HeaderMap) -> Option<Ipv4Addr> {
    let text = headers.get(header::HOST)?.to_str().ok()?;
    text.split(':').next()?.parse().ok()
}

/// Said to the client, the log and the activity.
fn refuse(asker: &Asker, asked: &str, why: &str) -> Response {
    let mac = asker.mac.map_or_else(|| "unknown".into(), |mac| mac.to_string());
    tracing::warn!(%mac, peer = %asker.peer, asked, why, "HTTP: refused");
    asker.netboot.counters.refused.one();
    asker.emit(What::Refused { asked: asked.into(), why: why.into() });
    (StatusCode::NOT_FOUND, format!("{asked} is not for {mac} at {}: {why}\n", asker.peer.ip())).into_response()
}

async fn loader(
    State(http): State<Http>,
    ConnectInfo(peer): Peer,
    Path((mac, file)): Path<(String, String)>,
    request: Parts,
) -> Response {
    let asker = http.asker(peer, mac.parse().ok(), &request.headers);
    match (file.as_str(), http.netboot.loaders.get(&file)) {
        (_, Some(bytes)) => {
            let kind = kind_of(&file);
            let content = Content {
                total: bytes.len() as u64,
                etag: Some(tag(&bytes)),
                reader: Reader::Memory(bytes),
                modified: None,
                kind,
            };
            http.send(&asker, &request, content, false).await
        }
        ("autoexec.ipxe", None) => scripts::autoexec(&asker),
        ("grub.cfg", None) => scripts::doorman_text(),
        (name, None) if is_artifact(name) => {
            let osie = asker.settings.osie.clone();
            http.send_file(asker, &request, &osie, name).await
        }
        (_, None) => refuse(&asker, request.uri.path(), "there is no loader of this name"),
    }
}

fn is_artifact(name: &str) -> bool {
    name.starts_with("vmlinuz-") || name.starts_with("initramfs-")
}

async fn osie(State(http): State<Http>, ConnectInfo(peer): Peer, Path(path): Path<String>, request: Parts) -> Response {
    let asker = http.asker(peer, None, &request.headers);
    let osie = asker.settings.osie.clone();
    http.send_file(asker, &request, &osie, &path).await
}

async fn artifact(State(http): State<Http>, ConnectInfo(peer): Peer, request: Parts) -> Response {
    let asker = http.asker(peer, None, &request.headers);
    let osie = asker.settings.osie.clone();
    let name = request.uri.path().trim_start_matches('/').to_owned();
    http.send_file(asker, &request, &osie, &name).await
}

async fn file(State(http): State<Http>, ConnectInfo(peer): Peer, Path(path): Path<String>, request: Parts) -> Response {
    let asker = http.asker(peer, None, &request.headers);
    let files = asker.settings.files.clone();
    http.send_file(asker, &request, &files, &path).await
}

async fn metrics(State(http): State<Http>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], http.netboot.counters.render()).into_response()
}

/// The same for the same bytes, in every run.
fn tag(bytes: &Bytes) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:x}-{:016x}\"", bytes.len(), hasher.finish())
}
