//! A service on threads of its own, with a runtime of its own: what keeps the rest of the process busy, be it downloads
//! or a slow disk, does not delay its answers. Knows nothing of what the service does.

use std::future::Future;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// How much of the machine a service may use at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Threads {
    /// Short answers, best given without being passed between threads.
    One,
    /// As many as there are processors but one, which is left to those that give short answers.
    Many,
}

/// For work that waits, made when it is needed: every transfer of TFTP is such.
const BLOCKING: usize = crate::tftp::MOST + 64;

/// The service has no thread.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApartError {
    #[error("cannot start threads for {service}")]
    Start {
        service: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{service} ended in the middle of its work")]
    Panicked { service: &'static str },
}

/// Runs what `service` makes until it ends. Sockets must be made on the new runtime, by `service`.
pub(crate) async fn apart<F, T>(
    name: &'static str,
    threads: Threads,
    service: impl FnOnce() -> F + Send + 'static,
) -> Result<T, ApartError>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let failed = |source| ApartError::Start { service: name, source };
    let mut builder = match threads {
        Threads::One => Builder::new_current_thread(),
        Threads::Many => Builder::new_multi_thread(),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    builder.worker_threads((processors - 1).max(1)).max_blocking_threads(BLOCKING);
    let runtime = builder.thread_name(name).enable_all().build().map_err(failed)?;
    let (sender, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.into());
    // Whoever waited may be gone; the thread ends with its service.
    thread.spawn(move || drop(sender.send(runtime.block_on(async { service().await })))).map_err(failed)?;
    ended.await.map_err(|_| ApartError::Panicked { service: name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_goes_on_while_the_runtime_that_started_it_is_busy() {
        for threads in [Threads::One, Threads::Many] {
            let (ask, asked) = std::sync::mpsc::channel();
            let (answer, answered) = std::sync::mpsc::channel();
            let service = tokio::spawn(apart("test", threads, move || async move {
                ask.send(()).unwrap();
                tokio::task::yield_now().await;
                answer.send(7).unwrap();
            }));
            tokio::task::yield_now().await;
            // This holds the only thread of the runtime that the service was started from.
            asked.recv().unwrap();
            assert_eq!(answered.recv().unwrap(), 7);
            service.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_panics_is_an_error_with_its_name() {
        let ended = apart("test", Threads::One, || async { panic!("on purpose") }).await;
        let ended: Result<(), ApartError> = ended;
        assert_eq!(ended.unwrap_err().to_string(), "test ended in the middle of its work");
    }
}
