//! One request of one URL: trusted roots, proxies, time limits. Says what came back; does not retry.

use std::sync::Arc;

use reqwest::Url;
use reqwest::blocking::{self, RequestBuilder};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::{Error, Options, redacted};

const USER_AGENT: &str = concat!("ironhook/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Debug)]
pub(crate) struct Client {
    inner: blocking::Client,
    url: Url,
    headers: HeaderMap,
    pub(crate) options: Options,
}

impl Client {
    pub(crate) fn new(url: &str, options: &Options) -> Result<Self, Error> {
        let refused = || Error::Url { url: redacted(url) };
        let parsed = Url::parse(url).map_err(|_| refused())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(refused());
        }
        let inner = blocking::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls(options)?)
            .connect_timeout(options.connect)
            // The blocking client applies it to each read of the body, not to the whole.
            .timeout(options.stall)
            .build()
            .map_err(|e| Error::Client { source: e.without_url().into() })?;
        Ok(Self { inner, url: parsed, headers: headers(options)?, options: options.clone() })
    }

    /// Without a limit on the whole request, and without following redirects, which would need the body a second time.
    pub(crate) fn for_upload(url: &str, options: &Options) -> Result<Self, Error> {
        let plain = Self::new(url, options)?;
        let inner = blocking::Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls(options)?)
            .connect_timeout(options.connect)
            .timeout(None)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| Error::Client { source: e.without_url().into() })?;
        Ok(Self { inner, ..plain })
    }

    /// A request that is not a GET.
    pub(crate) fn request(&self, method: reqwest::Method) -> RequestBuilder {
        self.inner.request(method, self.url.clone()).headers(self.headers.clone())
    }

    /// The same client for a path below its URL, with headers of the caller.
    pub(crate) fn below(&self, path: &str, headers: HeaderMap) -> Result<Self, Error> {
        let url = self.url.join(path).map_err(|_| Error::Url { url: self.shown() })?;
        Ok(self.elsewhere(url, headers))
    }

    /// The same client for another URL.
    pub(crate) fn elsewhere(&self, url: Url, headers: HeaderMap) -> Self {
        Self { inner: self.inner.clone(), url, headers, options: self.options.clone() }
    }

    /// Whether the URL is one without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    /// As it may be shown.
    pub(crate) fn shown(&self) -> String {
        redacted(self.url.as_str())
    }

    /// The bytes as they are stored: no encoding in transit may change what a digest is taken of.
    pub(crate) fn get(&self) -> RequestBuilder {
        let request = self.inner.get(self.url.clone()).headers(self.headers.clone());
        request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }
}

fn headers(options: &Options) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let refused = || Error::Header { name: name.clone() };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| refused())?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// Only these roots: the platform's store does not exist in an initramfs, and asking for it fails.
fn tls(options: &Options) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &options.ca_file {
        let failed = |source| Error::Authorities { path: path.clone(), source };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| failed(e.into()))? {
            roots.add(certificate.map_err(|e| failed(e.into()))?).map_err(|e| failed(e.into()))?;
            found = true;
        }
        if !found {
            return Err(failed("no certificate in it".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Client { source: e.into() })?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
