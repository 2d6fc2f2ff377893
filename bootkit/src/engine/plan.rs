//! What the command line means for dockerd: its configuration, environment and directories. Pure.
//! No secret stands in the configuration; proxies, which may hold one, are environment only.

use serde_json::json;
use spec::Secret;
use spec::cmdline::{Cmdline, HTTP_PROXY, HTTPS_PROXY, INSECURE_REGISTRIES, NO_PROXY, SYSLOG_HOST};

/// dockerd's configuration, where it looks for it by itself.
pub const CONFIG: &str = "/etc/docker/daemon.json";
/// The component's `/run` is the machine's `/run/docker`, where the others find the socket.
pub const SOCKET: &str = "/run/docker.sock";
/// Beside it.
pub const PIDFILE: &str = "/run/docker.pid";
const EXEC_ROOT: &str = "/run/docker-exec";
const DATA_ROOT: &str = "/var/lib/docker";

/// Everything that dockerd is started with.
#[derive(Debug)]
pub struct Plan {
    /// The text of [`CONFIG`].
    pub daemon_json: String,
    /// Added to the environment.
    pub env: Vec<(&'static str, Secret)>,
    /// Made before it starts.
    pub dirs: [&'static str; 4],
    /// For a person: what was asked for and is not done.
    pub notes: Vec<String>,
}

impl Plan {
    /// Decides.
    pub fn new(line: &Cmdline) -> Self {
        let note = |host| {
            format!("syslog_host={host} is not served by the engine yet: logs of containers stay on this machine")
        };
        Self {
            daemon_json: daemon_json(line),
            env: [&HTTP_PROXY, &HTTPS_PROXY, &NO_PROXY]
                .into_iter()
                .filter_map(|key| Some((key.name, Secret::new(line.get(key)?))))
                .collect(),
            dirs: ["/etc/docker", "/run", EXEC_ROOT, DATA_ROOT],
            notes: line.get(&SYSLOG_HOST).map(note).into_iter().collect(),
        }
    }
}

fn daemon_json(line: &Cmdline) -> String {
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
    let insecure: Vec<&str> = items(line.get(&INSECURE_REGISTRIES)).collect();
    if !insecure.is_empty() {
        config["insecure-registries"] = json!(insecure);
    }
    format!("{config:#}\n")
}

fn items(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> serde_json::Value {
        serde_json::from_str(&Plan::new(&Cmdline::parse(text)).daemon_json).unwrap()
    }

    #[test]
    fn registries_are_listed_and_absent_when_there_are_none() {
        assert_eq!(config("insecure_registries=a:5000,,b")["insecure-registries"], json!(["a:5000", "b"]));
        for text in ["", "insecure_registries=", "insecure_registries=,"] {
            assert!(config(text).get("insecure-registries").is_none(), "{text}");
        }
    }

    #[test]
    fn the_socket_is_where_the_other_components_look_for_it() {
        assert_eq!(config("")["hosts"], json!(["unix:///run/docker.sock"]));
        assert_eq!(SOCKET.replace("/run/", "/run/docker/"), spec::paths::DOCKER_SOCKET);
    }

    #[test]
    fn proxies_are_environment_only_and_no_secret_is_anywhere() {
        let text = "HTTPS_PROXY=http://bob:hunter2@p:1 NO_PROXY=10.0.0.0/8 registry_password=hunter3 docker_registry=r";
        let plan = Plan::new(&Cmdline::parse(text));
        let env: Vec<_> = plan.env.iter().map(|(name, value)| (*name, value.expose())).collect();
        assert_eq!(env, [("HTTPS_PROXY", "http://bob:hunter2@p:1"), ("NO_PROXY", "10.0.0.0/8")]);
        for shown in [plan.daemon_json.clone(), format!("{plan:?}")] {
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }

    #[test]
    fn what_is_not_done_is_said() {
        assert!(Plan::new(&Cmdline::parse("syslog_host=10.0.0.9")).notes[0].starts_with("syslog_host=10.0.0.9 "));
    }
}
