//! HTTPS for the same router. The certificate must be RSA: the iPXE of Debian and of the field's bundles takes no other
//! (wire reference §12.42). Handshakes run beside each other; one that never ends holds nobody up.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::middleware::from_fn;
use axum::serve::{IncomingStream, Listener};
use rustls::SignatureAlgorithm;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Caller, introduce};

/// A client that does not speak is dropped.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Handshakes at the same time.
const MOST: usize = 64;

/// HTTPS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the two files.
    #[error("cannot read {path} as PEM")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The key is of a kind that machines cannot check.
    #[error("the key {path} is {found:?}, it must be RSA: iPXE checks no other signatures")]
    NotRsa {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: SignatureAlgorithm,
    },
    /// They do not fit each other.
    #[error("the certificate {certificate} and the key {key} cannot be used")]
    Use {
        /// Which.
        certificate: PathBuf,
        /// Which.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Reads and checks certificate chain and key.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(read(certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(read(key))?;
    let unusable = |source| TlsError::Use { certificate: certificate.into(), key: key.into(), source };
    let signing = rustls::crypto::ring::sign::any_supported_type(&private).map_err(unusable)?;
    if signing.algorithm() != SignatureAlgorithm::RSA {
        return Err(TlsError::NotRsa { path: key.into(), found: signing.algorithm() });
    }
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves a router until `shutdown` ends.
pub async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (sender, streams) = mpsc::channel(MOST);
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(accept(listener, acceptor, sender));
    let service = router.layer(from_fn(introduce)).into_make_service_with_connect_info::<Caller>();
    let served = axum::serve(Ready { streams, address }, service).with_graceful_shutdown(shutdown).await;
    accepting.abort();
    served
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let slots = Arc::new(tokio::sync::Semaphore::new(MOST));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "HTTPS: cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                Ok(Err(error)) => {
                    tracing::warn!(%peer, %error, "HTTPS: the handshake failed (does the machine trust this certificate?)")
                }
                Err(_) => tracing::debug!(%peer, "HTTPS: the client never spoke"),
            }
            drop(slot);
        });
    }
}

/// Connections whose handshake is done.
struct Ready {
    streams: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Ready {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.streams.recv().await {
            Some(next) => next,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Ready>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Ready>) -> Self {
        Self { peer: *stream.remote_addr(), files: None }
    }
}
