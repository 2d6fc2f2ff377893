//! The file where the container tools of the field keep registry credentials (`auths` of Docker's config.json, also
//! podman's and skopeo's auth.json). Reads it; helpers that are programs are not run.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;
use spec::Secret;

use super::login::from_base64;
use super::{Credential, Error};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
}

/// All user and password pairs of such a file.
pub fn credentials(path: &Path) -> Result<Vec<Credential>, Error> {
    let failed = |source| Error::AuthFile { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    // The parser's own words may quote the text, which holds passwords: only the place is told.
    let file: File = serde_json::from_str(&text)
        .map_err(|error| failed(io::Error::other(format!("no JSON with `auths` at line {}", error.line()))))?;
    let mut found = Vec::new();
    for (host, entry) in file.auths {
        if entry.auth.is_empty() {
            continue;
        }
        let odd = || failed(io::Error::other(format!("`auth` of `{host}` is not the base64 of `user:password`")));
        let pair = from_base64(&entry.auth).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(odd)?;
        let (user, password) = pair.split_once(':').ok_or_else(odd)?;
        let host = host.trim_start_matches("https://").trim_start_matches("http://");
        // Docker Hub's historical name.
        let host = if host.starts_with("index.docker.io") { "docker.io" } else { host.trim_end_matches('/') };
        found.push(Credential { host: host.to_owned(), user: user.to_owned(), password: Secret::new(password) });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_registry_and_a_broken_file_shows_no_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let text =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6aHVudGVyMg=="},"r:5000":{}},"credsStore":"x"}"#;
        std::fs::write(&path, text).unwrap();
        let found = credentials(&path).unwrap();
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!((one.host.as_str(), one.user.as_str(), one.password.expose()), ("docker.io", "me", "hunter2"));
        for broken in
            [&text[..60], r#"{"auths":{"r":{"auth":"aHVudGVyMg=="}}}"#, r#"{"auths":{"r":{"auth":["hunter2"]}}}"#]
        {
            std::fs::write(&path, broken).unwrap();
            let error = credentials(&path).unwrap_err();
            let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
            assert!(told.contains("config.json") && !told.contains("hunter2"), "{told}");
        }
    }
}
