//! `--pull`: images come from a registry (Debian's docker-registry) into the cache, by tag or digest, only when asked.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use common::{GZIP, IMAGE, Site, TAR, layer};
use tar::EntryType::Regular;
use tempfile::TempDir;

/// `htpasswd -Bbn me hunter2`.
const USERS: &str = "me:$2y$05$fAMlDk/5c1tOclia5dbJl.H/gPe19h039YgBOwPdO3OEIrUwkNRv6\n";

struct Registry {
    process: Child,
    host: String,
    _directory: TempDir,
}

impl Registry {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().display();
        let config = format!(
            "version: 0.1\nlog: {{formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {dir}/data}}}}\n\
             http: {{addr: \"127.0.0.1:0\"}}\nauth: {{htpasswd: {{realm: lab, path: {dir}/users}}}}\n"
        );
        fs::write(directory.path().join("config.yml"), config).unwrap();
        fs::write(directory.path().join("users"), USERS).unwrap();
        let mut command = Command::new("docker-registry");
        command.args(["serve", "config.yml"]).current_dir(directory.path());
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("make deps");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.by_ref().find(|line| line.contains("listening on ")).expect("docker-registry ended");
        let host = line.split("listening on ").nth(1).unwrap().split(['"', ',']).next().unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host, _directory: directory }
    }

    /// Copies an image of a site's cache to the registry; returns its digest there.
    fn push(&self, site: &Site, reference: &str, name: &str) -> String {
        let from = format!("oci:{}:{reference}", site.path().join("out/cache/oci").display());
        let digest = site.path().join("digest");
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds=me:hunter2"])
            .arg("--digestfile")
            .arg(&digest)
            .arg(from)
            .arg(format!("docker://{}/{name}", self.host))
            .output()
            .expect("skopeo; make deps installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(digest).unwrap().trim().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn images_come_from_a_registry_only_when_asked_and_are_kept() {
    let (registry, site) = (Registry::start(), Site::ready());
    site.image("docker.io/test/pushed:1", &[(TAR, &layer(&[("x", Regular, "first")]))]);
    registry.push(&site, "docker.io/test/pushed:1", "test/far:1");
    let far = format!("{}/test/far:1", registry.host);
    site.write(
        "image.yaml",
        &IMAGE.replace(
            "onboot: [{name: step, image: test/step:1}]",
            &format!("onboot: [{{name: far, image: \"{far}\"}}]"),
        ),
    );
    site.write("auth.json", &format!("{{\"auths\": {{\"{}\": {{\"auth\": \"bWU6aHVudGVyMg==\"}}}}}}", registry.host));
    let error = site.fail(&["build", "image.yaml"]);
    assert!(error.contains(&format!("holds no image `{far}`")) && error.contains("`--pull` fetches"), "{error}");

    let pull = ["build", "image.yaml", "--pull", "--insecure-registry", &registry.host];
    let error = site.fail(&[&pull[..], &["--authfile", "/dev/null"]].concat());
    assert!(error.contains("cannot read registry credentials from /dev/null"), "{error}");
    site.write("none.json", "{\"auths\": {}}");
    let error = site.fail(&[&pull[..], &["--authfile", "none.json"]].concat());
    assert!(error.contains("no credentials for it were given"), "{error}");
    assert!(site.output("out").is_empty());

    let with = [&pull[..], &["--authfile", "auth.json"]].concat();
    let told = site.succeed(&with);
    assert!(told.contains(&format!("pulled {far}\n")), "{told}");
    assert!(!site.succeed(&with).contains("pulled"), "what is there and unchanged is not fetched again");
    let unpacked = zstd::decode_all(&site.initramfs("out")[..]).unwrap();
    let step = |unpacked: &[u8]| {
        let entries = common::entries(unpacked);
        entries.into_iter().find(|entry| entry.0 == "containers/onboot/000-far/lower/x").unwrap().1
    };
    assert_eq!(step(&unpacked), b"first");

    // The tag moves: only --pull notices.
    let packed = {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&layer(&[("x", Regular, "second")])).unwrap();
        encoder.finish().unwrap()
    };
    site.image("docker.io/test/pushed:1", &[(GZIP, &packed)]);
    let digest = registry.push(&site, "docker.io/test/pushed:1", "test/far:1");
    site.succeed(&["build", "image.yaml"]);
    assert_eq!(step(&zstd::decode_all(&site.initramfs("out")[..]).unwrap()), b"first");
    assert!(site.succeed(&with).contains("pulled"));
    assert_eq!(step(&zstd::decode_all(&site.initramfs("out")[..]).unwrap()), b"second");

    // By digest, from an empty entry: the cache keeps it, also when the registry is gone and components are made again.
    let yaml = fs::read_to_string(site.path().join("image.yaml")).unwrap();
    site.write("image.yaml", &yaml.replace(&far, &format!("{}/test/far@{digest}", registry.host)));
    assert!(site.succeed(&with).contains(&digest));
    drop(registry);
    site.components();
    site.succeed(&["build", "image.yaml"]);
}
