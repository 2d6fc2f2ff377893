//! Why a pull failed, out of the engine's words (it has no codes for these), and whether time can help. Pure.

use spec::boot::BootCode;

/// What to do about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// Asking again cannot help.
    None,
    /// Asking again may help: tried for ever.
    Again,
    /// As before, but the registry wants to be left in peace for a while.
    Later,
    /// It may have been an accident: tried a few times.
    Few,
}

const TABLE: &[(&[&str], BootCode, Remedy)] = &[
    (&["no space left on device"], BootCode::Memory, Remedy::None),
    (
        &["x509:", "certificate signed by unknown authority", "tls: failed to verify"],
        BootCode::UnknownAuthority,
        Remedy::None,
    ),
    (&["gave http response to https client"], BootCode::Registry, Remedy::None),
    (&["toomanyrequests", "too many requests", "429"], BootCode::Registry, Remedy::Later),
    (
        &[
            "verification failed for digest",
            "failed to verify",
            "digest mismatch",
            "did not match digest",
            "content digest",
        ],
        BootCode::Digest,
        Remedy::Few,
    ),
    // Before "not found": some resolvers say so of a host.
    (
        &["no such host", "server misbehaving", "connection refused", "i/o timeout", "unreachable"],
        BootCode::Registry,
        Remedy::Again,
    ),
    (
        &["unauthorized", "no basic auth credentials", "authentication required", "access denied", "denied:", "403"],
        BootCode::RegistryAuth,
        Remedy::None,
    ),
    (
        &["manifest unknown", "name unknown", "repository not found", "not found", "no matching manifest"],
        BootCode::ImageNotFound,
        Remedy::None,
    ),
    (&["invalid reference format"], BootCode::BadConfig, Remedy::None),
];

/// The code of a failed pull, and what to do.
pub fn of(message: &str) -> (BootCode, Remedy) {
    let message = message.to_ascii_lowercase();
    let row = TABLE.iter().find(|(words, _, _)| words.iter().any(|word| message.contains(word)));
    row.map_or((BootCode::Registry, Remedy::Again), |(_, code, remedy)| (*code, *remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_have_a_cause() {
        for (message, code, remedy) in [
            (
                "Head \"https://r/v2/a/manifests/1\": unauthorized: authentication required",
                BootCode::RegistryAuth,
                Remedy::None,
            ),
            ("Get \"http://r/v2/a/manifests/1\": no basic auth credentials", BootCode::RegistryAuth, Remedy::None),
            (
                "pull access denied for a, repository does not exist or may require 'docker login'",
                BootCode::RegistryAuth,
                Remedy::None,
            ),
            ("manifest for r/a:1 not found: manifest unknown: manifest unknown", BootCode::ImageNotFound, Remedy::None),
            (
                "no matching manifest for linux/amd64 in the manifest list entries",
                BootCode::ImageNotFound,
                Remedy::None,
            ),
            ("toomanyrequests: You have reached your pull rate limit", BootCode::Registry, Remedy::Later),
            (
                "error parsing HTTP 429 response body: unexpected end of JSON input: \"\"",
                BootCode::Registry,
                Remedy::Later,
            ),
            ("received unexpected HTTP status: 500 Internal Server Error", BootCode::Registry, Remedy::Again),
            ("error parsing HTTP 503 response body: invalid character '<'", BootCode::Registry, Remedy::Again),
            ("read tcp 10.0.0.2:1->10.0.0.1:5000: read: connection reset by peer", BootCode::Registry, Remedy::Again),
            ("unexpected EOF", BootCode::Registry, Remedy::Again),
            ("dial tcp: lookup reg on 10.0.0.1:53: no such host", BootCode::Registry, Remedy::Again),
            ("dial tcp: lookup reg: server host not found: no such host", BootCode::Registry, Remedy::Again),
            ("dial tcp 10.0.0.1:5000: connect: connection refused", BootCode::Registry, Remedy::Again),
            ("filesystem layer verification failed for digest sha256:00", BootCode::Digest, Remedy::Few),
            (
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
                BootCode::UnknownAuthority,
                Remedy::None,
            ),
            (
                "Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client",
                BootCode::Registry,
                Remedy::None,
            ),
            ("failed to register layer: write /usr/bin/x: no space left on device", BootCode::Memory, Remedy::None),
            ("invalid reference format: repository name must be lowercase", BootCode::BadConfig, Remedy::None),
            ("words of a newer engine", BootCode::Registry, Remedy::Again),
        ] {
            assert_eq!(of(message), (code, remedy), "{message}");
        }
    }
}
