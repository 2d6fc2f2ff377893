//! DHCP, proxyDHCP, TFTP and HTTP boot files as small services. Each reads [`Machines`] and emits [`Sighting`]s into a
//! bounded channel; none stores anything.
//!
//! Each service is bound first and then served until a future ends: `dhcp::bind` and `dhcp::serve`, `tftp::bind` and
//! `tftp::serve`, `http::router` (to be merged with others) and `http::serve`. [`services`] runs them together.

mod apart;
mod asker;
pub mod counters;
pub mod dhcp;
pub mod doctor;
pub mod explain;
pub mod facts;
pub mod http;
pub mod iso;
mod loaders;
mod machine;
pub mod rules;
pub mod script;
pub mod services;
mod settings;
mod sink;
mod stages;
#[cfg(test)]
mod tests;
pub mod tftp;

use spec::error::chain;
use std::sync::Arc;

use tokio::sync::watch;

use counters::Counters;
pub use facts::Facts;
pub use loaders::{LoaderTable, Loaders, LoadersError};
pub use machine::{Custom, History, Installer, Lease, Machine, Machines, Workflow, WorkflowState};
pub use settings::{Interface, Mode, Settings};
pub use sink::{Sighting, Sink, Step, now_ms};
use stages::Stages;

/// What every service is given.
#[derive(Clone)]
pub struct Netboot {
    settings: watch::Receiver<Arc<Settings>>,
    /// Who is who, asked anew for every request.
    pub machines: Arc<dyn Machines>,
    /// What firmware loads first.
    pub loaders: Arc<dyn Loaders>,
    /// Where it is told what happens.
    pub sink: Sink,
    /// How often what happened.
    pub counters: Arc<Counters>,
    stages: Arc<Stages>,
}

impl Netboot {
    /// With counters at zero.
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        machines: Arc<dyn Machines>,
        loaders: Arc<dyn Loaders>,
        sink: Sink,
    ) -> Self {
        Self { settings, machines, loaders, sink, counters: Arc::default(), stages: Arc::default() }
    }

    /// As of now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }
}
