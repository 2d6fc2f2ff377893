//! `ironhook serve`: puts the server together. Everything is bound before anything is served; each task has its owner
//! here, which tells it when to end and waits for it.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Args;
use netboot::{LoaderTable, LoadersError, Netboot, Sighting, Sink};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};

use crate::activity::ActivityLog;
use crate::api::netboot::View;
use crate::config::{Config, ConfigError, Service};
use crate::engine::Engine;
use crate::ephemeral::Ephemeral;
use crate::machines::{self, Keeper};
use crate::netboot::control::ControlError;
use crate::netboot::settings::{Overrides, settings};
use crate::netboot::{Control, Kept, Owner, Rack, Seen, Tickets};
use crate::reports::Reports;
use crate::shutdown::{self, Shutdown};
use crate::soft::Soft;
use crate::store::redb::RedbStore;
use crate::store::{Store, StoreError};
use crate::{api, grpc, metadata};

/// What netboot tells waits here; it never waits for us.
const SIGHTINGS: usize = 1024;
/// How long open transfers may take when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// `ironhook serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Of the server.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// The server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory.
    #[error("cannot make the state directory {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The loaders.
    #[error(transparent)]
    Loaders(#[from] LoadersError),
    /// A port.
    #[error("cannot listen for {service} on {address}")]
    Listen {
        /// For what.
        service: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A service of netboot.
    #[error(transparent)]
    Netboot(#[from] ControlError),
    /// Signals.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A part of the server is dead, and with it the server.
    #[error("the server cannot go on, its {task} ended by itself")]
    Ended {
        /// Which part.
        task: &'static str,
        /// Why.
        #[source]
        source: Option<Failure>,
    },
}

type Failure = Box<dyn Error + Send + Sync>;

impl Serve {
    /// Until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<(), ServeError> {
        let config = Config::read(&self.config)?;
        raise_files();
        let sockets = Sockets::bind(&config).await?;
        let state = &config.state;
        std::fs::create_dir_all(state).map_err(|source| ServeError::State { path: state.clone(), source })?;
        let store = RedbStore::open(&state.join("ironhook.redb"))?;
        let broken = store.broken();
        let store: Arc<dyn Store> = Arc::new(store);
        let seen = Arc::new(Seen::open(Kept::new(state)));
        let (machines, keeper) = machines::open(Arc::clone(&store), Arc::clone(&seen))?;
        seen.keep_only(|mac| machines.machine(mac).is_some());
        let (soft, ephemeral) = (Arc::new(Soft::new(state)), Arc::new(Ephemeral::new(state)));
        let engine = Engine { store, activity: Arc::new(ActivityLog::new()), machines, soft, ephemeral };
        let loaders = LoaderTable::read(&config.loaders)?;
        if !loaders.missing().is_empty() {
            tracing::warn!(dir = %config.loaders.display(), missing = ?loaders.missing(), "loaders are missing");
        }
        let (sender, sightings) = mpsc::channel(SIGHTINGS);
        let tickets = config.netboot.tickets.then(Arc::<Tickets>::default);
        let rack = Rack { machines: engine.machines.clone(), seen: Arc::clone(&seen), tickets };
        let first = settings(&config, &Overrides::default(), 7080, sockets.grpc_port).map_err(ControlError::from)?;
        let (changes, current) = watch::channel(Arc::new(first));
        let netboot = Netboot::new(current, Arc::new(rack.clone()), Arc::new(loaders), Sink::new(sender));
        let served = netboot::http::router(netboot.clone(), config.netboot.caps());
        let served = served.merge(metadata::router(engine.machines.clone(), config.credentials.clone()));
        let reports = Reports::new(state, engine.machines.clone());
        let served = served.merge(reports.clone().for_machines());
        let file = (self.config.clone(), config.clone());
        let (owner, control) = Owner::start(file, sockets.grpc_port, (netboot.clone(), changes), served).await?;
        let view = View { netboot, control: control.clone(), seen, machines: engine.machines.clone() };
        let (trigger, shutdown) = shutdown::pair();
        let mut tasks = Tasks { set: JoinSet::new(), names: HashMap::new(), shutdown };
        tasks.watch(broken);
        tasks.start(&engine, keeper, (sightings, rack));
        tasks.netboot(owner, control);
        tasks.serve(sockets, engine, view, (config.credentials.clone(), reports));
        let result = tokio::select! {
            signal = shutdown::asked() => signal.map_err(ServeError::Signals).map(|signal| tracing::info!(signal, "ending")),
            early = tasks.early() => Err(early),
        };
        trigger.pull();
        if tokio::time::timeout(GRACE, tasks.finish()).await.is_err() {
            tracing::warn!("some transfers were cut off");
        }
        result
    }
}

/// A rack that powers on takes a socket for each transfer: as many files may be open as the system lets us have.
fn raise_files() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files; many machines at once may have to ask twice");
    }
}

/// Everything that listens.
struct Sockets {
    grpc: TcpListener,
    metadata: Option<TcpListener>,
    api: TcpListener,
    grpc_port: u16,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, ServeError> {
        let any = Ipv4Addr::UNSPECIFIED;
        let (grpc, grpc_port) = tcp("grpc", config.grpc.or(any, 42113)).await?;
        let (api, _) = tcp("api", config.api.or(Ipv4Addr::LOCALHOST, 7480)).await?;
        let metadata = match config.metadata {
            Service::Off => None,
            Service::On(listen) => Some(tcp("metadata", listen.or(any, 50061)).await?.0),
        };
        Ok(Self { grpc, metadata, api, grpc_port })
    }
}

