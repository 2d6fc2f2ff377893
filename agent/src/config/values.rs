//! How single values are written, each with the sentence that says what is wrong with a bad one.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Privileges, Protocol};
use crate::executor::Any;

/// `host:port`, as the field writes it: no scheme, no path.
pub fn authority(text: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("{text:?} is not host:port ({why})"));
    let Some((host, port)) = text.rsplit_once(':') else {
        return bad("the port is missing");
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || text.contains(['/', '@', ' ']) || (host.contains(':') && !bracketed) {
        return bad("it has no scheme, user or path, and an IPv6 address stands in brackets");
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => bad("the port is a number from 1 to 65535"),
        Ok(_) => Ok(text.to_owned()),
    }
}

/// As Go reads booleans, because the field's tools do.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// `500ms`, `3s`, `2m`, `1h`, or seconds as a bare number (workers of 0.6).
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let bad = || format!("{text:?} is not a time such as 500ms, 3s or 2m");
    let number: u64 = number.parse().map_err(|_| bad())?;
    let ms = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    match ms {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        Some(_) => Err(format!("{text:?} is not between 1ms and 24h")),
        None => Err(bad()),
    }
}

/// A path, or a `unix://` address as `DOCKER_HOST` has it.
pub fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(format!("{text:?} is not the path of a socket (only unix:// is supported)"))
    }
}

/// Which containers are privileged.
pub fn privileges(text: &str) -> Result<Privileges, String> {
    match text {
        "privileged" => Ok(Privileges::Privileged),
        "declared" => Ok(Privileges::Declared),
        _ => Err(format!("{text:?} is neither privileged nor declared")),
    }
}

/// Whether stock actions are replaced by ours.
pub fn builtin(text: &str) -> Result<bool, String> {
    match text {
        "builtin" => Ok(true),
        "image" => Ok(false),
        _ => Err(format!("{text:?} is neither builtin nor image")),
    }
}

/// The name of an executor.
pub fn executor(text: &str) -> Result<String, String> {
    if Any::NAMES.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no executor; there are {}", Any::NAMES.join(", ")))
    }
}

/// Where actions come from; only one of the field's ways is left.
pub fn transport(text: &str) -> Result<(), String> {
    match text {
        "grpc" => Ok(()),
        "file" => Err("\"file\": actions of a file are run by `ironhook-agent run FILE`".to_owned()),
        _ => Err(format!("{text:?} is no way to a server here; there is grpc")),
    }
}

/// How many bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number of bytes"))
}

/// How much is said.
pub fn level(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

/// Where a certificate is handed out.
pub fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no URL that begins with http:// or https://")),
    }
}

/// Which service to speak.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "auto" => Ok(Protocol::Auto),
        "classic" => Ok(Protocol::Classic),
        "classic-0.8" => Ok(Protocol::ClassicOld),
        "v2" => Ok(Protocol::Newer),
        "ironhook" => Ok(Protocol::Ironhook),
        _ => Err(format!("{text:?} is none of auto, classic, classic-0.8, v2, ironhook")),
    }
}
