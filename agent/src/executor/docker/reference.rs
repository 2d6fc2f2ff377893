//! Which image an action means, and whether a registry's refusal is final. Pure.

use bollard::errors::Error;

use crate::config::Credentials;

/// The image as the engine is asked for it: behind the registry if one is configured (the worker's rule, wire
/// reference §5.3; one that stands there already is left), with `latest` spelt out, as otherwise all tags are pulled.
pub fn reference(registry: Option<&str>, image: &str) -> String {
    let registry = registry.map(|registry| registry.trim_end_matches('/')).filter(|registry| !registry.is_empty());
    let full = match registry {
        Some(registry) if !image.starts_with(&format!("{registry}/")) => {
            format!("{registry}/{}", image.trim_start_matches('/'))
        }
        _ => image.to_owned(),
    };
    let name = full.rsplit('/').next().unwrap_or_default();
    if name.contains([':', '@']) { full } else { format!("{full}:latest") }
}

/// The credentials, if they are for the registry of this image.
pub fn credentials_for<'a>(credentials: Option<&'a Credentials>, reference: &str) -> Option<&'a Credentials> {
    credentials.filter(|credentials| registry_host(&credentials.server) == registry_of(reference))
}

/// The registry that people mean by an address, as names of images have it.
pub fn registry_host(server: &str) -> &str {
    let server = server.trim_start_matches("https://").trim_start_matches("http://");
    let server = server.split('/').next().unwrap_or_default();
    if matches!(server, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { server }
}

fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Whether asking again cannot help: the image is not there, or we may not have it.
pub fn is_final(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError { status_code: 400 | 401 | 403 | 404, .. } => true,
        Error::DockerResponseServerError { message, .. } => says_absent(message),
        Error::DockerStreamError { error } => says_absent(error),
        _ => false,
    }
}

/// The engine has no codes for these, only words.
fn says_absent(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    // "no such host" also says "not found" in some resolvers' words, and passes.
    !message.contains("no such host")
        && [
            "manifest unknown",
            "not found",
            "name unknown",
            "pull access denied",
            "unauthorized",
            "denied",
            "invalid reference format",
            "no matching manifest",
            "no basic auth credentials",
            // It is there, and will be no better the next time.
            "invalid rootfs",
            "unsupported media type",
        ]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use spec::Secret;

    use super::*;

    #[test]
    fn the_registry_is_put_in_front_once_and_a_tag_is_always_named() {
        for (registry, image, want) in [
            (None, "alpine", "alpine:latest"),
            (None, "host:5000/a/b", "host:5000/a/b:latest"),
            (Some(""), "a:1", "a:1"),
            (Some("10.0.0.1:5000"), "image-write:v1", "10.0.0.1:5000/image-write:v1"),
            (Some("10.0.0.1:5000/"), "quay.io/a/b", "10.0.0.1:5000/quay.io/a/b:latest"),
            (Some("10.0.0.1:5000"), "10.0.0.1:5000/a", "10.0.0.1:5000/a:latest"),
            (None, "a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(reference(registry, image), want);
        }
    }

    #[test]
    fn credentials_go_to_their_registry_only() {
        let of = |server: &str| Credentials { server: server.into(), username: "u".into(), password: Secret::new("p") };
        for (server, image, sent) in [
            ("10.0.0.1:5000", "10.0.0.1:5000/a:1", true),
            ("https://reg.example/path", "reg.example/path/a:1", true),
            ("10.0.0.1:5000", "quay.io/a:1", false),
            ("docker.io", "library/alpine:1", true),
            ("reg.example", "alpine:1", false),
        ] {
            assert_eq!(credentials_for(Some(&of(server)), image).is_some(), sent, "{server} {image}");
        }
        assert!(credentials_for(None, "a").is_none());
    }

    #[test]
    fn only_an_answer_of_the_registry_is_final() {
        let server =
            |status_code, message: &str| Error::DockerResponseServerError { status_code, message: message.into() };
        assert!(is_final(&server(404, "manifest for a:1 not found: manifest unknown")));
        assert!(is_final(&server(500, "unauthorized: authentication required")));
        assert!(is_final(&Error::DockerStreamError { error: "denied: requested access".into() }));
        assert!(is_final(&Error::DockerStreamError { error: "invalid rootfs in image configuration".into() }));
        assert!(!is_final(&server(500, "dial tcp: lookup reg on 10.0.0.1:53: no such host")));
        assert!(!is_final(&server(500, "Get https://reg/v2/: dial tcp 10.0.0.1:5000: connect: connection refused")));
        assert!(!is_final(&server(500, "toomanyrequests: rate exceeded")));
        assert!(!is_final(&Error::RequestTimeoutError));
    }
}