async fn tcp(service: &'static str, address: SocketAddr) -> Result<(TcpListener, u16), ServeError> {
    let failed = |source| ServeError::Listen { service, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(service, %address, "listening");
    Ok((listener, address.port()))
}

/// The owner of every task of the server.
struct Tasks {
    set: JoinSet<Result<(), Failure>>,
    names: HashMap<Id, &'static str>,
    shutdown: Shutdown,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    fn endless(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok(())
        });
    }

    /// A store that cannot write looks alive and is not.
    fn watch(&mut self, broken: impl Future<Output = StoreError> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.spawn("store", async move {
            tokio::select! {
                error = broken => Err(error.into()),
                () = shutdown.wait() => Ok(()),
            }
        });
    }

    /// What runs without a port.
    fn start(&mut self, engine: &Engine, keeper: Keeper, (sightings, rack): (mpsc::Receiver<Sighting>, Rack)) {
        self.endless("index of machines", keeper.run(self.shutdown.clone().wait()));
        self.endless("activity", collect(sightings, rack, Arc::clone(&engine.activity), self.shutdown.clone()));
        self.endless("engine", engine.clone().run(self.shutdown.clone().wait()));
    }

    /// netboot's services, and the signal that has its file read again.
    fn netboot(&mut self, owner: Owner, control: Control) {
        self.spawn("netboot", owner.run(self.shutdown.clone().wait()));
        self.spawn("reader of SIGHUP", reload(control, self.shutdown.clone()));
    }

    fn serve(&mut self, sockets: Sockets, engine: Engine, view: View, boots: (Option<PathBuf>, Reports)) {
        let (credentials, reports) = boots;
        let Sockets { grpc, metadata, api, .. } = sockets;
        if let Some(listener) = metadata {
            self.router("metadata", listener, metadata::service(engine.machines.clone(), credentials));
        }
        self.router(
            "api",
            api,
            api::router(engine.clone(), self.shutdown.clone())
                .merge(api::netboot::router(view))
                .merge(reports.for_operators()),
        );
        self.router("grpc", grpc, grpc::router(engine));
    }

    fn router(&mut self, service: &'static str, listener: TcpListener, router: Router) {
        let serving = netboot::http::serve(listener, router, self.shutdown.clone().wait());
        self.spawn(service, async move { Ok(serving.await?) });
    }

    /// The first that ends although nobody asked it to.
    async fn early(&mut self) -> ServeError {
        let (id, source) = match self.set.join_next_with_id().await {
            Some(Ok((id, ended))) => (Some(id), ended.err()),
            Some(Err(error)) => (Some(error.id()), Some(error.into())),
            None => (None, None),
        };
        let task = id.and_then(|id| self.names.get(&id).copied()).unwrap_or("last task");
        ServeError::Ended { task, source }
    }

    async fn finish(mut self) {
        while let Some(ended) = self.set.join_next_with_id().await {
            let (id, error) = match ended {
                Ok((_, Ok(()))) => continue,
                Ok((id, Err(error))) => (id, error),
                Err(error) => (error.id(), error.into()),
            };
            tracing::error!(task = self.names.get(&id).copied(), error = crate::chain(&*error), "ended badly");
        }
    }
}

async fn collect(mut sightings: mpsc::Receiver<Sighting>, rack: Rack, activity: Arc<ActivityLog>, shutdown: Shutdown) {
    let take = async {
        while let Some(sighting) = sightings.recv().await {
            rack.seen.note(&sighting, |mac| rack.state(mac));
            if let Sighting::Activity(seen) = sighting {
                activity.pass_on(seen);
            }
        }
    };
    tokio::select! {
        () = take => {}
        () = shutdown.wait() => {}
    }
    rack.seen.flush();
}

/// A file that cannot be used changes nothing, and says so.
async fn reload(control: Control, shutdown: Shutdown) -> Result<(), Failure> {
    let mut signals = shutdown::hangup()?;
    let asked = async {
        while signals.recv().await.is_some() {
            match control.reload().await {
                Ok(status) => tracing::info!(services = ?status.services, "the configuration was read again"),
                Err(error) => tracing::error!(error = crate::chain(&error), "everything stays as it was"),
            }
        }
    };
    tokio::select! {
        () = asked => {}
        () = shutdown.wait() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_task_that_ends_first_is_named_with_its_reason() {
        let (_trigger, shutdown) = shutdown::pair();
        let mut tasks = Tasks { set: JoinSet::new(), names: HashMap::new(), shutdown };
        tasks.endless("rest", std::future::pending());
        tasks.endless("panics", async { panic!("the reason") });
        let said = crate::chain(&tasks.early().await);
        assert!(said.starts_with("the server cannot go on, its panics ended by itself: "), "{said}");
        assert!(said.contains("the reason"), "{said}");
        tasks.watch(std::future::ready(StoreError::Closed));
        assert!(crate::chain(&tasks.early().await).ends_with("its store ended by itself: the store is closed"));
    }
}
