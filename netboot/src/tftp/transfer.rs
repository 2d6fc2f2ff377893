//! One file to one client, over a socket of its own: windows of blocks, repeated until acknowledged.
//! Duplicate acknowledgements are never answered with data (RFC 1123 §4.2.3.1). Tells nobody: the caller does.

use std::io;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::packet::{ErrorCode, Message, Terms, data, error};

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
}

/// A transfer and how far it is.
pub(super) struct Transfer<'a> {
    pub socket: UdpSocket,
    pub content: &'a [u8],
    pub terms: Terms,
    /// Blocks that the client has.
    pub acknowledged: u64,
}

impl Transfer<'_> {
    /// Sends everything.
    pub(super) async fn run(&mut self) -> Result<(), TransferError> {
        if !self.terms.accepted.is_empty() {
            let options = self.terms.encode();
            self.exchange(&[options], 0).await?;
        }
        while self.acknowledged < self.blocks() {
            let last = (self.acknowledged + u64::from(self.terms.window)).min(self.blocks());
            let window: Vec<_> = (self.acknowledged + 1..=last).map(|number| self.block(number)).collect();
            self.acknowledged += self.exchange(&window, last - self.acknowledged).await?;
        }
        Ok(())
    }

    /// How much the client has.
    pub(super) fn sent(&self) -> u64 {
        (self.acknowledged * u64::from(self.terms.block)).min(self.content.len() as u64)
    }

    /// The last block is shorter than the others, and empty when the file ends with a full one.
    fn blocks(&self) -> u64 {
        self.content.len() as u64 / u64::from(self.terms.block) + 1
    }

    fn block(&self, number: u64) -> Vec<u8> {
        let size = usize::from(self.terms.block);
        let start = (number as usize - 1) * size;
        data(number as u16, &self.content[start..self.content.len().min(start + size)])
    }

    /// Sends these until some are acknowledged; says how many. `most` is 0 for options, which block 0 acknowledges.
    async fn exchange(&self, datagrams: &[Vec<u8>], most: u64) -> Result<u64, TransferError> {
        let pause = self.terms.timeout.map_or(REPEAT_AFTER, |seconds| Duration::from_secs(seconds.into()));
        for _ in 0..TRIES {
            for datagram in datagrams {
                self.socket.send(datagram).await.map_err(TransferError::Send)?;
            }
            let deadline = Instant::now() + pause;
            while let Ok(message) = timeout_at(deadline, self.receive()).await {
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
                        let refusal = error(ErrorCode::Illegal, "this is no acknowledgement");
                        self.socket.send(&refusal).await.map_err(TransferError::Send)?;
                    }
                }
            }
        }
        Err(TransferError::Silence)
    }

    async fn receive(&self) -> Result<Option<Message>, TransferError> {
        let mut buffer = [0; 1024];
        let length = self.socket.recv(&mut buffer).await.map_err(TransferError::Receive)?;
        Ok(Message::decode(&buffer[..length]))
    }
}
