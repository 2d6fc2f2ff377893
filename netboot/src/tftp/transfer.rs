//! One file to one client: windows of blocks, repeated until acknowledged, over a socket of its own or over the
//! service's. Duplicate acknowledgements are never answered with data (RFC 1123 §4.2.3.1). Tells nobody: the caller does.
//! Blocking, on a thread of its own: with one block at a time, as most firmware asks, a transfer is nothing but turns of
//! one datagram each way, and two system calls a turn are the fewest there can be.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::packet::{Datagrams, ErrorCode, Message, Terms, error};
use super::source::Source;

const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// Each pause after the third is twice the one before: about a minute in all. GRUB opens an initramfs, has the kernel
/// before it verified, and only then reads it.
const TRIES: u32 = 8;
/// How long a wait goes on after it was told to stop.
pub(super) const SLICE: Duration = Duration::from_millis(250);

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("the client ended it: {message:?} (code {code})")]
    Ended { code: u16, message: String },
    #[error("the client did not answer {TRIES} times")]
    Silence,
    #[error("the service has ended")]
    Stopped,
    #[error("cannot send")]
    Send(#[source] io::Error),
    #[error("cannot receive")]
    Receive(#[source] io::Error),
    #[error("cannot read the file")]
    Read(#[source] io::Error),
}

/// The way to one client.
pub(super) enum Wire {
    /// A port of its own, as RFC 1350 has it; its reads take [`SLICE`] at most.
    Own(UdpSocket),
    /// The service's port, for firewalls that know no other; the service hands over what this client sends.
    Shared { socket: Arc<UdpSocket>, peer: SocketAddr, inbox: Receiver<Vec<u8>> },
}

impl Wire {
    fn send(&self, datagram: &[u8]) -> Result<(), TransferError> {
        let sent = match self {
            Self::Own(socket) => socket.send(datagram),
            Self::Shared { socket, peer, .. } => socket.send_to(datagram, peer),
        };
        match sent {
            // No room in the kernel is the same as a loss on the way.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(TransferError::Send(error)),
            _ => Ok(()),
        }
    }

    /// The next datagram, read as a message; none when there was none for a while.
    fn receive(&self) -> Result<Option<Option<Message>>, TransferError> {
        match self {
            Self::Own(socket) => {
                let mut buffer = [0; 1024];
                match socket.recv(&mut buffer) {
                    Ok(length) => Ok(Some(Message::decode(&buffer[..length]))),
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                        Ok(None)
                    }
                    Err(error) => Err(TransferError::Receive(error)),
                }
            }
            Self::Shared { inbox, .. } => match inbox.recv_timeout(SLICE) {
                Ok(datagram) => Ok(Some(Message::decode(&datagram))),
                Err(RecvTimeoutError::Timeout) => Ok(None),
                Err(RecvTimeoutError::Disconnected) => Err(TransferError::Stopped),
            },
        }
    }
}

/// A transfer and how far it is.
pub(super) struct Transfer {
    pub wire: Wire,
    pub content: Source,
    pub terms: Terms,
    /// Blocks that the client has.
    pub acknowledged: u64,
    /// Set when the service ends and waits no longer.
    pub stop: Arc<AtomicBool>,
}

impl Transfer {
    /// Sends everything.
    pub(super) fn run(&mut self) -> Result<(), TransferError> {
        if !self.terms.accepted.is_empty() {
            let options = self.terms.encode();
            self.exchange(std::iter::once(options.as_slice()), 0)?;
        }
        let size = u64::from(self.terms.block);
        let mut window = Datagrams::default();
        while self.acknowledged < self.blocks() {
            let last = (self.acknowledged + u64::from(self.terms.window)).min(self.blocks());
            self.content.load(self.acknowledged * size, last * size).map_err(TransferError::Read)?;
            window.clear();
            for number in self.acknowledged + 1..=last {
                window.push(number as u16, self.content.get((number - 1) * size, number * size));
            }
            self.acknowledged += self.exchange(window.iter(), last - self.acknowledged)?;
        }
        Ok(())
    }

    /// How much the client has.
    pub(super) fn sent(&self) -> u64 {
        (self.acknowledged * u64::from(self.terms.block)).min(self.content.total())
    }

    /// The last block is shorter than the others, and empty when the file ends with a full one.
    fn blocks(&self) -> u64 {
        self.content.total() / u64::from(self.terms.block) + 1
    }

    /// Sends these until some are acknowledged; says how many. `most` is 0 for options, which block 0 acknowledges.
    fn exchange<'a>(
        &mut self,
        datagrams: impl Iterator<Item = &'a [u8]> + Clone,
        most: u64,
    ) -> Result<u64, TransferError> {
        let pause = self.terms.timeout.map_or(REPEAT_AFTER, |seconds| Duration::from_secs(seconds.into()));
        for tried in 0..TRIES {
            for datagram in datagrams.clone() {
                self.wire.send(datagram)?;
            }
            let deadline = Instant::now() + pause * (1 << tried.saturating_sub(2));
            while Instant::now() < deadline {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(TransferError::Stopped);
                }
                let Some(message) = self.wire.receive()? else { continue };
                match message {
                    Some(Message::Ack(number)) => {
                        let ahead = u64::from(number.wrapping_sub(self.acknowledged as u16));
                        if ahead <= most && (ahead > 0 || most == 0) {
                            return Ok(ahead);
                        }
                    }
                    Some(Message::Error { code, message }) => return Err(TransferError::Ended { code, message }),
                    // The request again: our answer was lost, and is repeated in time.
                    Some(Message::Read(_)) => {}
                    Some(Message::Write) | None => {
                        self.wire.send(&error(ErrorCode::Illegal, "this is no acknowledgement"))?;
                    }
                }
            }
        }
        Err(TransferError::Silence)
    }
}
