//! A connection of plain HTTP, and who is at its other end. Files go from the page cache to the socket without passing
//! through this process (sendfile): the protocol is hyper's, which writes bytes, so a body hands over stand-in bytes of
//! the right length, and the connection writes the file in their place. Decides nothing about what is sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use nix::sys::sendfile::sendfile;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// What is handed over at once.
const PIECE: usize = 256 << 10;
/// Only its address and the length of a part of it count; it is never written to a client.
static STAND_IN: [u8; PIECE] = [0; PIECE];

/// The parts of files that stand-ins stand for, in the order in which they were handed over.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(Arc<Mutex<VecDeque<Piece>>>);

#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    at: u64,
    left: usize,
}

impl Files {
    /// What a body hands over for at most `length` bytes of a file from `at` on; it may be for fewer.
    pub(super) fn stand_in(&self, file: &Arc<File>, at: u64, length: u64) -> Bytes {
        let left = usize::try_from(length).unwrap_or(PIECE).min(PIECE);
        let piece = Piece { file: Arc::clone(file), at, left };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(piece);
        Bytes::from_static(&STAND_IN[..left])
    }

    /// Sends some of the oldest part, at most `length` bytes.
    fn send(&self, stream: &TcpStream, length: usize) -> io::Result<usize> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a stand-in stands for no part of a file");
        let piece = pieces.front_mut().ok_or_else(unknown)?;
        let mut offset = i64::try_from(piece.at).map_err(io::Error::other)?;
        let sent = sendfile(stream, &*piece.file, Some(&mut offset), piece.left.min(length))?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter"));
        }
        piece.at += sent as u64;
        piece.left -= sent;
        if piece.left == 0 {
            pieces.pop_front();
        }
        Ok(sent)
    }
}

fn is_stand_in(bytes: &[u8]) -> bool {
    let start = STAND_IN.as_ptr().addr();
    !bytes.is_empty() && (start..start + PIECE).contains(&bytes.as_ptr().addr())
}

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    files: Files,
}

impl Connection {
    fn poll_send(&self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_io(Interest::WRITABLE, || self.files.send(&self.stream, length)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if is_stand_in(bytes) {
            self.poll_send(cx, bytes.len())
        } else {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = &slices[slices.iter().position(|slice| !slice.is_empty()).unwrap_or(slices.len())..];
        match slices.iter().position(|slice| is_stand_in(slice)) {
            Some(0) => self.poll_send(cx, slices[0].len()),
            Some(first) => Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..first]),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        }
    }

    /// Without it, hyper would copy what bodies hand over into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts [`Connection`]s.
pub(super) struct Plain(pub TcpListener);

impl Listener for Plain {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, peer) = Listener::accept(&mut self.0).await;
        (Connection { stream, files: Files::default() }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The other end of a connection, as a request is given it.
#[derive(Clone)]
pub(super) struct Caller {
    pub peer: SocketAddr,
    /// Where files can be sent as they are.
    pub files: Option<Files>,
}

impl Connected<IncomingStream<'_, Plain>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Plain>) -> Self {
        Self { peer: *stream.remote_addr(), files: Some(stream.io().files.clone()) }
    }
}

/// The routes know peers by address. HTTP/2 cuts bodies into frames of its own, which takes real bytes.
pub(super) async fn introduce(mut request: Request, next: Next) -> Response {
    if let Some(ConnectInfo(Caller { peer, files })) = request.extensions_mut().remove::<ConnectInfo<Caller>>() {
        let files = files.filter(|_| request.version() <= axum::http::Version::HTTP_11);
        request.extensions_mut().insert(ConnectInfo(peer));
        files.map(|files| request.extensions_mut().insert(files));
    }
    next.run(request).await
}
