//! The file of the server, and what was changed since, to what netboot is to do. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use netboot::rules::{Rules, RulesError};
use netboot::services::Plan;
use netboot::{Interface, Mode, Settings};

use crate::config::{Config, Service};

/// What the operator has changed while the server runs. Gone when it ends, or when it reads its file again.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// By interface.
    pub modes: BTreeMap<String, Mode>,
    /// TFTP on or off.
    pub tftp: Option<bool>,
    /// HTTP on or off.
    pub http: Option<bool>,
}

/// What is to run.
pub fn plan(config: &Config, overrides: &Overrides) -> Plan {
    let on = |service: Service, port: u16, changed: Option<bool>| match (service, changed) {
        (_, Some(false)) | (Service::Off, None) => None,
        (Service::On(listen), _) => Some(listen.or(config.address, port)),
        (Service::Off, Some(true)) => Some((config.address, port).into()),
    };
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let http = match (config.http, overrides.http) {
        (_, Some(false)) | (Service::Off, None) => None,
        (Service::On(listen), _) => Some(listen.or(any, 7080)),
        (Service::Off, Some(true)) => Some((any, 7080).into()),
    };
    let https = config.https.as_ref();
    Plan {
        interfaces: interfaces(config, overrides),
        tftp: on(config.tftp, 69, overrides.tftp).map(|address| (address, config.netboot.tftp_single_port)),
        http,
        https: https.map(|https| {
            let address = https.listen.unwrap_or((any, 7443).into());
            (address, https.certificate.clone(), https.key.clone())
        }),
    }
}

/// Each with its mode of now.
fn interfaces(config: &Config, overrides: &Overrides) -> Vec<Interface> {
    let first =
        config.interface.iter().map(|name| Interface { name: name.clone(), mode: config.dhcp.0, address: None });
    let others = config.interfaces.iter().map(|other| Interface {
        name: other.name.clone(),
        mode: other.mode,
        address: other.address,
    });
    let mut all: Vec<Interface> = first.chain(others).collect();
    for interface in &mut all {
        if let Some(mode) = overrides.modes.get(&interface.name) {
            interface.mode = *mode;
        }
    }
    all
}

/// What the services go by. The ports are those that were bound.
pub fn settings(
    config: &Config,
    overrides: &Overrides,
    http_port: u16,
    grpc_port: u16,
) -> Result<Settings, RulesError> {
    let netboot = &config.netboot;
    Ok(Settings {
        address: config.address,
        interfaces: interfaces(config, overrides),
        http_port,
        grpc_authority: format!("{}:{grpc_port}", config.address),
        grpc_tls: false,
        grpc_insecure_tls: false,
        kernel_args: config.kernel_args.split_whitespace().map(str::to_owned).collect(),
        osie: config.artifacts.clone(),
        files: config.files.clone(),
        raspberry: netboot.raspberry.clone(),
        rules: Arc::new(Rules::new(netboot.rules.clone())?),
        loaders: netboot.loaders.clone(),
        patience: netboot.patience(),
    })
}
