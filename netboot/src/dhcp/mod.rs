//! The DHCP services, each on one interface: reservations and boot files on port 67, or a proxy's boot files beside
//! somebody else's DHCP on ports 67 and 4011. They decide nothing themselves: see `reply`. No leases are stored.

mod boot;
mod client;
mod recent;
mod reply;
mod socket;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use spec::Mac;
use spec::activity::What;
use spec::dhcp::{MessageType, Packet};
use tokio::net::UdpSocket;

use crate::{Facts, Mode, Netboot, Step};
pub use client::LOADERS;
use recent::Recent;
pub use reply::Port;
use reply::{Answer, Context, Ignored, Refusal};
pub(crate) use socket::open_client;
pub use socket::{BindError, bind, bind_at};

/// Larger than any frame.
const BUFFER: usize = 9216;
/// Between two tries when the interface is away.
const AWAY: Duration = Duration::from_secs(1);
/// Messages handled in a row before other tasks get their turn.
const BURST: usize = 32;

impl Port {
    /// The number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Server => 67,
            Self::Boot => 4011,
        }
    }
}

/// Answers on a socket of [`bind`] until `shutdown` ends, as the settings of the interface say at every message.
pub async fn serve(
    socket: UdpSocket,
    (interface, port): (String, Port),
    netboot: Netboot,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut service = Service { netboot, interface, port, recent: Recent::new(), known: Recent::new() };
    let mut buffer = vec![0; BUFFER];
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            ready = socket.readable() => if let Err(error) = ready {
                tracing::warn!(interface = service.interface, %error, "cannot wait for DHCP messages");
            },
        }
        for _ in 0..BURST {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, SocketAddr::V4(from))) => {
                    let Some((reply, to)) = service.handle(&buffer[..length], from, Instant::now()) else { continue };
                    if let Err(error) = socket.send_to(&reply, to).await {
                        tracing::warn!(%to, %error, "cannot send a DHCP reply");
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(interface = service.interface, %error, "cannot receive DHCP messages");
                    tokio::select! {
                        () = &mut shutdown => return,
                        () = tokio::time::sleep(AWAY) => break,
                    }
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

struct Service {
    netboot: Netboot,
    interface: String,
    port: Port,
    recent: Recent<(Mac, Refusal)>,
    /// Steps that were told, with the transaction: a machine that repeats itself is told of once, one that tries anew again.
    known: Recent<(Mac, u32, Step)>,
}

impl Service {
    /// One datagram to at most one.
    fn handle(&mut self, bytes: &[u8], from: SocketAddrV4, now: Instant) -> Option<(Vec<u8>, SocketAddrV4)> {
        let counters = &self.netboot.counters;
        let request = match Packet::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                counters.malformed.one();
                tracing::debug!(%error, "ignored a datagram");
                return None;
            }
        };
        if let (Some(code), Some(mac)) = (request.options.truncated(), request.mac()) {
            tracing::debug!(%mac, code, "an option claims more bytes than the message has");
        }
        match request.message_type() {
            Some(MessageType::Discover) => counters.discovers.one(),
            Some(MessageType::Request) => counters.requests.one(),
            _ => {}
        }
        let settings = self.netboot.settings();
        let (mode, address) = match settings.interface(&self.interface) {
            Some(interface) => (interface.mode, interface.address.unwrap_or(settings.address)),
            None => (Mode::Off, settings.address),
        };
        let here;
        let settings = if address == settings.address {
            &*settings
        } else {
            here = settings.at(address);
            &here
        };
        let (stages, loaders) = (&self.netboot.stages, &*self.netboot.loaders);
        let context = Context { settings, mode, port: self.port, loaders, stages, now, moved_on: Cell::new(false) };
        let machine = request.mac().and_then(|mac| self.netboot.machines.by_mac(mac));
        let mut history = request.mac().map(|mac| self.netboot.machines.history(mac)).unwrap_or_default();
        let facts = reply::learn(&request, &self.interface, &mut history);
        let answer = match reply::answer(&request, machine.as_deref(), &history, &context) {
            Ok(answer) => answer,
            Err(ignored) => {
                self.ignored(&request, &ignored, now);
                return None;
            }
        };
        let moved_on = context.moved_on.get();
        self.tell(&request, &answer, (facts, mode, moved_on), now);
        let reply = answer.reply?;
        let to = reply::destination(&request, &reply, self.port, from);
        Some((reply.encode(), to))
    }

    /// A machine that takes another server's offer after ours is what `doctor` looks for.
    fn ignored(&mut self, request: &Packet, why: &Ignored, now: Instant) {
        tracing::debug!(mac = request.mac().map(tracing::field::display), %why, "ignored a DHCP message");
        if let (Ignored::OtherServer(server), Some(mac)) = (why, request.mac())
            && client::Client::of(request) != client::Client::Plain
        {
            self.netboot.counters.elsewhere.one();
            self.step((mac, request.xid), Step::ChoseOther { server: *server }, now);
        }
    }

    fn step(&mut self, (mac, transaction): (Mac, u32), step: Step, now: Instant) {
        if self.known.first((mac, transaction, step.clone()), now) {
            self.netboot.sink.step(mac, step);
        }
    }

    fn tell(&mut self, request: &Packet, answer: &Answer, (facts, mode, moved_on): (Facts, Mode, bool), now: Instant) {
        let (mac, machine, client) = (answer.mac, answer.machine.clone(), answer.client.name());
        let counters = std::sync::Arc::clone(&self.netboot.counters);
        if answer.client == client::Client::Ipxe {
            self.netboot.stages.sign(mac);
        }
        let discover = Step::Discover { client: client.into() };
        let asks = request.message_type() == Some(MessageType::Discover) || self.port == Port::Boot;
        if asks && self.known.first((mac, request.xid, discover.clone()), now) {
            self.netboot.sink.facts(mac, facts);
            self.netboot.sink.step(mac, discover);
        }
        if let Some(refusal) = &answer.refused {
            counters.refused.one();
            if self.recent.first((mac, refusal.clone()), now) {
                let Refusal { asked, why } = refusal.clone();
                tracing::warn!(%mac, machine, client, asked, why, "DHCP: refused");
                self.netboot.sink.emit(Some(mac), machine.clone(), What::Refused { asked: asked.into(), why });
            }
        }
        let Some(reply) = &answer.reply else { return };
        let file = String::from_utf8_lossy(&reply.file).into_owned();
        if moved_on {
            counters.loaders_changed.one();
            tracing::warn!(%mac, machine, file, "DHCP: the loader before showed no sign, this is the next");
            self.netboot.sink.step(mac, Step::NextLoader { file: file.clone() });
        }
        match reply.message_type() {
            Some(MessageType::Offer) if reply.yiaddr.is_unspecified() => counters.proxy_offers.one(),
            Some(MessageType::Offer) => counters.offers.one(),
            Some(MessageType::Nak) => counters.naks.one(),
            _ => counters.acks.one(),
        }
        let address: Ipv4Addr = reply.yiaddr;
        if reply.message_type() == Some(MessageType::Ack) && !address.is_unspecified() {
            tracing::info!(%mac, machine, client, %address, %file, "DHCP: gave an address");
            self.netboot.sink.emit(Some(mac), machine, What::Dhcp { address, client: client.into() });
        } else if answer.client != client::Client::Plain && reply.message_type() != Some(MessageType::Nak) {
            let mode = match (self.port, mode) {
                (Port::Boot, _) => "4011",
                (_, Mode::Proxy) => "proxy",
                (_, Mode::Auto) => "auto",
                _ => "reservation",
            };
            tracing::debug!(%mac, machine, client, mode, %file, "DHCP: offered a boot file");
            self.step((mac, request.xid), Step::Offer { mode: mode.into(), file }, now);
        }
    }
}

