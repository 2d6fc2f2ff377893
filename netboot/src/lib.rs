//! DHCP, TFTP and HTTP boot files as small services. Each reads [`Machines`] and emits
//! [`spec::activity::Activity`] into a bounded channel; none stores anything.
//!
//! Each service is bound first and then served until a future ends: `dhcp::bind` and `dhcp::serve`, `tftp::bind` and
//! `tftp::serve`, `http::router` (to be merged with others) and `http::serve`.

pub mod dhcp;
pub mod http;
mod loaders;
mod machine;
mod settings;
mod sink;
#[cfg(test)]
mod tests;
pub mod tftp;

use std::sync::Arc;

pub use loaders::{LoaderTable, Loaders, LoadersError};
pub use machine::{Boot, Installer, Lease, Machine, Machines};
pub use settings::Settings;
pub use sink::Sink;

/// What every service is given.
#[derive(Clone)]
pub struct Netboot {
    /// Of the site.
    pub settings: Arc<Settings>,
    /// Who is who, asked anew for every request.
    pub machines: Arc<dyn Machines>,
    /// What firmware loads first.
    pub loaders: Arc<dyn Loaders>,
    /// Where it is told what happens.
    pub sink: Sink,
}
