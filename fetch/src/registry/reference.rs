//! Names of images and artifacts in a registry: `host[:port]/path[:tag][@sha256:...]`. Pure.
//! A name without a host is Docker Hub's, one without tag and digest is `latest`, as every tool of the field reads it.

use std::fmt;

use super::Error;

/// Where a name without a host leads.
const HUB: &str = "docker.io";
/// Where Docker Hub's registry answers.
const HUB_API: &str = "registry-1.docker.io";

/// A parsed name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    host: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Reads a name as people write it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |problem| Error::Reference { text: text.chars().take(300).collect(), problem };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_sha256(digest)) {
            return Err(bad("its digest is not `sha256:` and 64 lower-case hex digits"));
        }
        let (host, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => (HUB, name),
        };
        // After the host, a colon begins the tag.
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let path = if host == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let host_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let path_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let tag_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(host_part) {
            return Err(bad("its host is no host name"));
        }
        let part_fits =
            |part: &str| part.bytes().all(path_part) && part.starts_with(|c: char| c.is_ascii_alphanumeric());
        if path.len() > 255 || !path.split('/').all(part_fits) {
            return Err(bad("its path is not made of lower-case letters, digits, `.`, `_`, `-` and `/`"));
        }
        if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.bytes().all(tag_part)) {
            return Err(bad("its tag is not made of 1 to 128 letters, digits, `.`, `_` and `-`"));
        }
        Ok(Self { host: host.to_owned(), path, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// The registry as the name has it: what credentials are kept under.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository in it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The digest it is pinned to.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What the registry is asked for: the digest, else the tag, else `latest`.
    pub(crate) fn wanted(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    pub(crate) fn api_host(&self) -> &str {
        if self.host == HUB { HUB_API } else { &self.host }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether a text is a digest of the kind we check.
pub(crate) fn is_sha256(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_as_the_field_reads_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, shown, api, wanted) in [
            ("debian", "docker.io/library/debian", HUB_API, "latest"),
            ("ironhook/disk-wipe:v1", "docker.io/ironhook/disk-wipe:v1", HUB_API, "v1"),
            ("quay.io/tinkerbell/x", "quay.io/tinkerbell/x", "quay.io", "latest"),
            ("127.0.0.1:5000/a/b/c:1.2_x-Y", "127.0.0.1:5000/a/b/c:1.2_x-Y", "127.0.0.1:5000", "1.2_x-Y"),
            ("localhost/x:1", "localhost/x:1", "localhost", "1"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(
                (reference.to_string().as_str(), reference.api_host(), reference.wanted()),
                (shown, api, wanted)
            );
        }
        let pinned = Reference::parse(&format!("r.io/x:1@{digest}")).unwrap();
        assert_eq!((pinned.wanted(), pinned.to_string()), (digest.as_str(), format!("r.io/x:1@{digest}")));
    }

    #[test]
    fn what_could_be_another_request_is_refused() {
        for text in [
            "",
            "a b",
            "r.io/",
            "r.io/../x",
            "r.io/x:",
            "r.io/X",
            "r.io/x?y",
            "r.io/x@sha256:1",
            "u:p@r.io/x",
            "http://r.io/x",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_the_same(text in "([a-z0-9.]{0,6}(:[0-9]{1,3})?/)?[a-z0-9/._-]{0,12}(:[a-zA-Z0-9._-]{0,5})?") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
            }
        }
    }
}
