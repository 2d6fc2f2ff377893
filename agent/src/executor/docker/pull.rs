//! Getting an image: from its registry, with progress and bounded retries; else the one the engine already has.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use spec::event::Progress;
use spec::{Code, Failure};

use crate::backoff::Backoff;
use crate::config::Credentials;
use crate::executor::docker::reference;
use crate::executor::memory;
use crate::progress::Reporter;
use crate::text::chain;

/// Compressed and unpacked, a layer takes about so many times its size while it is pulled.
const UNPACKED: u64 = 4;
/// The engine's, and the kernel's, words.
pub const NO_SPACE: &str = "no space left on device";
/// A pull that says nothing for so long is begun anew; what was downloaded is kept by the engine.
const STALL: Duration = Duration::from_secs(120);

/// What is pulled, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub reference: &'a str,
    /// For its registry.
    pub credentials: Option<&'a Credentials>,
    /// The engine keeps it in memory, so it has to fit.
    pub in_memory: bool,
    /// How long causes that pass are given to pass.
    pub patience: Duration,
}

/// Pulls until the image is there. The error says whether it does not exist, does not fit or could not be had.
pub async fn pull(docker: &Docker, wanted: Wanted<'_>, progress: &Reporter) -> Result<(), Failure> {
    let reference = wanted.reference;
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_secs(10));
    tracing::info!(image = reference, "pulling");
    loop {
        let error = match once(docker, wanted, progress).await {
            Ok(Ok(())) => {
                tracing::info!(image = reference, ms = begun.elapsed().as_millis() as u64, "pulled");
                return Ok(());
            }
            Ok(Err(failure)) => return Err(failure),
            Err(error) => error,
        };
        let why = chain(&error);
        if docker.inspect_image(reference).await.is_ok() {
            tracing::warn!(image = reference, "not pulled, so the engine's own copy is used: {why}");
            return Ok(());
        }
        if why.contains(NO_SPACE) {
            let message = format!("no room left for image {reference} where the engine keeps images");
            return Err(Failure { causes: vec![why], ..Failure::new(Code::NoSpace, message) });
        }
        if reference::is_final(&error) {
            let message = format!("image {reference} does not exist or may not be pulled");
            return Err(Failure { causes: vec![why], ..Failure::new(Code::ImageNotFound, message) });
        }
        if begun.elapsed() >= wanted.patience {
            let message = format!("image {reference} could not be pulled for {} s", begun.elapsed().as_secs());
            return Err(Failure { causes: vec![why], ..Failure::new(Code::ImagePull, message) });
        }
        tracing::warn!(image = reference, "pull failed, trying again: {why}");
        backoff.wait().await;
    }
}

/// One pull. Its failure, other than its error, is ours: it was ended because it would not fit.
async fn once(docker: &Docker, wanted: Wanted<'_>, progress: &Reporter) -> Result<Result<(), Failure>, Error> {
    let Wanted { reference, credentials, in_memory, .. } = wanted;
    let options = CreateImageOptions { from_image: Some(reference.to_owned()), ..CreateImageOptions::default() };
    let login = reference::credentials_for(credentials, reference).map(|credentials| DockerCredentials {
        username: Some(credentials.username.clone()),
        password: Some(credentials.password.expose().to_owned()),
        serveraddress: Some(credentials.server.clone()),
        ..DockerCredentials::default()
    });
    let mut layers = Layers::default();
    let mut stream = std::pin::pin!(docker.create_image(Some(options), None, login));
    // Errors come as the answer's status or as an item in the middle: each item is looked at, to the end.
    while let Some(item) = tokio::time::timeout(STALL, stream.next()).await.map_err(|_| Error::RequestTimeoutError)? {
        if let Some((done, total)) = layers.add(&item?) {
            let need = total.saturating_mul(UNPACKED).saturating_sub(done);
            if let (true, Err(failure)) = (in_memory, memory::check(need, &format!("image {reference}"))) {
                return Ok(Err(failure));
            }
            progress.say(Progress { done, total, unit: "bytes".into(), message: format!("pulling {reference}") });
        }
    }
    Ok(Ok(()))
}

/// Bytes of the layers that are being downloaded.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn add(&mut self, info: &CreateImageInfo) -> Option<(u64, u64)> {
        let id = info.id.as_ref()?;
        match (info.status.as_deref()?, info.progress_detail.as_ref()) {
            ("Downloading", Some(detail)) => {
                let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
                self.0.insert(id.clone(), (count(detail.current), count(detail.total)));
            }
            ("Download complete" | "Pull complete", _) => {
                let (done, total) = self.0.get_mut(id)?;
                *done = *total;
            }
            _ => return None,
        }
        Some(self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1)))
    }
}
