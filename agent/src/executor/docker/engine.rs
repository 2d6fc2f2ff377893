//! The connection to the engine: which socket, waiting until it is there, asking until it has answered.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use spec::{Code, Failure};

use crate::backoff::Backoff;

/// How long the engine may be away before that is the action's failure.
pub const BUDGET: Duration = Duration::from_secs(600);
/// Until the head of an answer; bodies may stream for as long as they like.
const ANSWER: u64 = 120;
const REGISTRY_AUTH: &str = "x-registry-auth";

/// Gives an engine that answers. With a budget, its end is a failure; without, waits for ever.
pub async fn ready(sockets: &[PathBuf], budget: Option<Duration>) -> Result<Docker, Failure> {
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_secs(2));
    let mut said = String::new();
    loop {
        let why = match connect(sockets).await {
            Ok(docker) => return Ok(docker),
            Err(error) => crate::text::chain(&error),
        };
        if said != why {
            tracing::info!("waiting for the container engine: {why}");
            said = why;
        }
        if budget.is_some_and(|budget| begun.elapsed() >= budget) {
            let seconds = begun.elapsed().as_secs();
            let message = format!("the container engine has not answered for {seconds} s: {said}");
            return Err(Failure::new(Code::Engine, message));
        }
        backoff.wait().await;
    }
}

/// Asks until the engine has answered; only its own answer, be it a refusal, is one. `call` must bear being repeated.
pub async fn answer<T, F>(
    sockets: &[PathBuf],
    call: impl Fn(Docker) -> F + Send + Sync,
) -> Result<Result<T, Error>, Failure>
where
    F: Future<Output = Result<T, Error>> + Send,
{
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_secs(2));
    loop {
        let docker = ready(sockets, Some(BUDGET)).await?;
        match call(docker).await {
            Err(error) if !is_answer(&error) && begun.elapsed() < BUDGET => {
                tracing::warn!("the engine broke off, asking it again: {}", crate::text::chain(&error));
            }
            answer => return Ok(answer),
        }
        backoff.wait().await;
    }
}

fn is_answer(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { .. })
}

async fn connect(sockets: &[PathBuf]) -> Result<Docker, Error> {
    let socket = sockets.iter().find(|socket| socket.exists()).or(sockets.first());
    let path = socket.map(|socket| socket.display().to_string()).unwrap_or_default();
    let docker = Docker::connect_with_unix(&path, ANSWER, API_DEFAULT_VERSION)?.with_request_modifier(|mut request| {
        // The engine reads this header in base64's URL alphabet; the client writes the other one.
        let header = request.headers().get(REGISTRY_AUTH).and_then(|value| value.to_str().ok());
        let fixed = header.map(|value| value.replace('+', "-").replace('/', "_"));
        if let Some(value) = fixed.and_then(|value| value.parse().ok()) {
            request.headers_mut().insert(REGISTRY_AUTH, value);
        }
        request
    });
    docker.ping().await?;
    docker.negotiate_version().await
}
