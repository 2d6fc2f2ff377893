//! What the configuration means for dockerd: its files, environment and directories. Pure.
//! No secret stands in a file; proxies, which may hold one, are environment only.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use spec::Secret;
use spec::cmdline::{
    Cmdline, DOCKER_REGISTRY, GRPC_AUTHORITY, HTTP_PROXY, HTTPS_PROXY, INSECURE_REGISTRIES, IRONHOOK_MIRRORS, NO_PROXY,
    SYSLOG_HOST, SYSLOG_PORT,
};

use crate::config::Config;

/// dockerd's configuration, where it looks for it by itself.
pub const CONFIG: &str = "/etc/docker/daemon.json";
/// The component's `/run` is the machine's `/run/docker`, where the others find the socket.
pub const SOCKET: &str = "/run/docker.sock";
/// Beside it.
pub const PIDFILE: &str = "/run/docker.pid";
/// All authorities that the engine trusts, when the site has its own.
pub const AUTHORITIES: &str = "/etc/docker/authorities.pem";
const CERTS: &str = "/etc/docker/certs.d";
const EXEC_ROOT: &str = "/run/docker-exec";
const DATA_ROOT: &str = "/var/lib/docker";
const SYSLOG: u16 = 514;

/// What the configuration does not say: found on the machine before the plan is made.
#[derive(Debug, Default)]
pub struct Facts {
    /// The well-known authorities of the image, PEM.
    pub authorities: String,
    /// Files of the site bundle's `certs.d`, by their path below it.
    pub certs: Vec<(String, Vec<u8>)>,
    /// `syslog_host` as an address: given as one, or looked up.
    pub syslog: Option<IpAddr>,
}

/// A file that is written before dockerd starts.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Everything that dockerd is started with.
#[derive(Debug)]
pub struct Plan {
    /// Written for its eyes only.
    pub files: Vec<File>,
    /// Added to the environment.
    pub env: Vec<(&'static str, Secret)>,
    /// Made before it starts.
    pub dirs: [&'static str; 4],
    /// For a person: what was asked for and is not done.
    pub notes: Vec<String>,
}

impl Plan {
    /// Decides.
    pub fn new(config: &Config, facts: &Facts) -> Self {
        let line = &config.line;
        let mut notes = Vec::new();
        let mut files = vec![File { path: CONFIG.into(), bytes: daemon_json(line, facts, &mut notes).into_bytes() }];
        let mut env = proxies(line);
        let own: Vec<&str> =
            config.authorities.iter().chain(&config.registry_authorities).map(|pem| pem.trim()).collect();
        if !own.is_empty() {
            let all = format!("{}\n{}\n", facts.authorities.trim_end(), own.join("\n"));
            files.push(File { path: AUTHORITIES.into(), bytes: all.into_bytes() });
            env.push(("SSL_CERT_FILE", Secret::new(AUTHORITIES)));
        }
        if let (Some(pem), Some(registry)) = (&config.one_registry, line.get(&DOCKER_REGISTRY)) {
            notes.push(format!("the ca.pem of packet_base_url came unverified: it is believed for {registry} only"));
            files.push(certificate(&format!("{}/ca.crt", host(registry)), pem.as_bytes()));
        }
        files.extend(facts.certs.iter().map(|(path, bytes)| certificate(path, bytes)));
        Self { files, env, dirs: ["/etc/docker", "/run", EXEC_ROOT, DATA_ROOT], notes }
    }
}

fn certificate(path: &str, bytes: &[u8]) -> File {
    File { path: format!("{CERTS}/{path}"), bytes: bytes.to_vec() }
}

/// The registry of a prefix such as `ghcr.io/tinkerbell`.
fn host(registry: &str) -> &str {
    let bare = registry.trim_start_matches("https://").trim_start_matches("http://");
    bare.split('/').next().unwrap_or(bare)
}

/// With a proxy, the server of this machine is still asked directly.
pub fn proxies(line: &Cmdline) -> Vec<(&'static str, Secret)> {
    let mut env: Vec<(&'static str, Secret)> = [&HTTP_PROXY, &HTTPS_PROXY]
        .into_iter()
        .filter_map(|key| Some((key.name, Secret::new(line.get(key)?))))
        .collect();
    if env.is_empty() {
        return env;
    }
    let mut direct: Vec<&str> = line.items(&NO_PROXY).collect();
    let server = line.get(&GRPC_AUTHORITY).and_then(|authority| authority.rsplit_once(':')).map(|(host, _)| host);
    direct.extend(server.filter(|server| !direct.contains(server)));
    if !direct.is_empty() {
        env.push((NO_PROXY.name, Secret::new(direct.join(","))));
    }
    env
}

fn daemon_json(line: &Cmdline, facts: &Facts, notes: &mut Vec<String>) -> String {
    let mut config = json!({
        "hosts": [format!("unix://{SOCKET}")],
        "data-root": DATA_ROOT,
        "exec-root": EXEC_ROOT,
        "pidfile": PIDFILE,
        // Actions go on when dockerd is started again.
        "live-restore": true,
        "default-runtime": "crun",
        "runtimes": { "crun": { "path": "/usr/bin/crun" } },
        "storage-driver": "overlay2",
        "log-driver": "local",
        "userland-proxy": false,
        // Actions of the field expect the default bridge, with NAT.
        "iptables": true,
        "ip-forward": true,
    });
    match (line.get(&SYSLOG_HOST), facts.syslog) {
        (None, _) => {}
        (Some(_), Some(address)) => {
            let port = line.get(&SYSLOG_PORT).and_then(|port| port.parse().ok()).unwrap_or(SYSLOG);
            config["log-driver"] = json!("syslog");
            // Every line is sent as it comes; the engine also keeps them in its local ring, from which they are read.
            config["log-opts"] = json!({
                "syslog-address": format!("udp://{}", SocketAddr::new(address, port)),
                "syslog-format": "rfc5424",
                "tag": "{{.Name}}",
                "cache-disabled": "false",
            });
        }
        (Some(host), None) => notes.push(format!(
            "syslog_host={host} has no address, so logs of containers stay on this machine; an address needs no resolver"
        )),
    }
    let insecure: Vec<&str> = line.items(&INSECURE_REGISTRIES).map(host).collect();
    if !insecure.is_empty() {
        config["insecure-registries"] = json!(insecure);
    }
    let mirrors: Vec<&str> = line.items(&IRONHOOK_MIRRORS).collect();
    if !mirrors.is_empty() {
        config["registry-mirrors"] = json!(mirrors);
    }
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests;
