//! The services together: which run, on which ports, started and stopped while the others go on. What is switched off
//! takes nothing new and lets its transfers end. A plan that cannot be followed whole changes nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::apart::{Threads, apart};
use crate::dhcp::{self, Port};
use crate::http::{self, tls};
use crate::{Interface, Mode, Netboot, tftp};

/// What is to run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// DHCP, by the mode of each.
    pub interfaces: Vec<Interface>,
    /// Where TFTP listens, and whether transfers stay on that port.
    pub tftp: Option<(SocketAddr, bool)>,
    /// Where HTTP listens.
    pub http: Option<SocketAddr>,
    /// Where HTTPS listens, with certificate and key.
    pub https: Option<(SocketAddr, PathBuf, PathBuf)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Dhcp(String, u16),
    Tftp(SocketAddr, bool),
    Http(SocketAddr),
    Https(SocketAddr, PathBuf, PathBuf),
}

enum Socket {
    Dhcp(UdpSocket, String, Port),
    Tftp(UdpSocket, bool),
    Http(TcpListener),
    Https(TcpListener, TlsAcceptor),
}

/// Why a task ended.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A plan cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// DHCP's ports.
    #[error("dhcp cannot be offered")]
    Dhcp(#[from] dhcp::BindError),
    /// TFTP's port.
    #[error("tftp cannot be offered")]
    Tftp(#[from] tftp::BindError),
    /// HTTP's or HTTPS's port.
    #[error("http cannot be offered")]
    Http(#[from] http::BindError),
    /// Certificate or key.
    #[error("https cannot be offered")]
    Tls(#[from] tls::TlsError),
}

/// Those that run, and those that let their transfers end.
pub struct Services {
    netboot: Netboot,
    router: Router,
    running: BTreeMap<Key, (SocketAddr, oneshot::Sender<()>)>,
    tasks: JoinSet<Result<(), Failure>>,
    names: BTreeMap<Id, Key>,
}

/// Everything that a plan needs and that did not run yet, bound and not yet served.
pub struct Bound {
    wanted: Vec<Key>,
    new: Vec<(Key, SocketAddr, Socket)>,
}

impl Services {
    /// None yet. `router`: what HTTP and HTTPS serve, netboot's paths among them.
    pub fn new(netboot: Netboot, router: Router) -> Self {
        Self { netboot, router, running: BTreeMap::new(), tasks: JoinSet::new(), names: BTreeMap::new() }
    }

    /// Binds what is new in a plan; nothing that runs is touched.
    pub async fn bind(&self, plan: &Plan) -> Result<Bound, PlanError> {
        let (mut wanted, mut new) = (Vec::new(), Vec::new());
        for interface in &plan.interfaces {
            let ports: &[Port] = match interface.mode {
                Mode::Off => &[],
                Mode::Reservation => &[Port::Server],
                Mode::Proxy | Mode::Auto => &[Port::Server, Port::Boot],
            };
            for port in ports {
                let key = Key::Dhcp(interface.name.clone(), port.number());
                if !self.running.contains_key(&key) {
                    let socket = dhcp::bind(&interface.name, *port)?;
                    let address = ([0, 0, 0, 0], port.number()).into();
                    new.push((key.clone(), address, Socket::Dhcp(socket, interface.name.clone(), *port)));
                }
                wanted.push(key);
            }
        }
        if let Some((address, single)) = plan.tftp {
            let key = Key::Tftp(address, single);
            if !self.running.contains_key(&key) {
                let socket = tftp::bind(address).await?;
                new.push((key.clone(), socket.local_addr().unwrap_or(address), Socket::Tftp(socket, single)));
            }
            wanted.push(key);
        }
        if let Some(address) = plan.http {
            let key = Key::Http(address);
            if !self.running.contains_key(&key) {
                let listener = http::bind(address).await?;
                new.push((key.clone(), listener.local_addr().unwrap_or(address), Socket::Http(listener)));
            }
            wanted.push(key);
        }
        if let Some((address, certificate, private)) = &plan.https {
            let key = Key::Https(*address, certificate.clone(), private.clone());
            if !self.running.contains_key(&key) {
                let acceptor = tls::acceptor(certificate, private)?;
                let listener = http::bind(*address).await?;
                let address = listener.local_addr().unwrap_or(*address);
                new.push((key.clone(), address, Socket::Https(listener, acceptor)));
            }
            wanted.push(key);
        }
        Ok(Bound { wanted, new })
    }

    /// Serves what was bound, and ends what the plan has no more.
    pub fn start(&mut self, bound: Bound) {
        let gone: Vec<Key> = self.running.keys().filter(|key| !bound.wanted.contains(key)).cloned().collect();
        for key in gone {
            if let Some((address, stop)) = self.running.remove(&key) {
                tracing::info!(service = key.name(), %address, "ends; transfers under way go on to their end");
                drop(stop);
            }
        }
        for (key, address, socket) in bound.new {
            tracing::info!(service = key.name(), interface = key.interface(), %address, "listening");
            let (stop, stopped) = oneshot::channel();
            let id = self.spawn(socket, stopped);
            self.names.insert(id, key.clone());
            self.running.insert(key, (address, stop));
        }
    }

    /// DHCP and TFTP have a thread each and HTTP the other processors: none waits for the work of another.
    fn spawn(&mut self, socket: Socket, stopped: oneshot::Receiver<()>) -> Id {
        let netboot = self.netboot.clone();
        let router = self.router.clone();
        let shutdown = async move { stopped.await.unwrap_or(()) };
        let handle = match socket {
            Socket::Dhcp(socket, interface, port) => self.tasks.spawn(async move {
                let socket = socket.into_std()?;
                let service = async move || {
                    dhcp::serve(UdpSocket::from_std(socket)?, (interface, port), netboot, shutdown).await;
                    Ok(())
                };
                apart("dhcp", Threads::One, service).await?
            }),
            Socket::Tftp(socket, single_port) => self.tasks.spawn(async move {
                let socket = socket.into_std()?;
                let options = tftp::Options { single_port, drain: None };
                let service = async move || {
                    tftp::serve(UdpSocket::from_std(socket)?, options, netboot, shutdown).await;
                    Ok(())
                };
                apart("tftp", Threads::One, service).await?
            }),
            Socket::Http(listener) => self.tasks.spawn(async move {
                let listener = listener.into_std()?;
                let service = async move || Ok(http::serve(TcpListener::from_std(listener)?, router, shutdown).await?);
                apart("http", Threads::Many, service).await?
            }),
            Socket::Https(listener, acceptor) => self.tasks.spawn(async move {
                let listener = listener.into_std()?;
                let service =
                    async move || Ok(tls::serve(TcpListener::from_std(listener)?, acceptor, router, shutdown).await?);
                apart("https", Threads::Many, service).await?
            }),
        };
        handle.id()
    }

    /// What runs, and where.
    pub fn list(&self) -> Vec<(String, SocketAddr)> {
        let name = |key: &Key| match key.interface() {
            Some(interface) => format!("{} on {interface}", key.name()),
            None => key.name().to_owned(),
        };
        self.running.iter().map(|(key, (address, _))| (name(key), *address)).collect()
    }

    /// The first service that ends although nobody ended it.
    pub async fn ended(&mut self) -> (String, Option<Failure>) {
        loop {
            let (id, failure) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, result))) => (id, result.err()),
                Some(Err(error)) => (error.id(), Some(error.into())),
                None => std::future::pending().await,
            };
            let Some(key) = self.names.remove(&id) else { continue };
            // One that was started again under the same name has another task.
            let replaced = self.names.values().any(|other| *other == key);
            if !replaced && self.running.contains_key(&key) {
                return (key.name().to_owned(), failure);
            }
        }
    }

    /// Ends all, and waits until their transfers have ended.
    pub async fn finish(mut self) {
        self.running.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Bound {
    /// The port of HTTP, if it is new.
    pub fn http_port(&self) -> Option<u16> {
        self.new.iter().find(|(key, ..)| matches!(key, Key::Http(_))).map(|(_, address, _)| address.port())
    }
}

impl Key {
    fn name(&self) -> &'static str {
        match self {
            Self::Dhcp(_, 67) => "dhcp",
            Self::Dhcp(..) => "proxydhcp",
            Self::Tftp(..) => "tftp",
            Self::Http(_) => "http",
            Self::Https(..) => "https",
        }
    }

    fn interface(&self) -> Option<&str> {
        match self {
            Self::Dhcp(interface, _) => Some(interface),
            _ => None,
        }
    }
}
