//! The end of the server, as a future that any task can wait for. Holds no tasks; who spawns one awaits it.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Waits for the end.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Brings the end.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// A pair that belongs together.
pub fn pair() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Everybody who waits goes on.
    pub fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns at the end, or when nobody can bring it any more.
    pub async fn wait(mut self) {
        drop(self.0.wait_for(|over| *over).await);
    }
}

/// SIGHUP: somebody wants the configuration read again.
pub fn hangup() -> std::io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::hangup())
}

/// Returns when somebody asks the program to end.
pub async fn asked() -> std::io::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
