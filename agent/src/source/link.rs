//! The connection to the server: HTTP/2 in the clear or over TLS, reconnecting by itself, noticing a dead peer.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::roots::{self, RootsError};
use crate::config::{Config, Tls};

/// No call of ours takes longer on a server that is well.
const DEADLINE: Duration = Duration::from_secs(10);
/// Servers of the newer generation answer that there is no work after a minute at the latest.
const HELD: Duration = Duration::from_secs(75);

/// The server's address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not an address.
    #[error("{authority} is no address of a server")]
    Address {
        /// As configured.
        authority: String,
        /// What is wrong.
        #[source]
        source: tonic::transport::Error,
    },
    /// A file that TLS needs.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS to {authority}")]
    Tls {
        /// As configured.
        authority: String,
        /// What is wrong.
        #[source]
        source: tonic::transport::Error,
    },
}

/// A channel that connects at the first call, and again whenever the connection is lost.
pub fn channel(config: &Config) -> Result<Channel, LinkError> {
    let endpoint = endpoint(config)?
        .timeout(DEADLINE)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        // Only while a call is open: servers written in Go hang up on a client that pings when idle.
        .keep_alive_while_idle(false);
    Ok(endpoint.connect_lazy())
}

/// The same for calls that the server holds back for up to a minute. No pings: a server written in Go takes three
/// without an answer in between for an attack. A server that is gone is noticed by the deadline, and by TCP before.
pub fn patient(config: &Config) -> Result<Channel, LinkError> {
    let endpoint = endpoint(config)?.timeout(HELD).tcp_keepalive(Some(DEADLINE));
    Ok(endpoint.connect_lazy())
}

fn endpoint(config: &Config) -> Result<Endpoint, LinkError> {
    let Config { authority, tls, .. } = config;
    let (authority, tls) = (authority.as_str(), *tls);
    let scheme = if tls == Tls::Off { "http" } else { "https" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
        .map_err(|source| LinkError::Address { authority: authority.to_owned(), source })?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true);
    let endpoint = match tls {
        Tls::Off => Ok(endpoint),
        Tls::Verified => endpoint.tls_config(roots::trusted(config)?),
        Tls::Unverified => {
            let verifier = Arc::new(Anyone(Arc::new(ring::default_provider())));
            endpoint.tls_config_with_verifier(roots::identified(ClientTlsConfig::new(), config)?, verifier)
        }
    };
    endpoint.map_err(|source| LinkError::Tls { authority: authority.to_owned(), source })
}

/// Believes any certificate, but only of a peer that holds its key: `--tinkerbell-insecure-tls`.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
