//! Reading from the real thing: Debian's docker-registry, filled by skopeo, open, with a password, with tokens, with TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Shared test code; the lint knows only test functions.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use fetch::Options;
use fetch::registry::{Access, Credential, Error, Reference, Repository};
use sha2::{Digest, Sha256};
use spec::Secret;
use tempfile::TempDir;

/// `htpasswd -Bbn me hunter2`.
const USERS: &str = "me:$2y$05$fAMlDk/5c1tOclia5dbJl.H/gPe19h039YgBOwPdO3OEIrUwkNRv6\n";
const LAYER: &[u8] = b"the only layer";

struct Registry {
    process: Child,
    host: String,
    directory: TempDir,
}

impl Registry {
    /// Starts one with more lines of configuration below `http` and at the top; `{dir}` stands for its directory.
    fn start(directory: TempDir, http: &str, top: &str) -> Self {
        let dir = directory.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {dir}/data}}}}\n\
             http:\n  addr: 127.0.0.1:0\n{}{}",
            http.replace("{dir}", &dir),
            top.replace("{dir}", &dir)
        );
        fs::write(directory.path().join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry; make deps installs it");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.by_ref().find(|line| line.contains("listening on ")).expect("docker-registry ended");
        let host = line.split("listening on ").nth(1).unwrap().split(['"', ',']).next().unwrap().to_owned();
        // Its log must be read for as long as it runs.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host, directory }
    }

    fn push(&self, options: &[&str]) {
        let layout = layout();
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--all", "--preserve-digests"])
            .args(options)
            .arg(format!("oci:{}:x", layout.path().display()))
            .arg(format!("docker://{}/ironhook/x:1", self.host))
            .output()
            .expect("skopeo; make deps installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn access(&self) -> Access {
        let fetch = Options { patience: Duration::ZERO, ..Options::default() };
        Access { fetch, credentials: Vec::new(), plain_http: vec![self.host.clone()] }
    }

    fn with_password(&self, password: &str) -> Access {
        let password = Secret::new(password);
        let credential = Credential { host: self.host.clone(), user: "me".into(), password };
        Access { credentials: vec![credential], ..self.access() }
    }

    fn read(&self, name: &str, access: &Access) -> Result<Vec<u8>, Error> {
        let reference = Reference::parse(&format!("{}/{name}", self.host)).unwrap();
        let mut repository = Repository::new(&reference, access)?;
        let image = repository.image("amd64")?;
        let mut bytes = Vec::new();
        repository.blob(&image.manifest.layers[0])?.read_to_end(&mut bytes).unwrap();
        Ok(bytes)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An OCI layout with an image for two machines, named `x`.
fn layout() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let blobs = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        fs::write(blobs.join(hex(bytes)), bytes).unwrap();
        let kind = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({"mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()})
    };
    let layer = blob("layer.v1.tar", LAYER);
    let mut manifests = Vec::new();
    for machine in ["arm64", "amd64"] {
        let config = serde_json::json!({"architecture": machine, "os": "linux", "rootfs":
            {"type": "layers", "diff_ids": [format!("sha256:{}", hex(LAYER))]}});
        let config = blob("config.v1+json", config.to_string().as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
        let mut entry = blob("manifest.v1+json", manifest.to_string().as_bytes());
        entry["platform"] = serde_json::json!({"architecture": machine, "os": "linux"});
        manifests.push(entry);
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    let mut entry = blob("index.v1+json", index.to_string().as_bytes());
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "x"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(directory.path().join("index.json"), index.to_string()).unwrap();
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    directory
}

fn openssl(directory: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().expect("openssl");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A certificate of its own authority for 127.0.0.1, as ca.pem and key.pem.
fn certified() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    openssl(
        directory.path(),
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.pem -days 1 -subj /CN=127.0.0.1 \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
    );
    directory
}

#[test]
fn by_tag_by_digest_and_for_the_right_machine() {
    let registry = Registry::start(tempfile::tempdir().unwrap(), "", "");
    registry.push(&["--dest-tls-verify=false"]);
    let access = registry.access();
    assert_eq!(registry.read("ironhook/x:1", &access).unwrap(), LAYER);
    let reference = Reference::parse(&format!("{}/ironhook/x:1", registry.host)).unwrap();
    let image = Repository::new(&reference, &access).unwrap().image("amd64").unwrap();
    assert_eq!(image.digest, format!("sha256:{}", hex(&image.bytes)));
    let pinned = format!("ironhook/x@{}", image.digest);
    assert_eq!(registry.read(&pinned, &access).unwrap(), LAYER);

    // A manifest without an index says in its configuration what it is for.
    let pinned = Reference::parse(&format!("{}/{pinned}", registry.host)).unwrap();
    let error = Repository::new(&pinned, &access).unwrap().image("arm64").unwrap_err().to_string();
    assert!(error.ends_with("is for amd64, not for arm64"), "{error}");
    let error = Repository::new(&reference, &access).unwrap().image("riscv64").unwrap_err().to_string();
    assert!(error.ends_with("is for linux/arm64, linux/amd64, not for riscv64"), "{error}");
    let error = registry.read("ironhook/x:2", &access).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let nothing = format!("ironhook/x@sha256:{}", "0".repeat(64));
    assert!(matches!(registry.read(&nothing, &access), Err(Error::NotFound { .. })));
}

#[test]
fn changed_and_truncated_blobs_are_never_the_whole_file() {
    let registry = Registry::start(tempfile::tempdir().unwrap(), "", "");
    registry.push(&["--dest-tls-verify=false"]);
    let reference = Reference::parse(&format!("{}/ironhook/x:1", registry.host)).unwrap();
    let mut repository = Repository::new(&reference, &registry.access()).unwrap();
    let image = repository.image("amd64").unwrap();
    let digest = hex(LAYER);
    let stored: PathBuf = format!("data/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]).into();
    let stored = registry.directory.path().join(stored);
    for damaged in [&b"the oNly layer"[..], b"the only"] {
        fs::write(&stored, damaged).unwrap();
        let mut bytes = Vec::new();
        let error = repository.blob(&image.manifest.layers[0]).unwrap().read_to_end(&mut bytes).unwrap_err();
        let own = Error::within(&error).expect("an error of the registry's reader").to_string();
        assert!(own.contains(&digest) && own.contains(&format!("{} of 14 bytes", damaged.len())), "{own}");
    }
    fs::write(&stored, "the only layer and more").unwrap();
    let error = repository.blob(&image.manifest.layers[0]).unwrap().finish().unwrap_err();
    assert!(matches!(Error::within(&error), Some(Error::Digest { .. })), "{error}");
}

#[test]
fn a_password_is_asked_for_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("users"), USERS).unwrap();
    let top = "auth: {htpasswd: {realm: lab, path: \"{dir}/users\"}}\n";
    let registry = Registry::start(directory, "", top);
    registry.push(&["--dest-tls-verify=false", "--dest-creds=me:hunter2"]);
    assert_eq!(registry.read("ironhook/x:1", &registry.with_password("hunter2")).unwrap(), LAYER);
    let error = registry.read("ironhook/x:1", &registry.with_password("hunter3")).unwrap_err().to_string();
    assert!(error.ends_with("`ironhook/x` away: the credentials for it were refused"), "{error}");
    let error = registry.read("ironhook/x:1", &registry.access()).unwrap_err().to_string();
    assert!(error.ends_with("no credentials for it were given"), "{error}");
    let mut elsewhere = registry.with_password("hunter2");
    elsewhere.credentials[0].host = "127.0.0.1".into();
    assert!(registry.read("ironhook/x:1", &elsewhere).is_err(), "credentials of another registry were sent");
}

#[test]
fn a_site_authority_is_trusted_when_it_is_named() {
    let registry = Registry::start(certified(), "  tls: {certificate: \"{dir}/ca.pem\", key: \"{dir}/key.pem\"}\n", "");
    registry.push(&["--dest-tls-verify=false"]);
    let mut access = Access { plain_http: Vec::new(), ..registry.access() };
    let error = registry.read("ironhook/x:1", &access).unwrap_err();
    assert!(matches!(error, Error::Fetch(fetch::Error::Connect { .. })), "{error}");
    access.fetch.ca_file = Some(registry.directory.path().join("ca.pem"));
    assert_eq!(registry.read("ironhook/x:1", &access).unwrap(), LAYER);
}

/// RFC 4648 §5 without padding.
fn base64url(bytes: &[u8]) -> String {
    let mut command = Command::new("openssl");
    let mut child =
        command.args(["base64", "-A"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("openssl");
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// A token that the registry's own check accepts: RS256 with the certificate in its header.
fn token(directory: &Path, actions: &[&str]) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let certificate: String =
        fs::read_to_string(directory.join("ca.pem")).unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]}).to_string();
    let access = serde_json::json!([{"type": "repository", "name": "ironhook/x", "actions": actions}]);
    let claims = serde_json::json!({"iss": "lab", "sub": "me", "aud": "lab registry", "exp": now + 600, "nbf": now - 60,
        "iat": now - 60, "jti": "1", "access": access});
    let text = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.to_string().as_bytes()));
    fs::write(directory.join("claims"), &text).unwrap();
    let signature = openssl(directory, "dgst -sha256 -sign key.pem claims");
    format!("{text}.{}", base64url(&signature))
}

