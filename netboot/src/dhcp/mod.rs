//! The DHCP service: reservations and boot files, on one interface. It decides nothing itself: see `reply`.
//! No leases are stored; an address is what the machine's Hardware says.

mod client;
mod recent;
mod reply;
mod socket;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use spec::Mac;
use spec::activity::What;
use spec::dhcp::{MessageType, Packet};
use tokio::net::UdpSocket;

use crate::Netboot;
pub use client::LOADERS;
use recent::Recent;
use reply::{Answer, Refusal};
pub use socket::{BindError, bind};

/// Larger than any frame.
const BUFFER: usize = 9216;
/// Between two tries when the interface is away.
const AWAY: Duration = Duration::from_secs(1);

/// Answers until `shutdown` ends.
pub async fn serve(socket: UdpSocket, netboot: Netboot, shutdown: impl Future<Output = ()> + Send) {
    let mut service = Service { netboot, recent: Recent::new() };
    let mut buffer = vec![0; BUFFER];
    tokio::pin!(shutdown);
    loop {
        let received = tokio::select! {
            () = &mut shutdown => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let length = match received {
            Ok((length, _)) => length,
            Err(error) => {
                tracing::warn!(interface = service.netboot.settings.interface, %error, "cannot receive DHCP messages");
                tokio::select! {
                    () = &mut shutdown => return,
                    () = tokio::time::sleep(AWAY) => continue,
                }
            }
        };
        let Some((reply, to)) = service.handle(&buffer[..length], Instant::now()) else { continue };
        if let Err(error) = socket.send_to(&reply, to).await {
            tracing::warn!(%to, %error, "cannot send a DHCP reply");
        }
    }
}

struct Service {
    netboot: Netboot,
    recent: Recent<(Mac, Refusal)>,
}

impl Service {
    /// One datagram to at most one.
    fn handle(&mut self, bytes: &[u8], now: Instant) -> Option<(Vec<u8>, SocketAddrV4)> {
        let request = match Packet::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(%error, "ignored a datagram");
                return None;
            }
        };
        if let (Some(code), Some(mac)) = (request.options.truncated(), request.mac()) {
            tracing::debug!(%mac, code, "an option claims more bytes than the message has");
        }
        let machines = &self.netboot.machines;
        let answer = match reply::answer(&request, |mac| machines.by_mac(mac), &self.netboot.settings) {
            Ok(answer) => answer,
            Err(ignored) => {
                tracing::debug!(mac = request.mac().map(tracing::field::display), why = %ignored, "ignored a DHCP message");
                return None;
            }
        };
        self.tell(&answer, now);
        let reply = answer.reply?;
        Some((reply.encode(), reply::destination(&request, &reply)))
    }

    fn tell(&mut self, answer: &Answer, now: Instant) {
        let (mac, machine, client) = (answer.mac, answer.machine.clone(), answer.client.name());
        if let Some(refusal) = &answer.refused
            && self.recent.first((mac, refusal.clone()), now)
        {
            let Refusal { asked, why } = refusal.clone();
            tracing::warn!(%mac, machine, client, asked, why, "DHCP: refused");
            self.netboot.sink.emit(Some(mac), machine.clone(), What::Refused { asked: asked.into(), why });
        }
        if let Some(reply) = &answer.reply
            && reply.message_type() == Some(MessageType::Ack)
        {
            let address = reply.yiaddr;
            let file = String::from_utf8_lossy(&reply.file);
            tracing::info!(%mac, machine, client, %address, %file, "DHCP: gave an address");
            self.netboot.sink.emit(Some(mac), machine, What::Dhcp { address, client: client.into() });
        }
    }
}
