//! The one task that owns netboot's services: starts and stops them by the file and by the operator's changes, each
//! without cutting what the others do. A change that cannot be made is refused and changes nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use netboot::rules::RulesError;
use netboot::services::{Failure, PlanError, Services};
use netboot::{Mode, Netboot, Settings};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::settings::{Overrides, plan, settings};
use crate::config::{Config, ConfigError};

/// Changes that wait.
const QUEUE: usize = 16;

/// What an operator changes while the server runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Change {
    /// Which interface `mode` is for.
    pub interface: Option<String>,
    /// What DHCP is to be there.
    pub mode: Option<Mode>,
    /// TFTP on or off.
    pub tftp: Option<bool>,
    /// HTTP on or off.
    pub http: Option<bool>,
}

/// What runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Name and port of each service.
    pub services: Vec<(String, SocketAddr)>,
    /// Name and mode of each interface.
    pub interfaces: Vec<(String, Mode)>,
}

/// A change cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It names something that is not there.
    #[error("there is no interface {0:?} in the configuration (`interface` and `interfaces`)")]
    Interface(String),
    /// A mode without its interface.
    #[error("a mode is for an interface; name one")]
    NoInterface,
    /// The file, read again.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its rules.
    #[error("the rules cannot be used")]
    Rules(#[from] RulesError),
    /// A port or a certificate.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The owner is gone.
    #[error("the server is ending")]
    Ended,
}

enum Command {
    Change(Change, oneshot::Sender<Result<Status, ControlError>>),
    Reload(oneshot::Sender<Result<Status, ControlError>>),
    Status(oneshot::Sender<Result<Status, ControlError>>),
}

/// For whoever wants something changed.
#[derive(Clone)]
pub struct Control(mpsc::Sender<Command>);

/// See above.
pub struct Owner {
    file: PathBuf,
    config: Config,
    overrides: Overrides,
    grpc_port: u16,
    http_port: u16,
    settings: watch::Sender<Arc<Settings>>,
    services: Services,
    commands: mpsc::Receiver<Command>,
}

impl Control {
    /// Makes a change; answers with what runs then.
    pub async fn change(&self, change: Change) -> Result<Status, ControlError> {
        self.ask(|reply| Command::Change(change, reply)).await
    }

    /// Reads the file again; changes are forgotten.
    pub async fn reload(&self) -> Result<Status, ControlError> {
        self.ask(Command::Reload).await
    }

    /// What runs.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Command::Status).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<Status, ControlError>>) -> Command,
    ) -> Result<Status, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| ControlError::Ended)?;
        answer.await.map_err(|_| ControlError::Ended)?
    }
}

impl Owner {
    /// Starts what the file says; every port is bound before any is served. `router`: what HTTP serves.
    pub async fn start(
        (file, config): (PathBuf, Config),
        grpc_port: u16,
        (netboot, sender): (Netboot, watch::Sender<Arc<Settings>>),
        router: axum::Router,
    ) -> Result<(Self, Control), ControlError> {
        let services = Services::new(netboot, router);
        let (control, commands) = mpsc::channel(QUEUE);
        let overrides = Overrides::default();
        let mut owner = Self {
            file,
            config: config.clone(),
            overrides: overrides.clone(),
            grpc_port,
            http_port: 7080,
            settings: sender,
            services,
            commands,
        };
        owner.apply(config, overrides).await?;
        Ok((owner, Control(control)))
    }

    /// Until `shutdown` ends, or a service does by itself.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                (name, failure) = self.services.ended() => {
                    return Err(failure.unwrap_or_else(|| format!("{name} ended by itself").into()));
                }
                Some(command) = self.commands.recv() => self.obey(command).await,
            }
        }
        self.services.finish().await;
        Ok(())
    }

    async fn obey(&mut self, command: Command) {
        let (result, reply) = match command {
            Command::Status(reply) => (Ok(()), reply),
            Command::Change(change, reply) => (self.change(change).await, reply),
            Command::Reload(reply) => (self.reload().await, reply),
        };
        let status = result.map(|()| self.status());
        // Who asked may be gone; the change stands.
        drop(reply.send(status));
    }

    async fn change(&mut self, change: Change) -> Result<(), ControlError> {
        let mut overrides = self.overrides.clone();
        if let Some(mode) = change.mode {
            let name = change.interface.or_else(|| self.config.interface.clone()).ok_or(ControlError::NoInterface)?;
            if self.settings.borrow().interface(&name).is_none() {
                return Err(ControlError::Interface(name));
            }
            overrides.modes.insert(name, mode);
        }
        overrides.tftp = change.tftp.or(overrides.tftp);
        overrides.http = change.http.or(overrides.http);
        self.apply(self.config.clone(), overrides).await
    }

    async fn reload(&mut self) -> Result<(), ControlError> {
        let config = Config::read(&self.file)?;
        self.apply(config, Overrides::default()).await
    }

    /// All or nothing: what can fail comes first.
    async fn apply(&mut self, config: Config, overrides: Overrides) -> Result<(), ControlError> {
        let bound = self.services.bind(&plan(&config, &overrides)).await?;
        let http_port = bound.http_port().unwrap_or(self.http_port);
        let settings = settings(&config, &overrides, http_port, self.grpc_port)?;
        self.settings.send_replace(Arc::new(settings));
        self.services.start(bound);
        (self.config, self.overrides, self.http_port) = (config, overrides, http_port);
        Ok(())
    }

    fn status(&self) -> Status {
        let settings = self.settings.borrow();
        let interfaces = settings.interfaces.iter().map(|each| (each.name.clone(), each.mode)).collect();
        Status { services: self.services.list(), interfaces }
    }
}
