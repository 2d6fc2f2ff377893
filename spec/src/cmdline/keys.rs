//! The table of keys: what may stand on the command line, in which generation of Tinkerbell, and what it means here.
//! Rows only; how they are read and written is next door.

use super::{Era, Key, Kind};
use Kind::{Authority, Bool, Choice, List, Mac, Number, Port, Proxy, Seal, Text, Url};

macro_rules! keys {
    ($($era:ident { $($id:ident = $name:literal, $kind:expr, $secret:literal, $default:literal, $doc:literal;)* })*) => {
        $($(#[doc = $doc]
        pub static $id: Key =
            Key { name: $name, kind: $kind, secret: $secret, default: $default, doc: $doc, era: Era::$era };)*)*

        /// Every key that is known, in the order of the manual.
        pub static KEYS: &[&Key] = &[$($(&$id,)*)*];
    };
}

keys! {
    Both {
        WORKER_ID = "worker_id", Text, false, "the MAC address of the boot interface", "Who this machine is to the server.";
        GRPC_AUTHORITY = "grpc_authority", Authority, false, "none", "Where the workflow service listens.";
        TINKERBELL_TLS = "tinkerbell_tls", Bool, false, "true", "Whether to speak TLS to the workflow service.";
        TINKERBELL_INSECURE_TLS = "tinkerbell_insecure_tls", Bool, false, "false", "Whether to accept any certificate of the workflow service.";
        HW_ADDR = "hw_addr", Mac, false, "none", "The interface that the machine was booted from.";
        BOOTIF = "BOOTIF", Mac, false, "none", "The interface that the machine was booted from, as pxelinux says it.";
        VLAN_ID = "vlan_id", Number, false, "none", "The VLAN that the boot interface is tagged with.";
        IPAM = "ipam", Text, false, "none", "Static addressing, as Hook's nine fields.";
        FACILITY = "facility", Text, false, "none", "Free text of the site; nothing here depends on it.";
        SYSLOG_HOST = "syslog_host", Text, false, "none", "Where the logs of containers are sent besides being kept, by UDP.";
        SYSLOG_PORT = "syslog_port", Port, false, "514", "The port at `syslog_host`.";
        DOCKER_REGISTRY = "docker_registry", Text, false, "none", "The registry that the credentials belong to; without `tink_worker_image` also the one that has the worker as `tink-worker:latest`.";
        REGISTRY_USERNAME = "registry_username", Text, false, "none", "User at `docker_registry`.";
        REGISTRY_PASSWORD = "registry_password", Text, true, "none", "Password at `docker_registry`. Everybody can read a command line: the site file or metadata is the better place.";
        INSECURE_REGISTRIES = "insecure_registries", List, false, "none", "Registries that the engine may speak to without verified TLS.";
        TINK_WORKER_IMAGE = "tink_worker_image", Text, false, "none", "A worker image to run instead of the built-in agent.";
        HTTP_PROXY = "HTTP_PROXY", Proxy, false, "none", "Proxy for http.";
        HTTPS_PROXY = "HTTPS_PROXY", Proxy, false, "none", "Proxy for https.";
        NO_PROXY = "NO_PROXY", List, false, "none", "Hosts that are reached without a proxy; the server of `grpc_authority` always is.";
    }
    Older {
        TINKERBELL = "tinkerbell", Url, false, "none", "Base of the classic metadata service, without its port (50061).";
        PACKET_BASE_URL = "packet_base_url", Url, false, "none", "Where `ca.pem` of `docker_registry` is; believed for that registry only.";
        GRPC_CERT_URL = "grpc_cert_url", Url, false, "none", "The certificate of the workflow service; passed on to a worker image.";
    }
    Ours {
        IRONHOOK_WORKER = "ironhook.worker", Choice(&["builtin", "image"]), false, "`image` if `tink_worker_image` or `docker_registry` is given, else `builtin`", "`builtin` for our agent, `image` for a worker image as Hook runs it.";
        IRONHOOK_ACTIONS = "ironhook.actions", Choice(&["builtin", "image"]), false, "image", "`builtin` to run our own actions for the stock ones of the same name.";
        IRONHOOK_SERVER = "ironhook.server", Url, false, "port 7080 of the host of `grpc_authority`", "Base of the server's files; reports of failed boots are sent there.";
        IRONHOOK_CONFIG = "ironhook.config", Seal(false), false, "none", "A file with more of these keys (docs/site-bundle.md): a URL, with `#sha256:<hex>` at its end to pin the content.";
        IRONHOOK_CA = "ironhook.ca", Seal(true), false, "none", "Certificate authorities of the site, PEM: a URL with `#sha256:<hex>` at its end.";
        IRONHOOK_METADATA = "ironhook.metadata", Url, false, "none", "Base of a metadata service that fills in what is not given otherwise.";
        IRONHOOK_MIRRORS = "ironhook.registry_mirrors", List, false, "none", "Mirrors of Docker Hub, as URLs.";
        IRONHOOK_STAGE2 = "ironhook.stage2", Url, false, "`/misc/osie/current` of `ironhook.server`", "The directory that has the layer of an image with two stages.";
        IRONHOOK_TICKET = "ironhook.ticket", Text, true, "none", "Boot ticket: exchanged for a key once, within minutes.";
        IRONHOOK_RESCUE = "ironhook.rescue", Bool, false, "false", "A shell when the boot fails; in debug images only.";
        IRONHOOK_CONSOLES = "ironhook.consoles", Choice(&["all", "named"]), false, "`named` if the line has a `console=`, else `all`", "Where the phases of the boot are printed: on every console that exists, or on those of `console=` only.";
        IRONHOOK_DEADLINE = "ironhook.panic_seconds", Number, false, "60", "Seconds on screen before a boot that failed is started again; 0 waits for a person.";
    }
    Ignored {
        INTERFACE = "interface", Text, false, "none", "The interface that Hook of 2026 asks for an address; `hw_addr` says it here.";
        INSTANCE_ID = "instance_id", Text, false, "none", "Of boots up to 0.8.";
        PACKET_ACTION = "packet_action", Text, false, "none", "Of boots up to 0.8.";
        PACKET_STATE = "packet_state", Text, false, "none", "Of boots up to 0.8.";
        PACKET_BOOTDEV_MAC = "packet_bootdev_mac", Text, false, "none", "Of boots up to 0.8.";
        ALPINE_REPO = "alpine_repo", Text, false, "none", "Of OSIE.";
        MODLOOP = "modloop", Text, false, "none", "Of OSIE.";
        PARCH = "parch", Text, false, "none", "Of OSIE.";
        OSIE_VENDORS_URL = "osie_vendors_url", Text, false, "none", "Of OSIE.";
        PLAN = "plan", Text, false, "none", "Of boots 0.6.";
        MANUFACTURER = "manufacturer", Text, false, "none", "Of boots 0.6.";
        SLUG = "slug", Text, false, "none", "Of boots 0.6.";
        PWHASH = "pwhash", Text, true, "none", "Of boots 0.6: a hash of root's password.";
        HOLLOW_CLIENT_ID = "hollow_client_id", Text, false, "none", "Of boots 0.6.";
        HOLLOW_CLIENT_REQUEST_SECRET = "hollow_client_request_secret", Text, true, "none", "Of boots 0.6.";
        ECLYPSIUM_TOKEN = "eclypsium_token", Text, true, "none", "Of boots 0.6.";
        TRACEPARENT = "traceparent", Text, false, "none", "Of boots: a trace.";
    }
}

/// Needed before there is a network, so they cannot come from one.
pub static EARLY: &[&Key] =
    &[&HW_ADDR, &BOOTIF, &VLAN_ID, &IPAM, &IRONHOOK_CONFIG, &IRONHOOK_RESCUE, &IRONHOOK_DEADLINE];

/// What a metadata service may fill in where nobody else has said anything. It is told by nobody who it is, so it has
/// no say in where the machine works, for whom, what it runs, and what it believes unverified.
pub static FROM_METADATA: &[&Key] = &[
    &SYSLOG_HOST,
    &SYSLOG_PORT,
    &REGISTRY_USERNAME,
    &REGISTRY_PASSWORD,
    &HTTP_PROXY,
    &HTTPS_PROXY,
    &NO_PROXY,
    &IRONHOOK_MIRRORS,
];
