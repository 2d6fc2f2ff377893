//! The TFTP service: read only, loaders and what machines boot, nothing else. One thread a transfer, at most [`MOST`] at
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
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use spec::Mac;
use spec::activity::What;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Netboot;
use crate::asker::Asker;
use packet::{ErrorCode, Message, Request};
use transfer::{SLICE, Transfer, Wire};

#[doc(hidden)]
pub use packet::probe;

/// The port that firmware asks.
pub const PORT: u16 = 69;
/// Transfers at the same time. A client beyond that gets no answer and asks again by itself.
pub const MOST: usize = 1024;
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
    let sender = match socket.as_fd().try_clone_to_owned() {
        Ok(sender) => Arc::new(sender.into()),
        Err(error) => return tracing::error!(%error, "TFTP: cannot serve"),
    };
    let mut service = Service {
        socket,
        sender,
        local,
        options,
        netboot,
        transfers: JoinSet::new(),
        inboxes: HashMap::new(),
        stop: Stop::default(),
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
    socket: UdpSocket,
    /// The same, for the transfers on it.
    sender: Arc<std::net::UdpSocket>,
    local: IpAddr,
    options: Options,
    netboot: Netboot,
    transfers: JoinSet<SocketAddr>,
    /// Of the transfers on the service's own port.
    inboxes: HashMap<SocketAddr, SyncSender<Vec<u8>>>,
    stop: Stop,
}

/// Transfers have threads, which end when they look at this: set when the service waits for them no longer.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
        if hand_over(&self.inboxes, &buffer[..length], peer) {
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
                let wire = if self.options.single_port {
                    let (sender, inbox) = sync_channel(INBOX);
                    self.inboxes.insert(peer, sender);
                    Wire::Shared { socket: Arc::clone(&self.sender), peer, inbox }
                } else {
                    match connect(self.local, peer) {
                        Ok(socket) => Wire::Own(socket),
                        Err(error) => {
                            tracing::error!(%peer, %error, "cannot open a socket for a TFTP transfer");
                            return Err(packet::error(ErrorCode::Undefined, "the server has no socket for this"));
                        }
                    }
                };
                let terms = request.terms(content.total());
                let transfer = Transfer { wire, content, terms, acknowledged: 0, stop: Arc::clone(&self.stop.0) };
                self.transfers.spawn_blocking(move || run(request, transfer, asker));
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
            None => self
                .inboxes
                .retain(|_, inbox| !matches!(inbox.try_send(Vec::new()), Err(TrySendError::Disconnected(_)))),
        }
    }

    /// Lets transfers end. On the service's own port, somebody has to go on reading for them; else it is free at once.
    async fn drain(self) {
        let Self { socket, sender, options, mut transfers, mut inboxes, stop, .. } = self;
        let limit = options.drain.unwrap_or(Duration::from_secs(3600));
        if !options.single_port {
            drop((socket, sender));
            let all = async { while transfers.join_next().await.is_some() {} };
            drop(timeout(limit, all).await);
        } else {
            let mut buffer = [0; 2048];
            let all = async {
                while !transfers.is_empty() {
                    tokio::select! {
                        Some(ended) = transfers.join_next() => drop(ended.map(|peer| inboxes.remove(&peer))),
                        Ok((length, peer)) = socket.recv_from(&mut buffer) => {
                            hand_over(&inboxes, &buffer[..length], peer);
                        }
                    }
                }
            };
            drop(timeout(limit, all).await);
        }
        drop(stop);
        while transfers.join_next().await.is_some() {}
    }
}

/// Whether it was for a transfer on the service's own port.
fn hand_over(inboxes: &HashMap<SocketAddr, SyncSender<Vec<u8>>>, datagram: &[u8], peer: SocketAddr) -> bool {
    let Some(inbox) = inboxes.get(&peer) else { return false };
    // A client that sends faster than its transfer reads loses what it sent too much.
    !matches!(inbox.try_send(datagram.to_vec()), Err(TrySendError::Disconnected(_)))
}

/// To the end, and tells of it.
fn run(request: Request, mut transfer: Transfer, asker: Asker) -> SocketAddr {
    let (started, peer, total) = (Instant::now(), asker.peer, transfer.content.total());
    let counters = Arc::clone(&asker.netboot.counters);
    counters.tftp_running.one();
    let result = transfer.run();
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

fn connect(local: IpAddr, peer: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((local, 0))?;
    socket.connect(peer)?;
    socket.set_read_timeout(Some(SLICE))?;
    Ok(socket)
}
