//! Every option of the agent, with the names of both generations of workers; each says its variable. What the values
//! mean is decided in `config`, not here.

use std::path::PathBuf;

use clap::{Args, Parser};

/// The options of every way to run.
#[derive(Parser, Debug, Default)]
#[command(name = "ironhook-agent", version)]
pub struct Flags {
    /// Who this worker is to the server [WORKER_ID, ID, AGENT_ID; else the MAC address of the lease]
    #[arg(long, short)]
    pub(super) id: Option<String>,
    /// host:port of the workflow server [TINKERBELL_GRPC_AUTHORITY, AGENT_GRPC_SERVER]
    #[arg(long, visible_alias = "grpc-server")]
    pub(super) tinkerbell_grpc_authority: Option<String>,
    /// Whether to speak TLS to it; default true [TINKERBELL_TLS, AGENT_GRPC_TLS]
    #[arg(long, visible_alias = "grpc-tls", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) tinkerbell_tls: Option<String>,
    /// Whether to believe any certificate; default false [TINKERBELL_INSECURE_TLS, AGENT_GRPC_INSECURE_TLS]
    #[arg(long, visible_alias = "grpc-insecure-tls", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub(super) tinkerbell_insecure_tls: Option<String>,
    /// Certificate authorities, PEM, believed beside the system's (those of SSL_CERT_FILE, where that is set)
    /// [IRONHOOK_CA_FILE]
    #[arg(long)]
    pub(super) ca_file: Option<String>,
    /// URL of the only certificate authorities that are believed instead of the system's, PEM, as a server of 0.6 hands
    /// them out [TINKERBELL_CERT_URL]
    #[arg(long)]
    pub(super) cert_url: Option<String>,
    /// Our certificate, PEM, for a server that asks for one [IRONHOOK_CLIENT_CERT]
    #[arg(long)]
    pub(super) client_cert: Option<String>,
    /// Its key, PEM [IRONHOOK_CLIENT_KEY]
    #[arg(long)]
    pub(super) client_key: Option<String>,
    /// auto: whichever service the server has; or classic, classic-0.8, v2 (GetAction), ironhook (classic with
    /// ironhook.v1); default auto [IRONHOOK_PROTOCOL]
    #[arg(long)]
    pub(super) protocol: Option<String>,
    /// Registry that is put in front of every image [DOCKER_REGISTRY]
    #[arg(long, short = 'r')]
    pub(super) docker_registry: Option<String>,
    /// Registry that user name and password are for, when none is put in front [AGENT_REGISTRY_NAME]
    #[arg(long)]
    pub(super) registry_name: Option<String>,
    /// User name at the registry [REGISTRY_USERNAME, AGENT_REGISTRY_USER]; its password is read from REGISTRY_PASSWORD or
    /// AGENT_REGISTRY_PASS only
    #[arg(long, short = 'u', visible_alias = "registry-user")]
    pub(super) registry_username: Option<String>,
    /// The engine's socket [AGENT_DOCKER_SOCKET, DOCKER_HOST; else /run/docker/docker.sock or /var/run/docker.sock]
    #[arg(long)]
    pub(super) docker_socket: Option<String>,
    /// Directory shared with engine and actions, at the same path for the engine; default /worker [IRONHOOK_WORKER_DIR]
    #[arg(long)]
    pub(super) worker_dir: Option<String>,
    /// Directory of run-time state; default /run/ironhook [IRONHOOK_RUN_DIR]
    #[arg(long)]
    pub(super) run_dir: Option<String>,
    /// Longest wait between two tries; default 3s [RETRY_INTERVAL, AGENT_BACKOFF_MAX_INTERVAL]
    #[arg(long, visible_alias = "backoff-max-interval")]
    pub(super) retry_interval: Option<String>,
    /// How long a pull whose failures pass is tried again; default 5m [IRONHOOK_PULL_TIMEOUT]
    #[arg(long)]
    pub(super) pull_timeout: Option<String>,
    /// Directory with an OCI layout of images that need no registry; can be repeated; default
    /// /usr/share/ironhook/images and /etc/ironhook/images [IRONHOOK_IMAGES, separated by colons]
    #[arg(long)]
    pub(super) images: Vec<PathBuf>,
    /// Registries, separated by commas, that crun's images are read from without TLS [INSECURE_REGISTRIES]
    #[arg(long)]
    pub(super) insecure_registries: Option<String>,
    /// `builtin`: a stock action whose work one of ours does is run as ours; `image`: as it is named; default image
    /// [IRONHOOK_ACTIONS]
    #[arg(long)]
    pub(super) actions: Option<String>,
    /// Whether the engine keeps its images in memory, so that a pull has to fit; default false [IRONHOOK_IMAGES_IN_MEMORY]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) images_in_memory: Option<String>,
    /// Which executor runs actions: docker, crun, or auto: crun for ironhook/* images that this machine has, else docker;
    /// default auto [IRONHOOK_EXECUTOR, AGENT_RUNTIME]
    #[arg(long, visible_alias = "runtime")]
    pub(super) executor: Option<String>,
    /// `privileged`: every action is; `declared`: those whose image has the label
    /// dev.ironhook.privileges=privileged; default privileged [IRONHOOK_PRIVILEGES]
    #[arg(long)]
    pub(super) privileges: Option<String>,
    /// Whether the server is told what this machine is; default true [AGENT_ATTRIBUTE_DETECTION]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) attribute_detection: Option<String>,
    /// Most bytes that an action may leave for the next in /workflow/data, under servers of 0.6 to 0.8; default 10485760
    /// [MAX_FILE_SIZE]
    #[arg(long)]
    pub(super) max_file_size: Option<String>,
    /// 0: what happens; more: how, too; default 0 [AGENT_LOG_LEVEL; IRONHOOK_LOG has filters instead]
    #[arg(long)]
    pub(super) log_level: Option<String>,
    /// Where actions come from: grpc; those of a file are run by `ironhook-agent run FILE`; default grpc [AGENT_TRANSPORT]
    #[arg(long)]
    pub(super) transport: Option<String>,
    /// Options of the field's workers that are accepted and change nothing.
    #[command(flatten)]
    pub(super) idle: Idle,
}

impl Flags {
    /// Whether more than what happens is to be said. A level that is none is told with the other problems.
    pub fn is_verbose(&self, environment: impl Fn(&str) -> Option<String>) -> bool {
        let level = self.log_level.clone().filter(|level| !level.is_empty()).or_else(|| environment("AGENT_LOG_LEVEL"));
        level.and_then(|level| level.parse::<i64>().ok()).is_some_and(|level| level > 0)
    }
}

/// What a worker of the field can be told and this agent does in its own way; docs/compatibility.md says how.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Accepted from the field's workers, without effect")]
pub struct Idle {
    /// Reports are repeated until they are answered [MAX_RETRY]
    #[arg(long)]
    max_retry: Option<String>,
    /// Each action has a time limit of its own [TIMEOUT]
    #[arg(long)]
    timeout: Option<String>,
    /// What actions write is always kept [CAPTURE_ACTION_LOGS]
    #[arg(long, num_args = 0..=1, require_equals = true)]
    capture_action_logs: Option<String>,
    /// The longest wait between two tries is what counts [AGENT_GRPC_RETRY_INTERVAL]
    #[arg(long)]
    grpc_retry_interval: Option<String>,
    /// Refused: a command line is for all to see [REGISTRY_PASSWORD, AGENT_REGISTRY_PASS have it]
    #[arg(long, short = 'p', visible_alias = "registry-pass")]
    pub(super) registry_password: Option<String>,
}