/// Gives the token to whoever has the password; returns its address. Ends with the test's process.
fn token_service(directory: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let known = request.iter().any(|line| line.eq_ignore_ascii_case("authorization: Basic bWU6aHVudGVyMg=="));
            let asked = request[0].contains("scope=repository%3Aironhook%2Fx%3Apull");
            assert!(asked && request[0].contains("service=lab+registry"), "{}", request[0]);
            let body = serde_json::json!({"token": token(&directory, &["pull"])}).to_string();
            let status = if known { "200 OK" } else { "401 Unauthorized" };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn a_token_is_fetched_where_the_registry_says() {
    let directory = certified();
    // Filled while it is open: skopeo would want a token to push.
    let open = Registry::start(directory, "", "");
    open.push(&["--dest-tls-verify=false"]);
    let home = open.directory.path().to_owned();
    let service = token_service(home.clone());
    let top = format!(
        "auth: {{token: {{realm: \"http://{service}/token\", service: lab registry, issuer: lab, rootcertbundle: \"{}/ca.pem\"}}}}\n",
        home.display()
    );
    let directory = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(home.join("data")).arg(directory.path()).status().unwrap();
    assert!(copied.success());
    let registry = Registry::start(directory, "", &top);
    assert_eq!(registry.read("ironhook/x:1", &registry.with_password("hunter2")).unwrap(), LAYER);
    let error = registry.read("ironhook/x:1", &registry.with_password("hunter3")).unwrap_err().to_string();
    assert!(error.ends_with("the credentials for it were refused"), "{error}");
    let error = registry.read("ironhook/x:1", &registry.access()).unwrap_err().to_string();
    assert!(error.ends_with("no credentials for it were given"), "{error}");
    // A service without TLS is asked only by those who named the registry as plain.
    let mut strict = registry.with_password("hunter2");
    strict.plain_http.clear();
    assert!(registry.read("ironhook/x:1", &strict).is_err());
}
