//! The TFTP service: read only, loaders and what machines boot, nothing else. One task a transfer, at most [`MOST`] at
//! once, each on a port of its own or, for firewalls that know no other, all on the service's.

mod files;
mod packet;
#[cfg(test)]
mod relay;
mod source;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use spec::Mac;
use spec::activity::What;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Netboot;
use crate::asker::Asker;
use packet::{ErrorCode, Message, Request};
use source::Source;
use transfer::{Transfer, Wire};

#[doc(hidden)]
pub use packet::probe;

/// The port that firmware asks.
pub const PORT: u16 = 69;
/// Transfers at the same time. A client beyond that gets no answer and asks again by itself.
pub const MOST: usize = 256;
/// After an error of the socket.
const PAUSE: Duration = Duration::from_secs(1);
/// What a client may send ahead of us.
const INBOX: usize = 16;

/// How the service works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Transfers stay on the service's port.
    pub single_port: bool,
    /// How long transfers may go on after the end; none: as long as they take.
    pub drain: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self { single_port: false, drain: Some(Duration::from_secs(5)) }
    }
}

/// The service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for tftp on {address} (ports below 1024 take CAP_NET_BIND_SERVICE)")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listens. Best on the advertised address itself, so that replies come from where the client asked.
pub async fn bind(address: SocketAddr) -> Result<UdpSocket, BindError> {
    UdpSocket::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves until `shutdown` ends, then lets transfers finish.
pub async fn serve(socket: UdpSocket, options: Options, netboot: Netboot, shutdown: impl Future<Output = ()> + Send) {
    let local = socket.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let mut service = Service {
        socket: Arc::new(socket),
        local,
        options,
        netboot,
        transfers: JoinSet::new(),
        inboxes: HashMap::new(),
    };
    let mut buffer = [0; 2048];
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = service.transfers.join_next() => service.forget(ended.ok()),
            received = service.socket.recv_from(&mut buffer) => service.received(received, &buffer).await,
        }
    }
    service.drain().await;
}

struct Service {
    socket: Arc<UdpSocket>,
    local: IpAddr,
    options: Options,
    netboot: Netboot,
    transfers: JoinSet<SocketAddr>,
    /// Of the transfers on the service's own port.
    inboxes: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>,
}

impl Service {
    async fn received(&mut self, received: io::Result<(usize, SocketAddr)>, buffer: &[u8]) {
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "cannot receive TFTP requests");
                tokio::time::sleep(PAUSE).await;
                return;
            }
        };
        if let Some(inbox) = self.inboxes.get(&peer) {
            // A client that sends faster than its transfer reads loses what it sent too much.
            drop(inbox.try_send(buffer[..length].to_vec()));
            return;
        }
        let refusal = match Message::decode(&buffer[..length]) {
            Some(Message::Read(request)) => match self.read(request, peer) {
                Ok(()) => return,
                Err(refusal) => refusal,
            },
            Some(Message::Write) => packet::error(ErrorCode::Denied, "this server is read only"),
            Some(Message::Ack(_) | Message::Error { .. }) | None => return,
        };
        if let Err(error) = self.socket.send_to(&refusal, peer).await {
            tracing::warn!(%peer, %error, "cannot send a TFTP error");
        }
    }

    fn read(&mut self, request: Request, peer: SocketAddr) -> Result<(), Vec<u8>> {
        let said = request.path.split(['/', '\\']).find_map(|part| part.parse::<Mac>().ok());
        let asker = Asker::new(self.netboot.clone(), peer, said);
        match files::find(&request, &asker) {
            Ok(_) if self.transfers.len() >= MOST => {
                tracing::warn!(%peer, file = request.path, "TFTP: {MOST} transfers run already");
                Ok(())
            }
            Ok(content) => {
                let wire = self.options.single_port.then(|| {
                    let (sender, inbox) = mpsc::channel(INBOX);
                    self.inboxes.insert(peer, sender);
                    Wire::Shared { socket: Arc::clone(&self.socket), peer, inbox }
                });
                self.transfers.spawn(transfer(request, content, (self.local, wire), asker));
                Ok(())
            }
            Err((code, why)) => {
                self.netboot.counters.refused.one();
                tracing::warn!(%peer, mac = asker.mac.map(tracing::field::display), file = request.path, why, "TFTP: refused");
                asker.emit(What::Refused { asked: request.path, why: why.clone() });
                Err(packet::error(code, &why))
            }
        }
    }

    fn forget(&mut self, ended: Option<SocketAddr>) {
        match ended {
            Some(peer) => drop(self.inboxes.remove(&peer)),
            // One that panicked took its inbox's other end with it.
            None => self.inboxes.retain(|_, inbox| !inbox.is_closed()),
        }
    }

    /// On the service's own port, somebody has to go on reading for the transfers.
    async fn drain(mut self) {
        let limit = self.options.drain.unwrap_or(Duration::from_secs(3600));
        let mut buffer = [0; 2048];
        let all = async {
            while !self.transfers.is_empty() {
                tokio::select! {
                    Some(ended) = self.transfers.join_next() => drop(ended.map(|peer| self.inboxes.remove(&peer))),
                    Ok((length, peer)) = self.socket.recv_from(&mut buffer), if self.options.single_port => {
                        if let Some(inbox) = self.inboxes.get(&peer) {
                            drop(inbox.try_send(buffer[..length].to_vec()));
                        }
                    }
                }
            }
        };
        if timeout(limit, all).await.is_err() {
            self.transfers.shutdown().await;
        }
    }
}

async fn transfer(
    request: Request,
    content: Source,
    (local, wire): (IpAddr, Option<Wire>),
    asker: Asker,
) -> SocketAddr {
    let (started, peer) = (Instant::now(), asker.peer);
    let wire = match wire {
        Some(wire) => wire,
        None => match connect(local, peer).await {
            Ok(socket) => Wire::Own(socket),
            Err(error) => {
                tracing::error!(%peer, %error, "cannot open a socket for a TFTP transfer");
                return peer;
            }
        },
    };
    let counters = Arc::clone(&asker.netboot.counters);
    counters.tftp_running.one();
    let (terms, total) = (request.terms(content.total()), content.total());
    let mut transfer = Transfer { wire, content, terms, acknowledged: 0 };
    let result = transfer.run().await;
    counters.tftp_running.less();
    let bytes = transfer.sent();
    counters.tftp_bytes.many(bytes);
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &result {
        Ok(()) => {
            counters.tftp_files.one();
            tracing::info!(%peer, file = request.path, bytes, ms, "TFTP: sent");
        }
        // Firmware asks for the size first and then hangs up.
        Err(why) if bytes == 0 => tracing::debug!(%peer, file = request.path, %why, "TFTP: nothing was sent"),
        Err(why) => {
            counters.tftp_broken.one();
            tracing::warn!(%peer, file = request.path, bytes, total, why = crate::chain(why), "TFTP: broke off");
        }
    }
    if result.is_ok() || bytes > 0 {
        let path = request.base_name().to_owned();
        asker.emit(What::File { service: "tftp".into(), path, bytes, total, ms });
    }
    peer
}

async fn connect(local: IpAddr, peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(peer).await?;
    Ok(socket)
}
