//! One file to one client: windows of blocks, repeated until acknowledged, over a socket of its own or over the
//! service's. Duplicate acknowledgements are never answered with data (RFC 1123 §4.2.3.1). Tells nobody: the caller does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::packet::{ErrorCode, Message, Terms, data, error};
use super::source::Source;

const REPEAT_AFTER: Duration = Duration::from_secs(1);
const TRIES: u32 = 8;

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("the client ended it: {message:?} (code {code})")]
    Ended { code: u16, message: String },
    #[error("the client did not answer {TRIES} times")]
    Silence,
    #[error("cannot send")]
    Send(#[source] io::Error),
    #[error("cannot receive")]
    Receive(#[source] io::Error),
    #[error("cannot read the file")]
    Read(#[source] io::Error),
}

/// The way to one client.
pub(super) enum Wire {
    /// A port of its own, as RFC 1350 has it.
    Own(UdpSocket),
    /// The service's port, for firewalls that know no other; the service hands over what this client sends.
    Shared { socket: Arc<UdpSocket>, peer: SocketAddr, inbox: mpsc::Receiver<Vec<u8>> },
}

impl Wire {
    async fn send(&self, datagram: &[u8]) -> Result<(), TransferError> {
        let sent = match self {
            Self::Own(socket) => socket.send(datagram).await,
            Self::Shared { socket, peer, .. } => socket.send_to(datagram, peer).await,
        };
        sent.map(drop).map_err(TransferError::Send)
    }

    async fn receive(&mut self) -> Result<Option<Message>, TransferError> {
        match self {
            Self::Own(socket) => {
                let mut buffer = [0; 1024];
                let length = socket.recv(&mut buffer).await.map_err(TransferError::Receive)?;
                Ok(Message::decode(&buffer[..length]))
            }
            Self::Shared { inbox, .. } => match inbox.recv().await {
                Some(datagram) => Ok(Message::decode(&datagram)),
                None => Err(TransferError::Receive(io::ErrorKind::BrokenPipe.into())),
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
}

impl Transfer {
    /// Sends everything.
    pub(super) async fn run(&mut self) -> Result<(), TransferError> {
        if !self.terms.accepted.is_empty() {
            let options = self.terms.encode();
            self.exchange(&[options], 0).await?;
        }
        let size = u64::from(self.terms.block);
        while self.acknowledged < self.blocks() {
            let last = (self.acknowledged + u64::from(self.terms.window)).min(self.blocks());
            self.content.load(self.acknowledged * size, last * size).await.map_err(TransferError::Read)?;
            let window: Vec<_> = (self.acknowledged + 1..=last).map(|number| self.block(number)).collect();
            self.acknowledged += self.exchange(&window, last - self.acknowledged).await?;
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

    fn block(&self, number: u64) -> Vec<u8> {
        let size = u64::from(self.terms.block);
        data(number as u16, self.content.get((number - 1) * size, number * size))
    }

    /// Sends these until some are acknowledged; says how many. `most` is 0 for options, which block 0 acknowledges.
    async fn exchange(&mut self, datagrams: &[Vec<u8>], most: u64) -> Result<u64, TransferError> {
        let pause = self.terms.timeout.map_or(REPEAT_AFTER, |seconds| Duration::from_secs(seconds.into()));
        for _ in 0..TRIES {
            for datagram in datagrams {
                self.wire.send(datagram).await?;
            }
            let deadline = Instant::now() + pause;
            while let Ok(message) = timeout_at(deadline, self.wire.receive()).await {
                match message? {
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
                        self.wire.send(&error(ErrorCode::Illegal, "this is no acknowledgement")).await?;
                    }
                }
            }
        }
        Err(TransferError::Silence)
    }
}
