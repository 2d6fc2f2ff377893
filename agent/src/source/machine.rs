//! `ironhook.v1`, where the server has it: whether it has is found out once a connection. What an action tells while it
//! runs is soft and goes out beside it; the answers to its lease come back to the executor.

use std::time::Duration;

use proto::convert::{self, Attempt};
use proto::ironhook::machine_client::MachineClient;
use proto::ironhook::{
    ClaimRequest, ClaimResponse, HelloRequest, Inventory, LeaseRequest, LeaseResponse, LogLines, Timeline,
};
use spec::event::Progress;
use spec::phase::Phase;
use spec::{Failure, Secret, WorkerId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::answers::{answered, describe, refusal, transport};
use crate::backlog::Waiting;
use crate::progress::Listener;

/// Progress and log go out at most this often.
const PAUSE: Duration = Duration::from_millis(500);
/// Lines in one message: 64 lines of 8 KiB fit what the server takes, with room.
const LINES: usize = 64;
const LINES_BYTES: usize = 96 << 10;
/// Between two leases, unless the server says otherwise within reason.
const RENEW: Duration = Duration::from_secs(2);

/// The server's own service.
#[derive(Clone, Debug)]
pub struct Machine {
    client: MachineClient<Channel>,
    worker: WorkerId,
    ticket: Option<Secret>,
    /// Whether the server has it; not known before it was asked on this connection.
    has: Option<bool>,
}

impl Machine {
    /// Connects when first used; never calls when the configuration rules it out.
    pub fn new(channel: Channel, worker: &WorkerId, ticket: Option<Secret>, wanted: bool) -> Self {
        let has = if wanted { None } else { Some(false) };
        Self { client: MachineClient::new(channel), worker: worker.clone(), ticket, has }
    }

    /// Whether the server is known to have it.
    pub fn is_there(&self) -> bool {
        self.has == Some(true)
    }

    /// Whether the server is known not to have it.
    pub fn is_absent(&self) -> bool {
        self.has == Some(false)
    }

    /// Another server may answer on the next connection.
    pub fn forget(&mut self) {
        self.has = None;
    }

    /// Finds out.
    pub async fn greet(&mut self) -> Result<(), Status> {
        if self.has.is_some() {
            return Ok(());
        }
        let hello = HelloRequest {
            worker_id: self.worker.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ticket: self.ticket.as_ref().map_or_else(String::new, |ticket| ticket.expose().to_owned()),
        };
        self.has = match self.client.hello(hello).await {
            Ok(answer) => {
                let version = answer.into_inner().server_version;
                tracing::info!(server_version = version, "the server has ironhook.v1");
                Some(true)
            }
            Err(error) if error.code() == Code::Unimplemented => {
                tracing::info!("the server speaks Tinkerbell's services only");
                Some(false)
            }
            Err(error) if transport(&error) => return Err(error),
            Err(error) => {
                tracing::warn!("odd answer to Hello, so Tinkerbell's services only: {}", describe(&error));
                Some(false)
            }
        };
        Ok(())
    }

    /// What the server knows of an action beyond the classic service; nothing where it does not answer that.
    pub async fn claim(&mut self, attempt: &Attempt) -> Result<Option<ClaimResponse>, Status> {
        if !self.is_there() {
            return Ok(None);
        }
        match self.client.claim(ClaimRequest { action: Some(convert::action_ref(attempt)) }).await {
            Ok(claimed) => Ok(Some(claimed.into_inner())),
            Err(error) if transport(&error) && !answered(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%attempt, "the server does not say which attempt this is: {}", describe(&error));
                Ok(None)
            }
        }
    }

    /// The failure's detail, where the server can take it. Its refusal is no reason to keep back the report itself.
    pub async fn failure(&mut self, attempt: &Attempt, failure: &Failure) -> Result<(), Status> {
        self.greet().await?;
        if !self.is_there() {
            return Ok(());
        }
        match self.client.report_failure(convert::failure_detail(attempt, failure)).await {
            Err(error) if transport(&error) && !answered(&error) => Err(error),
            Err(error) => {
                tracing::warn!(%attempt, "failure detail refused by the server: {}", describe(&error));
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Sends the boot's timeline. False: try again later.
    pub async fn timeline(&mut self, boot_id: &str, phases: &[Phase]) -> bool {
        if !self.is_there() {
            return self.is_absent();
        }
        let timeline: Timeline = convert::timeline(&self.worker, boot_id, phases);
        let sent = self.client.report_timeline(timeline).await.map(drop);
        self.taken("timeline", sent)
    }

    /// Sends what the machine is. False: try again later.
    pub async fn inventory(&mut self, attributes: &[u8], devices: Vec<u8>) -> bool {
        if !self.is_there() {
            return self.is_absent();
        }
        let inventory = Inventory { worker_id: self.worker.to_string(), attributes: attributes.to_vec(), devices };
        let sent = self.client.report_inventory(inventory).await.map(drop);
        self.taken("inventory", sent)
    }

    fn taken(&mut self, what: &str, sent: Result<(), Status>) -> bool {
        match sent {
            Ok(()) => true,
            Err(error) if refusal(&error) || error.code() == Code::Unimplemented => {
                tracing::warn!("{what} refused by the server: {}", describe(&error));
                true
            }
            Err(error) => {
                if transport(&error) {
                    self.forget();
                }
                false
            }
        }
    }

    /// Serves the line to an executor until it has no more to say: progress and log go out, the lease is kept.
    pub fn forward(&self, attempt: Attempt, listener: Listener) -> impl Future<Output = ()> + Send + use<> {
        let (machine, absent) = (self.client.clone(), self.is_absent());
        async move {
            let Listener { progress, log, cancel } = listener;
            if absent {
                let _nobody_cancels = cancel;
                drop(log);
                return until_end(progress).await;
            }
            let told = async {
                tokio::join!(
                    send_progress(machine.clone(), &attempt, progress),
                    send_log(machine.clone(), &attempt, log),
                );
            };
            tokio::select! {
                () = told => {}
                () = keep_lease(machine.clone(), &attempt, &cancel) => {}
            }
        }
    }
}

async fn until_end(mut progress: watch::Receiver<Option<Progress>>) {
    while progress.changed().await.is_ok() {}
}

async fn send_progress(
    mut machine: MachineClient<Channel>,
    attempt: &Attempt,
    mut progress: watch::Receiver<Option<Progress>>,
) {
    while progress.changed().await.is_ok() {
        let Some(latest) = progress.borrow_and_update().clone() else { continue };
        match machine.report_progress(convert::progress(attempt, &latest)).await {
            Err(error) if error.code() == Code::Unimplemented => return until_end(progress).await,
            Err(error) => tracing::debug!(%attempt, "progress not sent: {}", describe(&error)),
            Ok(_) => {}
        }
        // The end cuts the pause short.
        let _ = timeout(PAUSE, until_end(progress.clone())).await;
    }
}

/// What cannot be sent now is sent later, in its order; how much may wait is the backlog's affair.
async fn send_log(mut machine: MachineClient<Channel>, attempt: &Attempt, mut log: Waiting) {
    let mut held = None;
    let mut next = Instant::now();
    while let Some(lines) = batch(&mut log, &mut held, next).await {
        let message = LogLines { action: Some(convert::action_ref(attempt)), lines, dropped: log.dropped() };
        loop {
            match machine.report_log(message.clone()).await {
                Err(error) if error.code() == Code::Unimplemented => {
                    while log.recv().await.is_some() {}
                    return;
                }
                Err(error) => {
                    tracing::debug!(%attempt, "log not sent: {}", describe(&error));
                    if !transport(&error) {
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(_) => break,
            }
        }
        next = Instant::now() + PAUSE;
    }
}

/// The next lines, not before `next` unless they fill a message or are the last.
async fn batch(log: &mut Waiting, held: &mut Option<String>, next: Instant) -> Option<Vec<String>> {
    let first = match held.take() {
        Some(line) => line,
        None => log.recv().await?,
    };
    let mut bytes = first.len();
    let mut lines = vec![first];
    // What is there is taken even when the time has come.
    while let Ok(Some(line)) = timeout_at(next, log.recv()).await {
        bytes += line.len();
        if bytes > LINES_BYTES {
            *held = Some(line);
            break;
        }
        lines.push(line);
        if lines.len() == LINES {
            break;
        }
    }
    Some(lines)
}

/// Ends only with whoever calls it: what cannot be asked goes on.
async fn keep_lease(mut machine: MachineClient<Channel>, attempt: &Attempt, cancel: &watch::Sender<Option<String>>) {
    let mut pause = RENEW;
    loop {
        tokio::time::sleep(pause).await;
        match machine.lease(LeaseRequest { action: Some(convert::action_ref(attempt)) }).await.map(|it| it.into_inner())
        {
            Ok(LeaseResponse { cancelled: true, reason, .. }) => {
                tracing::warn!(%attempt, "the server wants it ended: {reason}");
                cancel.send_replace(Some(reason));
                return std::future::pending().await;
            }
            Ok(LeaseResponse { renew_ms, .. }) => {
                let wanted = Duration::from_millis(renew_ms.into());
                pause = if wanted.is_zero() { RENEW } else { wanted.clamp(Duration::from_millis(100), 5 * RENEW / 2) };
            }
            Err(error) if error.code() == Code::Unimplemented => return std::future::pending().await,
            Err(error) => tracing::debug!(%attempt, "lease not renewed: {}", describe(&error)),
        }
    }
}
