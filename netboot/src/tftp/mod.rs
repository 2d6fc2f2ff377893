//! The TFTP service: read only, the table of loaders and nothing else. One task a transfer, at most [`MOST`] at once.

mod packet;
#[cfg(test)]
mod tests;
mod transfer;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use spec::activity::What;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Machine, Netboot};
use packet::{ErrorCode, Message, Request};
use transfer::Transfer;

/// The port that firmware asks.
pub const PORT: u16 = 69;
/// Transfers at the same time. A client beyond that gets no answer and asks again by itself.
pub const MOST: usize = 256;
/// How long transfers may go on after `shutdown`.
const DRAIN: Duration = Duration::from_secs(5);
/// After an error of the socket.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Serves until `shutdown` ends, then lets transfers finish for a moment.
pub async fn serve(socket: UdpSocket, netboot: Netboot, shutdown: impl Future<Output = ()> + Send) {
    let local = socket.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let mut transfers = JoinSet::new();
    let mut buffer = [0; 2048];
    tokio::pin!(shutdown);
    loop {
        let received = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = transfers.join_next() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (length, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "cannot receive TFTP requests");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let refusal = match Message::decode(&buffer[..length]) {
            Some(Message::Read(request)) => match find(&request, &netboot) {
                Ok(content) if transfers.len() < MOST => {
                    transfers.spawn(transfer(request, content, (local, peer), netboot.clone()));
                    continue;
                }
                Ok(_) => {
                    tracing::warn!(%peer, file = request.path, "TFTP: {MOST} transfers run already");
                    continue;
                }
                Err((code, why)) => {
                    refused(&netboot, peer, &request.path, &why);
                    packet::error(code, &why)
                }
            },
            Some(Message::Write) => packet::error(ErrorCode::Denied, "this server is read only"),
            Some(Message::Ack(_) | Message::Error { .. }) | None => continue,
        };
        if let Err(error) = socket.send_to(&refusal, peer).await {
            tracing::warn!(%peer, %error, "cannot send a TFTP error");
        }
    }
    let drained = timeout(DRAIN, async { while transfers.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        transfers.shutdown().await;
    }
}

fn find(request: &Request, netboot: &Netboot) -> Result<Bytes, (ErrorCode, String)> {
    if request.mode != "octet" {
        return Err((ErrorCode::Illegal, format!("mode {:?} is not served, only octet", request.mode)));
    }
    let name = request.base_name();
    netboot.loaders.get(name).ok_or_else(|| (ErrorCode::NotFound, format!("there is no loader {name:?}")))
}

async fn transfer(request: Request, content: Bytes, (local, peer): (IpAddr, SocketAddr), netboot: Netboot) {
    let started = Instant::now();
    let socket = match connect(local, peer).await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%peer, %error, "cannot open a socket for a TFTP transfer");
            return;
        }
    };
    let terms = request.terms(content.len());
    let mut transfer = Transfer { socket, content: &content, terms, acknowledged: 0 };
    let result = transfer.run().await;
    let (bytes, total) = (transfer.sent(), content.len() as u64);
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &result {
        Ok(()) => tracing::info!(%peer, file = request.path, bytes, ms, "TFTP: sent"),
        // Firmware asks for the size first and then hangs up.
        Err(why) if bytes == 0 => tracing::debug!(%peer, file = request.path, %why, "TFTP: nothing was sent"),
        Err(why) => tracing::warn!(%peer, file = request.path, bytes, total, %why, "TFTP: broke off"),
    }
    if result.is_ok() || bytes > 0 {
        let machine = machine_at(&netboot, peer);
        let path = request.base_name().to_owned();
        let what = What::File { service: "tftp".into(), path, bytes, total, ms };
        netboot.sink.emit(machine.as_ref().map(|machine| machine.mac), machine.map(|machine| machine.name), what);
    }
}

async fn connect(local: IpAddr, peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

fn refused(netboot: &Netboot, peer: SocketAddr, path: &str, why: &str) {
    let machine = machine_at(netboot, peer);
    let mac = machine.as_ref().map(|machine| machine.mac);
    tracing::warn!(%peer, mac = mac.map(tracing::field::display), file = path, why, "TFTP: refused");
    let what = What::Refused { asked: path.to_owned(), why: why.to_owned() };
    netboot.sink.emit(mac, machine.map(|machine| machine.name), what);
}

fn machine_at(netboot: &Netboot, peer: SocketAddr) -> Option<Machine> {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => netboot.machines.by_address(address),
        IpAddr::V6(_) => None,
    }
}