/// For fuzzing: answers a datagram as the service does, without a socket.
#[doc(hidden)]
pub fn probe(netboot: &Netboot, (interface, port): (&str, Port), bytes: &[u8]) -> Option<Vec<u8>> {
    let (netboot, interface) = (netboot.clone(), interface.to_owned());
    let mut service = Service { netboot, interface, port, recent: Recent::new(), known: Recent::new() };
    let from = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 68);
    service.handle(bytes, from, Instant::now()).map(|(reply, _)| reply)
}

/// What a message would be answered, in words.
pub(crate) fn dry_run(netboot: &Netboot, interface: &str, port: Port, request: &Packet, now: Instant) -> String {
    let settings = netboot.settings();
    let mode = settings.interface(interface).map_or(Mode::Off, |interface| interface.mode);
    // Stages of its own: nobody was sent anywhere.
    let stages = crate::stages::Stages::default();
    let (loaders, moved_on) = (&*netboot.loaders, Cell::new(false));
    let context = Context { settings: &settings, mode, port, loaders, stages: &stages, now, moved_on };
    let machine = request.mac().and_then(|mac| netboot.machines.by_mac(mac));
    let history = request.mac().map(|mac| netboot.machines.history(mac)).unwrap_or_default();
    let answer = match reply::answer(request, machine.as_deref(), &history, &context) {
        Err(ignored) => return format!("silence: {ignored}"),
        Ok(answer) => answer,
    };
    let refused = answer.refused.map(|refusal| format!("no {}: {}", refusal.asked, refusal.why));
    match answer.reply {
        None => format!("silence, {}", refused.unwrap_or_default()),
        Some(reply) => {
            let address = Some(reply.yiaddr).filter(|address| !address.is_unspecified());
            let file = reply.options.text(spec::dhcp::option::BOOT_FILE);
            let file = file.unwrap_or_else(|| String::from_utf8_lossy(&reply.file).into_owned());
            let parts = [
                address.map(|address| format!("address {address}")),
                (!file.is_empty()).then(|| format!("file {file}")),
                refused,
            ];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}
