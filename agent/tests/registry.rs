//! Images from Debian's registry, through docker and through crun: who we are to it, what is pinned, what is tried again,
//! what is cancelled, and what cannot fit. Between agent and registry a proxy makes mistakes on demand.

#![allow(clippy::unwrap_used)]

mod common;
mod lab;
#[path = "../../bootkit/tests/site/proxy.rs"]
#[allow(dead_code)]
mod proxy;

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use lab::{Kind, Lab, layout, sh};
use proto::workflow::{State, WorkflowAction};
use proxy::{Fault, Proxy};

const NAME: &str = "site/tool";
const PASSWORD: &str = "hunter2hunter2";
/// Of the password, by bcrypt.
const USERS: &str = "bob:$2y$05$abcdefghijklmnopqrstuuHNzobToyoUx/XDeHA.0qHXOcixZPlSm\n";

macro_rules! cases {
    ($($case:ident,)*) => {
        mod docker { $(#[tokio::test(flavor = "multi_thread")] #[ignore = "make test-full: an engine and a registry"] async fn $case() { super::$case(super::Kind::Docker).await; })* }
        mod crun { $(#[tokio::test(flavor = "multi_thread")] #[ignore = "make test-full: a registry"] async fn $case() { super::$case(super::Kind::Crun).await; })* }
    };
}

cases! {
    a_registry_that_asks_who_we_are_is_told_and_no_other_gets_the_password,
    a_pinned_digest_is_what_runs_or_nothing_does,
    what_passes_is_tried_again_and_what_does_not_ends_at_once,
    a_cancel_during_a_pull_ends_it,
    what_cannot_fit_is_refused_before_it_is_there,
}

/// The registry behind the proxy, with the image of the tests in it.
struct Registry {
    process: Child,
    proxy: Proxy,
    /// Its own address.
    upstream: String,
    /// Of the proxy.
    address: String,
    /// Of the image's manifest.
    digest: String,
    /// Of its layer.
    layer: String,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (upstream, address) = (free(), free());
        fs::write(dir.path().join("users"), USERS).unwrap();
        let config = serde_json::json!({"version": "0.1", "log": {"level": "warn"}, "http": {"addr": upstream},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("storage")}},
            "auth": {"htpasswd": {"realm": "test", "path": dir.path().join("users")}}});
        let path = dir.path().join("registry.yaml");
        fs::write(&path, config.to_string()).unwrap();
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        let process = registry.spawn().unwrap();
        // Large enough for the proxy's mistakes, hard to compress, and new each time: an engine fetches no layer twice.
        let mut state = SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let noise: Vec<u8> = noise.take(2 << 20).collect();
        let images = dir.path().join("images");
        layout::add_with(&images, &format!("docker.io/{NAME}:1"), "{}", &noise);
        fs::write(images.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let digest = dir.path().join("digest");
        let copied = || {
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--dest-creds"]);
            skopeo.arg(format!("bob:{PASSWORD}")).arg("--digestfile").arg(&digest);
            skopeo.arg(format!("oci:{}:docker.io/{NAME}:1", images.display()));
            skopeo.arg(format!("docker://{upstream}/{NAME}:1")).output().unwrap()
        };
        let mut output = copied();
        for _ in 0..300 {
            if output.status.success() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            output = copied();
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let digest = fs::read_to_string(digest).unwrap().trim().to_owned();
        let manifest = manifest(dir.path(), &digest);
        let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
        let proxy = Proxy::start(std::process::id(), &address, &upstream);
        Self { process, proxy, upstream, address, digest, layer, dir }
    }

    /// Puts another manifest under the name, whose layer is larger than any memory.
    fn says_a_terabyte(&self) {
        let mut manifest = manifest(self.dir.path(), &self.digest);
        manifest["layers"][0]["size"] = (1_u64 << 40).into();
        let file = self.dir.path().join("manifest.json");
        fs::write(&file, manifest.to_string()).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["-sf", "-X", "PUT", "-u", &format!("bob:{PASSWORD}"), "-H"]);
        curl.arg("Content-Type: application/vnd.oci.image.manifest.v1+json");
        curl.arg("--data-binary").arg(format!("@{}", file.display()));
        let url = format!("http://{}/v2/{NAME}/manifests/1", self.upstream);
        assert!(curl.arg(url).status().unwrap().success());
    }

    fn image(&self) -> String {
        format!("{}/{NAME}", self.address)
    }

    /// An agent that knows this registry's user.
    fn known(&self, kind: Kind, more: &[&str]) -> Option<Lab> {
        self.lab(kind, &self.address, more)
    }

    /// An agent that knows the user of the registry of this name.
    fn lab(&self, kind: Kind, registry: &str, more: &[&str]) -> Option<Lab> {
        let plain = format!("--insecure-registries={}", self.address);
        let name = format!("--registry-name={registry}");
        let arguments = [&[plain.as_str(), name.as_str(), "--registry-username=bob"], more].concat();
        Lab::start_in(kind, &arguments, &[("REGISTRY_PASSWORD", PASSWORD)])
    }

    fn manifests(&self) -> usize {
        self.proxy.requests().iter().filter(|line| line.contains("/manifests/")).count()
    }
}

/// As the registry stores it.
fn manifest(dir: &std::path::Path, digest: &str) -> serde_json::Value {
    let hex = digest.trim_start_matches("sha256:");
    let blobs = dir.join("storage/docker/registry/v2/blobs/sha256");
    serde_json::from_slice(&fs::read(blobs.join(&hex[..2]).join(hex).join("data")).unwrap()).unwrap()
}

fn action(image: &str) -> WorkflowAction {
    WorkflowAction { image: image.to_owned(), ..sh("echo it runs") }
}

async fn a_registry_that_asks_who_we_are_is_told_and_no_other_gets_the_password(kind: Kind) {
    if !lab::can(kind) {
        return;
    }
    let registry = Registry::start().await;
    for other in ["registry.example", "127.0.0.1", "127.0.0.1:5000"] {
        let lab = registry.lab(kind, other, &[]).unwrap();
        let end = lab.run("ns/unknown", action(&format!("{}:1", registry.image()))).await;
        assert!(end.0 == State::Failed && end.1.starts_with("image_not_found: "), "{end:?}");
        assert_eq!(registry.proxy.authorized(), 0, "the password of {other} went to {}", registry.address);
    }
    let lab = registry.known(kind, &[]).unwrap();
    let end = lab.run("ns/known", action(&format!("{}:1", registry.image()))).await;
    assert_eq!(end.0, State::Success, "{}", end.1);
    assert!(registry.proxy.authorized() > 0);
    let progress = lab.server.seen().progress;
    assert!(progress.iter().any(|it| it.message.starts_with("pulling ") && it.total > 2 << 20), "{progress:?}");
}

async fn a_pinned_digest_is_what_runs_or_nothing_does(kind: Kind) {
    if !lab::can(kind) {
        return;
    }
    let registry = Registry::start().await;
    let lab = registry.known(kind, &[]).unwrap();
    let other = format!("sha256:{}", "0".repeat(64));
    let end = lab.run("ns/other", action(&format!("{}@{other}", registry.image()))).await;
    assert!(end.0 == State::Failed && end.1.starts_with("image_not_found: "), "{end:?}");
    // With a tag before it, as people copy it; the digest counts.
    let end = lab.run("ns/pinned", action(&format!("{}:1@{}", registry.image(), registry.digest))).await;
    assert_eq!(end.0, State::Success, "{}", end.1);
    let asked = registry.proxy.requests();
    assert!(asked.iter().any(|line| line.contains(&format!("/manifests/{}", registry.digest))), "{asked:?}");
}

async fn what_passes_is_tried_again_and_what_does_not_ends_at_once(kind: Kind) {
    if !lab::can(kind) {
        return;
    }
    let registry = Registry::start().await;
    let lab = registry.known(kind, &[]).unwrap();
    for (workflow, image) in
        [("ns/absent", format!("{}:none", registry.image())), ("ns/nobody", format!("{}/no/such:1", registry.address))]
    {
        let before = registry.manifests();
        let begun = Instant::now();
        let end = lab.run(workflow, action(&image)).await;
        assert!(end.0 == State::Failed && end.1.starts_with("image_not_found: "), "{end:?}");
        let asked = registry.manifests() - before;
        // Engines ask by HEAD and by GET, with and without a name.
        assert!(asked <= 6, "{workflow}: asked {asked} times within {:?}", begun.elapsed());
    }
    let image = format!("{}:1", registry.image());
    registry.proxy.fail(Fault::Status(503, "UNAVAILABLE"), 3);
    let end = lab.run("ns/busy", action(&image)).await;
    assert_eq!((end.0, registry.proxy.made()), (State::Success, 3), "{}", end.1);
}

async fn a_cancel_during_a_pull_ends_it(kind: Kind) {
    if !lab::can(kind) {
        return;
    }
    let registry = Registry::start().await;
    let lab = registry.known(kind, &[]).unwrap();
    registry.proxy.fail(Fault::Endless, 99);
    lab.server.add("ns/endless", vec![action(&format!("{}:1", registry.image()))]);
    lab::until("the pull", || registry.proxy.made() > 0).await;
    lab.server.wait("its progress", |seen| seen.progress.iter().any(|it| it.message.starts_with("pulling "))).await;
    let begun = Instant::now();
    lab.server.cancel("by the operator");
    let seen = lab.server.wait("its end", |seen| seen.end("ns/endless").is_some()).await;
    let end = seen.end("ns/endless").unwrap();
    assert_eq!(end.message, "cancelled: it was not started: by the operator");
    eprintln!("{kind:?}: the pull ended {:?} after the cancel", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// The engine says how large a layer is when it comes; a manifest says it before.
async fn what_cannot_fit_is_refused_before_it_is_there(kind: Kind) {
    if !lab::can(kind) {
        return;
    }
    let registry = Registry::start().await;
    if kind == Kind::Docker {
        registry.proxy.fail(Fault::Endless, 99);
    } else {
        registry.says_a_terabyte();
    }
    let run = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = format!("--run-dir={}", run.path().display());
    let lab = registry.known(kind, &["--images-in-memory", &place]).unwrap();
    let end = lab.run("ns/large", action(&format!("{}:1", registry.image()))).await;
    assert!(end.0 == State::Failed && end.1.starts_with("insufficient_memory: image "), "{end:?}");
    assert!(kind == Kind::Docker || !registry.proxy.requests().iter().any(|line| line.contains(&registry.layer)));
}
