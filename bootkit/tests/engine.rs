//! `bootkit engine` and `bootkit worker` with the real dockerd and Debian's registry, on a machine without hardware:
//! where images come from, what a registry may do wrong, what a worker image is given, and what nobody gets to see.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod lab;
mod site;

use std::fs;

use lab::{Running, eventually};
use site::proxy::{Fault, Proxy};
use site::{FAULTY, NAME, PASSWORD, REGISTRY, Registry, Site, USER};

const GRPC: &str = "grpc_authority=10.77.0.1:42113 tinkerbell_tls=false";
const RUNS: &str = "ironhook: worker: container tink-worker runs";
const PULLED: &str = "ironhook: worker: pulled ";

/// A worker that is wanted from a registry, on a site whose network is up.
fn worker(site: &Site) -> Running {
    site.lease();
    site.lab.bootkit(&["worker"])
}

/// Its last words: the code and the sentence.
fn failed(worker: Running) -> String {
    let line = worker.expect("ironhook: worker failed [");
    let (status, _) = worker.end();
    assert_eq!(status.code(), Some(1), "{line}");
    line
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn a_worker_image_runs_exactly_as_hook_runs_it_and_is_watched_for_ever() {
    let line = format!(
        "{GRPC} docker_registry={REGISTRY} tink_worker_image={REGISTRY}/{NAME} insecure_registries={REGISTRY} registry_username=bob worker_id=w1"
    );
    if !site::all_capabilities("a_worker_image_runs_exactly_as_hook_runs_it") {
        return;
    }
    let Some(mut site) = Site::new("a_worker_image_runs_exactly_as_hook_runs_it", &line) else { return };
    site.registry(&Registry::default());
    site.engine();
    let running = worker(&site);
    running.expect(RUNS);
    eventually("the worker has said what it was given", || {
        site.lab.path("/worker/caps").exists() && site.lab.text("/worker/caps").lines().count() == 3
    });

    // Wire reference §2, newest era: every variable always present, possibly empty.
    let mut env: Vec<String> = site.lab.text("/worker/env").lines().map(str::to_owned).collect();
    env.retain(|variable| {
        !["PATH=", "HOSTNAME=", "HOME=", "PWD=", "SHLVL=", "_="].iter().any(|own| variable.starts_with(own))
    });
    env.sort();
    assert_eq!(
        env,
        [
            format!("DOCKER_REGISTRY={REGISTRY}"),
            "HTTPS_PROXY=".into(),
            "HTTP_PROXY=".into(),
            "ID=w1".into(),
            "NO_PROXY=".into(),
            "REGISTRY_PASSWORD=".into(),
            "REGISTRY_USERNAME=bob".into(),
            "TINKERBELL_GRPC_AUTHORITY=10.77.0.1:42113".into(),
            "TINKERBELL_INSECURE_TLS=".into(),
            "TINKERBELL_TLS=false".into(),
            "WORKER_ID=w1".into(),
        ]
    );
    let mounts = site.lab.text("/worker/mounts");
    for point in ["/worker", "/dev", "/run"] {
        assert!(mounts.lines().any(|mount| mount.split(' ').nth(4) == Some(point)), "{point} in:\n{mounts}");
    }
    let said = site.lab.text("/worker/caps");
    assert!(said.contains("socket"), "the engine's socket is not there: {said}");
    let caps = said.split_whitespace().nth(1).map(|hex| u64::from_str_radix(hex, 16).unwrap()).unwrap();
    assert!(caps.count_ones() >= 37, "not privileged: {said}");
    let found = site.inspect("tink-worker");
    let host = &found["HostConfig"];
    assert_eq!((&host["NetworkMode"], &host["Privileged"]), (&"host".into(), &true.into()));
    assert_eq!((&host["PidMode"], &host["RestartPolicy"]["Name"]), (&"".into(), &"no".into()));
    assert_eq!(host["Binds"].as_array().unwrap().len(), 4, "{host}");
    assert_eq!((&found["Config"]["AttachStdout"], &found["Config"]["AttachStderr"]), (&true.into(), &true.into()));

    // The engine is started again below it; then it ends by itself, and is told and started again.
    let id = found["Id"].clone();
    site.engine.take().unwrap().terminate();
    running.expect("ironhook: worker: cannot talk to the engine");
    site.lab.machine_does("umount /run/docker/docker.sock");
    site.engine();
    eventually("the same container still runs", || {
        site.inspect("tink-worker")["Id"] == id && site.inspect("tink-worker")["State"]["Running"] == true
    });
    fs::write(site.lab.path("/worker/end"), "").unwrap();
    let told = running.until("  last words").join("\n");
    assert!(
        told.contains("worker failed [worker_ended]: container tink-worker ended with status 7; its last lines were:"),
        "{told}"
    );
    fs::remove_file(site.lab.path("/worker/end")).unwrap();
    running.expect(RUNS);

    // A watcher that was killed finds it again.
    let id = site.inspect("tink-worker")["Id"].clone();
    drop(running);
    let again = site.lab.bootkit(&["worker"]);
    again.expect("container tink-worker is already running");
    again.expect(RUNS);
    assert_eq!(site.inspect("tink-worker")["Id"], id);
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn every_fault_of_a_registry_is_retried_or_ended_by_its_cause_in_one_line() {
    let line = format!("{GRPC} tink_worker_image={FAULTY}/{NAME} insecure_registries={FAULTY}");
    let Some(mut site) = Site::new("every_fault_of_a_registry_is_retried_or_ended", &line) else { return };
    site.registry(&Registry::default());
    let proxy = Proxy::start(site.lab.outside_pid(), FAULTY, REGISTRY);
    site.engine();
    // Fault, how often, the code on the console, and whether it is tried until it is well.
    for (name, fault, times, code, mends) in [
        ("401", Fault::Status(401, "UNAUTHORIZED"), 99, "registry_auth", false),
        ("403", Fault::Status(403, "DENIED"), 99, "registry_auth", false),
        ("404", Fault::Status(404, "MANIFEST_UNKNOWN"), 99, "image_not_found", false),
        ("429", Fault::Status(429, "TOOMANYREQUESTS"), 3, "registry", true),
        ("500", Fault::Status(500, "UNKNOWN"), 6, "registry", true),
        ("503", Fault::Status(503, "UNAVAILABLE"), 6, "registry", true),
        // The engine itself asks three times for a manifest at once, and five times for a layer in a minute.
        ("reset", Fault::Reset, 2, "registry", true),
        ("truncated", Fault::Truncated, 2, "registry", true),
        ("wrong digest", Fault::Flipped, 99, "digest_mismatch", false),
    ] {
        site.forget();
        proxy.fail(fault, times);
        let running = worker(&site);
        if mends {
            let said = running.until(&format!("ironhook: worker: pulled {FAULTY}/{NAME}")).join("\n");
            // A layer that broke off is taken up again by the engine itself, sometimes without a word.
            let waited = said.contains("worker: waiting for image") && said.contains(&format!("[{code}] "));
            assert!(waited || !matches!(fault, Fault::Status(..)), "{name}: {said}");
        } else {
            let line = failed(running);
            assert!(line.contains(&format!("worker failed [{code}]: cannot pull {FAULTY}/{NAME}: ")), "{name}: {line}");
        }
        assert!(proxy.made() > 0, "{name} never happened");
        eprintln!("{name}: as it should be after {} faults", proxy.made());
    }
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn a_private_authority_is_believed_when_the_site_names_it_and_refused_otherwise() {
    let line = format!("{GRPC} tink_worker_image={REGISTRY}/{NAME}");
    let Some(mut site) = Site::new("a_private_authority_is_believed_when_the_site_names_it", &line) else { return };
    site.registry(&Registry { tls: true, ..Registry::default() });
    site.engine();
    assert!(failed(worker(&site)).contains("[tls_unknown_ca]"));
    site.engine.take().unwrap().terminate();
    site.lab.machine_does("umount /run/docker/docker.sock");
    fs::copy(site.dir.path().join("ca.pem"), site.lab.path("/etc/ironhook/ca.pem")).unwrap();
    site.engine();
    worker(&site).expect(PULLED);
    assert!(site.lab.text("/run/ironhook/authorities.pem").contains("BEGIN CERTIFICATE"));
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn a_registry_with_a_password_gives_to_its_user_only() {
    let line = format!(
        "{GRPC} tink_worker_image={REGISTRY}/{NAME} docker_registry={REGISTRY} insecure_registries={REGISTRY} registry_username={USER} registry_password={PASSWORD}"
    );
    let Some(mut site) = Site::new("a_registry_with_a_password_gives_to_its_user_only", &line) else { return };
    site.registry(&Registry { password: true, ..Registry::default() });
    site.engine();
    worker(&site).expect(PULLED);
    site.forget();
    fs::write(site.lab.path("/run/cmdline"), line.replace(PASSWORD, "wrong")).unwrap();
    let told = failed(worker(&site));
    assert!(told.contains("[registry_auth]") && !told.contains("wrong"), "{told}");
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn a_proxy_can_be_the_only_way_out() {
    // No machine of the site has this name: only the proxy finds the registry.
    let line = format!(
        "{GRPC} tink_worker_image=registry.test:5000/{NAME} insecure_registries=registry.test:5000 HTTP_PROXY=http://{FAULTY}"
    );
    let Some(mut site) = Site::new("a_proxy_can_be_the_only_way_out", &line) else { return };
    site.registry(&Registry::default());
    let proxy = Proxy::start(site.lab.outside_pid(), FAULTY, REGISTRY);
    site.engine();
    worker(&site).expect(PULLED);
    let asked = proxy.requests();
    assert!(asked.iter().any(|line| line.contains("http://registry.test:5000/v2/")), "{asked:?}");
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn images_of_a_site_bundle_are_there_without_a_registry_under_their_own_names() {
    let line = format!("{GRPC} tink_worker_image={REGISTRY}/{NAME} insecure_registries={REGISTRY}");
    let Some(mut site) = Site::new("images_of_a_site_bundle_are_there_without_a_registry", &line) else { return };
    let layout = site.layout();
    site.lab.machine_does(&format!("cp -r {} /etc/ironhook/images", layout.display()));
    let running = worker(&site);
    running.expect("waiting for the engine to have the images of /etc/ironhook/images");
    site.engine();
    running.expect("cannot be pulled, so the engine's own copy is used");
    assert!(site.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).contains(&format!("{REGISTRY}/{NAME}")));
    // An engine that is started again has them still, and does not load them a second time.
    let engine = site.engine.take().unwrap();
    engine.terminate();
    let (_, output) = engine.end();
    assert!(output.contains("1 images of /etc/ironhook/images are in the engine"), "{output}");
    site.lab.machine_does("umount /run/docker/docker.sock");
    site.engine();
    eventually("they are said to be there", || site.lab.path("/run/ironhook/images.ready").exists());
    let engine = site.engine.take().unwrap();
    engine.terminate();
    let (_, output) = engine.end();
    assert!(!output.contains("are in the engine"), "{output}");
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn an_image_that_does_not_fit_into_memory_is_refused_before_it_is_pulled() {
    let line = format!("{GRPC} tink_worker_image={FAULTY}/{NAME} insecure_registries={FAULTY}");
    let Some(mut site) = Site::new("an_image_that_does_not_fit_into_memory", &line) else { return };
    site.registry(&Registry::default());
    let proxy = Proxy::start(site.lab.outside_pid(), FAULTY, REGISTRY);
    site.engine();
    fs::write(site.lab.path("/run/meminfo"), "MemTotal: 20480 kB\nMemAvailable: 10240 kB\n").unwrap();
    site.lab.machine_does("mount --bind /run/meminfo /proc/meminfo");
    let told = failed(worker(&site));
    assert!(told.contains("[insufficient_memory]") && told.contains("10 MiB are free"), "{told}");
    let layers = |line: &String| line.contains("/blobs/") && !line.contains("HEAD");
    assert!(proxy.requests().iter().filter(|line| layers(line)).count() <= 1, "{:?}", proxy.requests());
}

#[test]
#[ignore = "make test-full: starts a container engine"]
fn logs_of_containers_reach_syslog_to_their_last_line_and_stay_readable() {
    let line = format!("{GRPC} syslog_host={} syslog_port=5514", site::HOST);
    let Some(mut site) = Site::new("logs_of_containers_reach_syslog_to_their_last_line", &line) else { return };
    let layout = site.layout();
    site.lab.machine_does(&format!("cp -r {} /etc/ironhook/images", layout.display()));
    let receiver = site.syslog("10.77.0.1:5514");
    site.engine();
    eventually("the image is there", || site.lab.path("/run/ironhook/images.ready").exists());
    let script = "i=0; while test $i -lt 200; do i=$((i+1)); echo line-$i; done; exit 3";
    let said = site.docker(&[
        "run",
        "--name",
        "talker",
        "--network",
        "none",
        &format!("{REGISTRY}/{NAME}"),
        "/bin/sh",
        "-c",
        script,
    ]);
    assert!(said.contains("line-200"), "{said}");
    eventually("the last line is at the receiver", || {
        receiver.lock().unwrap().iter().any(|line| line.ends_with("line-200"))
    });
    let kept = receiver.lock().unwrap().iter().filter(|line| line.contains(" talker ")).count();
    assert_eq!(kept, 200);
    let here = site.docker(&["logs", "talker"]);
    assert!(here.lines().count() == 200 && here.trim_end().ends_with("line-200"), "{here}");
    site.docker(&["rm", "talker"]);
}
