//! From a command line to a worker on a whole machine with the image that ships: where the worker comes from, what a site
//! may do wrong, and the words that a person then sees.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod story;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use e2e::direct::{Build, Machine, SERIAL};
use e2e::httpd;
use e2e::wait::{self, TimedOut};
use story::{BOOT, CONSOLE, DONE, GRPC, HOST, MAC, NAME, SECRET, Story, USER, all, answer, relay, sees, syslog};

/// A service that shows what runs on the machine, once the worker has been there.
const WATCHER: &str = r#"
  - name: watcher
    image: docker.io/ironhook/busybox:dev
    command:
      - /bin/sh
      - -c
      - >-
        until test -e /run/worker/ended; do sleep 1; done;
        for one in /proc/[0-9]*/cmdline; do echo "seen: $(tr '\000' ' ' <$one)"; done;
        echo "seen: that is all"; sleep 36000
    pid: host
    binds: ["/run:/run"]
    annotations: {dev.ironhook.console: "true"}
files:
"#;

#[test]
#[ignore = "make test-full: a machine"]
fn a_worker_comes_from_an_insecure_registry_with_a_password_that_is_ill_for_a_minute_and_is_given_what_hook_gives() {
    let mut story = Story::new("worker");
    let registry = story.registry(false, true);
    let (relay, asked) = relay(registry, Duration::from_secs(60));
    // The password stands in metadata only.
    let keys = story.file("credentials", format!("registry_username={USER}\nregistry_password={SECRET}\n"));
    let server =
        story.server(&format!("credentials: {}\nkernelArgs: \"docker_registry=registry.test\"\n", keys.display()));
    let (log_port, log) = syslog();
    let own = format!("{HOST}:{}", relay.port());
    let line = format!(
        "{GRPC} docker_registry={own} tink_worker_image={own}/{NAME} insecure_registries={own} ironhook.metadata=http://{HOST}:{} \
         syslog_host={HOST} syslog_port={log_port}",
        server.address("metadata").port()
    );
    let machine = story.boot_with(&line, &[("\nfiles:\n", WATCHER)]);
    let ill = sees(&machine, "worker: waiting for image");
    assert!(ill.contains("[registry]") && ill.contains("500"), "{ill}");
    sees(&machine, &format!("ironhook: worker: pulled {own}/{NAME}"));
    sees(&machine, DONE);
    // It ends, which is told, and it is started again.
    sees(&machine, "worker failed [worker_ended]: container tink-worker ended with status 7; its last lines were:");
    sees(&machine, "standin: last words");
    sees(&machine, "standin: here again");
    sees(&machine, "seen: that is all");
    let said = all(&machine);
    let has = |text: &str| said.iter().any(|line| line.contains(text));
    for variable in [
        &format!("DOCKER_REGISTRY={own}"),
        "REGISTRY_USERNAME=bob",
        "TINKERBELL_GRPC_AUTHORITY=10.0.2.2:9",
        "TINKERBELL_TLS=false",
        "TINKERBELL_INSECURE_TLS=",
        "WORKER_ID=w1",
        "ID=w1",
        "HTTP_PROXY=",
        "HTTPS_PROXY=",
        "NO_PROXY=",
    ] {
        assert!(said.iter().any(|line| line.ends_with(&format!("standin: env {variable}"))), "{variable} in {said:#?}");
    }
    for mount in ["/worker", "/dev", "/run"] {
        assert!(said.iter().any(|line| line.ends_with(&format!("standin: mount {mount}"))), "{mount} in {said:#?}");
    }
    for fact in ["the engine's socket", "the machine's /run", "the machine's /dev", "REGISTRY_PASSWORD has 14 letters"]
    {
        assert!(has(&format!("standin: {fact}")), "{fact} in {said:#?}");
    }
    // Privileged: every capability there is.
    let caps = said.iter().find_map(|line| line.split_once("standin: caps ")).unwrap().1.trim().to_owned();
    assert!(u64::from_str_radix(&caps, 16).unwrap().count_ones() >= 40, "{caps}");
    assert!(has("standin: secret on the command line 0 times, in dmesg 0 times"), "{said:#?}");
    // The watcher has put the command line of every program of the machine there.
    for program in ["/usr/sbin/dockerd", "/usr/bin/bootkit worker"] {
        assert!(has(&format!("seen: {program}")), "{program} in {said:#?}");
    }
    assert!(!has(SECRET), "the secret is on the console");
    assert!(asked.lock().unwrap().iter().all(|line| !line.contains(SECRET)));
    // Neither is it where others would see it: what containers say, what the server says, what boots the machine.
    wait::until("the worker's words in syslog", BOOT, || {
        let there = log.lock().unwrap().iter().any(|line| line.contains("tink-worker") && line.ends_with("in syslog"));
        Ok::<_, TimedOut>(there.then_some(()))
    })
    .unwrap();
    assert!(!log.lock().unwrap().join("\n").contains(SECRET), "the secret is in syslog");
    server.cli(&["apply", "-f", workflow(&story, "none").to_str().unwrap()]);
    let script = server.get(&format!("/ipxe/script/{MAC}/auto.ipxe"));
    assert!(script.contains("docker_registry=registry.test") && !script.contains(SECRET), "{script}");
    let server_log = fs::read_to_string(&server.log).unwrap();
    assert!(server_log.contains("listening") && !server_log.contains(SECRET), "{server_log}");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_registry_with_a_private_authority_is_believed_because_of_the_site_bundle() {
    let mut story = Story::new("authority");
    let registry = story.registry(true, false);
    let own = format!("{HOST}:{}", registry.port());
    story.bring("etc/ironhook/ca.pem", fs::read(story.dir.path().join("ca.pem")).unwrap());
    // Everything else is in the bundle too: the command line says nothing.
    story.bring(
        "etc/ironhook/site.conf",
        format!("grpc_authority=10.0.2.2:9\ntinkerbell_tls=false\ntink_worker_image={own}/{NAME}\n"),
    );
    let machine = story.boot("");
    sees(&machine, "command line: with the keys of /etc/ironhook/site.conf");
    sees(&machine, &format!("ironhook: worker: pulled {own}/{NAME}"));
    sees(&machine, DONE);
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_proxy_is_the_only_way_to_the_registry() {
    let mut story = Story::new("proxy");
    let registry = story.registry(false, false);
    let (proxy, asked) = relay(registry, Duration::ZERO);
    // Nobody but the proxy finds a host of this name.
    let machine = story.boot(&format!(
        "{GRPC} tink_worker_image=registry.test/{NAME} insecure_registries=registry.test HTTP_PROXY=http://{HOST}:{0} HTTPS_PROXY=http://{HOST}:{0}",
        proxy.port()
    ));
    sees(&machine, DONE);
    let asked = asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.starts_with("GET http://registry.test/v2/")), "{asked:?}");
}

#[test]
#[ignore = "make test-full: a machine"]
fn without_a_registry_the_images_of_the_bundle_are_there() {
    let story = Story::new("embedded");
    let name = "registry.invalid/site/worker:1";
    let images = story.dir.path().join("bundle/etc/ironhook/images");
    fs::create_dir_all(images.parent().unwrap()).unwrap();
    story.copy("standin", &format!("oci:{}:{name}", images.display()));
    let machine = story.boot(&format!("{GRPC} tink_worker_image={name}"));
    sees(&machine, "1 images of /etc/ironhook/images are in the engine");
    sees(&machine, &format!("{name} cannot be pulled, so the engine's own copy is used"));
    sees(&machine, DONE);
}

#[test]
#[ignore = "make test-full: a machine"]
fn an_image_without_its_engine_says_so_and_the_server_gets_the_report() {
    let story = Story::new("no-engine");
    let server = story.server("");
    let machine = story.boot_with(
        &format!("{GRPC} registry_password={SECRET} ironhook.server=http://{HOST}:{}", server.address("http").port()),
        &[("    image: docker.io/ironhook/docker:dev\n", "    image: docker.io/ironhook/docker:dev\n    command: [/usr/bin/bootkit, engine, --dockerd, /nowhere/dockerd]\n")],
    );
    sees(&machine, "engine failed [engine_missing]: no dockerd at /nowhere/dockerd");
    sees(&machine, "engine: what helps: the image is incomplete");
    sees(&machine, "ironhook: report: sent to ");
    let summary = server.cli(&["report", "m1"]);
    assert!(
        summary.contains("engine failed [engine_missing]") && summary.contains("What helps: the image"),
        "{summary}"
    );
    // A file of each kind, with what only this machine can have said.
    for (file, text) in [
        ("boot.log", "Linux version "),
        ("config.txt", "registry_password=***"),
        ("links.json", "virtio_net"),
        ("lease.json", "10.0.2.15"),
        ("devices.json", "{"),
        ("memory.txt", "MemAvailable"),
        ("mounts.txt", "/proc"),
        ("timeline.jsonl", "network"),
        ("logs/docker.log", "no dockerd at /nowhere/dockerd"),
    ] {
        let shown = server.cli(&["report", "m1", "--show", file]);
        assert!(shown.contains(text), "{file} without {text}:\n{shown}");
        assert!(!shown.contains(SECRET), "the secret is in {file}");
    }
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_server_that_is_away_for_three_minutes_is_waited_for() {
    let story = Story::new("away");
    // Taken and given back: nobody listens there until the server does.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let machine = story.boot(&format!("grpc_authority={HOST}:{port} tinkerbell_tls=false worker_id=w1"));
    sees(&machine, "ironhook: network ");
    std::thread::sleep(Duration::from_secs(180));
    assert!(!all(&machine).iter().any(|line| line.contains("agent ready")));
    let _server = story.server(&format!("grpc: {{listen: 127.0.0.1:{port}}}\n"));
    sees(&machine, "ironhook: agent ready (worker w1, server 10.0.2.2:");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_bare_key_is_named_and_ends_the_boot() {
    let machine = Story::new("bare").boot("grpc_authority=10.0.2.2:9 tinkerbell_tls worker_id=w1");
    sees(&machine, "command line: ERROR: tinkerbell_tls: given without a value, expected tinkerbell_tls=true or false");
    sees(&machine, "cmdline failed [bad_config]");
    sees(&machine, "starting again in 3 s");
}

/// iPXE is the loader here, QEMU's own: it gives the kernel no more than its header allows, 2047 bytes, newer ones 2046.
/// (What gives it more, as QEMU's `-append` does, does not get it started at all.)
#[test]
#[ignore = "make test-full: a machine"]
fn four_kilobytes_of_command_line_end_the_boot_and_a_file_takes_them() {
    let hosts: Vec<String> = (0..300).map(|n| format!("host-{n:03}.test")).collect();
    let long = format!("NO_PROXY={}", hosts.join(","));
    assert!(long.len() > 4000);
    let story = Story::new("long");
    // The first step of the image that ships is all there is to see.
    let files = story.first_step();
    let from = files.clone();
    let http = httpd::serve(Ipv4Addr::LOCALHOST, move |request, client| {
        let mut file = fs::File::open(from.join(request.path.trim_start_matches('/')))?;
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.metadata()?.len())?;
        io::copy(&mut file, client).map(drop)
    });
    let base = format!("http://{HOST}:{}", http.unwrap().port());
    let line = format!("{CONSOLE} ironhook.worker=image {long} {GRPC} tink_worker_image=registry.test/{NAME}");
    let script = format!(
        "#!ipxe\nkernel {base}/vmlinuz-x86_64 initrd=initramfs-x86_64 {line}\ninitrd {base}/initramfs-x86_64\nboot\n"
    );
    let script = story.file("tftp/boot.ipxe", script);
    let card = format!("user,id=net0,tftp={},bootfile=boot.ipxe", script.parent().unwrap().display());
    let qemu = [&SERIAL[..], &["-netdev", &card, "-device", "virtio-net-pci,netdev=net0"]].concat();
    let build = Build { name: "bootkit-long", yaml: &[], append: "", memory_mib: 1024, qemu: &qemu };
    let machine = Machine::netboot(&build, &files).unwrap_or_else(|e| panic!("{e:?}"));
    let told = sees(&machine, "loader and kernel keep 2046 or one more and have cut the rest off");
    assert!(told.contains("ERROR: 204") && told.contains("ironhook.config=<url>"), "{told}");
    sees(&machine, "cmdline failed [command_line_cut]");
    sees(&machine, "FAILED: onboot: cmdline failed");
    machine.until_off(BOOT);

    // The same keys from a file: the agent of the image has all of them, and waits for its server.
    let file = answer(format!("{long}\nHTTP_PROXY=http://proxy.test:3128\n{}\n", GRPC.replace(' ', "\n")));
    let machine = story.boot(&format!("ironhook.config=http://{HOST}:{}/site.conf", file.port()));
    sees(&machine, "ironhook.config has no digest and comes without TLS");
    sees(&machine, "10.0.2.2:9");
}

#[test]
#[ignore = "make test-full: a machine"]
fn a_driver_of_the_bundle_is_loaded_for_its_device() {
    let story = Story::new("driver");
    let directory = story.first_step();
    let alias = "pci:v00001B36d00000011sv*sd*bc*sc*i*";
    story.bring_driver(&directory, "drivers/misc/pvpanic/pvpanic-pci", "drivers/misc/pvpanic/pvpanic", alias);
    story.append_bundle(&directory);
    // The kernel says which module begins; nobody but its device asks for this one.
    let append = "initcall_debug ignore_loglevel ironhook.worker=builtin";
    let machine = story.switch_on(&directory, append, &["-device", "pvpanic-pci"]);
    sees(&machine, "[pvpanic_pci]");
}

/// Our agent's image where Hook has a worker image: its container is given what Hook gives it, in Hook's words (the story
/// above shows that), and does a workflow with the engine of the machine.
#[test]
#[ignore = "make test-full: a machine"]
fn our_agent_is_a_worker_image_as_a_stock_hook_runs_one() {
    let mut story = Story::new("as-worker");
    let registry = story.registry(false, false);
    let own = format!("{HOST}:{}", registry.port());
    // By Hook's rule for `docker_registry` alone.
    story.copy("agent", &format!("docker://{registry}/site/tink-worker:latest"));
    story.copy("busybox", &format!("docker://{registry}/site/busybox:1"));
    let server = story.server("");
    server.cli(&["apply", "-f", workflow(&story, "busybox:1").to_str().unwrap()]);
    let machine = story.boot(&format!(
        "docker_registry={own}/site insecure_registries={own} grpc_authority={HOST}:{} tinkerbell_tls=false worker_id={MAC}",
        server.address("grpc").port()
    ));
    sees(&machine, &format!("ironhook: worker: pulled {own}/site/tink-worker:latest"));
    let ended = wait::until("the end of the workflow", BOOT, || {
        let text = server.cli(&["get", "workflow", "w1", "-o", "json"]);
        let workflow: serde_json::Value = serde_json::from_str(&text).unwrap();
        let state = workflow["status"]["state"].as_str().unwrap_or_default().to_owned();
        Ok::<_, TimedOut>(["SUCCESS", "FAILED", "TIMEOUT"].contains(&state.as_str()).then_some(workflow))
    });
    let ended = ended.unwrap_or_else(|e| panic!("{e}; the machine said {:#?}", all(&machine)));
    assert_eq!(ended["status"]["state"], "SUCCESS", "{ended:#}");
    let said = server.cli(&["logs", "w1"]);
    assert!(said.contains("the action has its mode 0644"), "{said}");
    // It is the container that is at work, not the agent of the image.
    assert!(!all(&machine).iter().any(|line| line.contains("ironhook: agent ready")), "the built-in agent was started");
}

/// A file with a workflow of one action of this image.
fn workflow(story: &Story, image: &str) -> PathBuf {
    story.file("workflow.yaml", WORKFLOW.replace("IMAGE", image).replace("MAC", MAC))
}

const WORKFLOW: &str = r#"apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata: {name: t1, namespace: default}
spec:
  data: |
    version: "0.1"
    name: t1
    global_timeout: 1800
    tasks:
      - name: os
        worker: "{{.device_1}}"
        volumes: [/worker:/worker, /dev:/dev]
        actions:
          - name: say
            image: IMAGE
            timeout: 900
            command: ["echo the action has its mode $MODE; test -d /worker"]
            environment: {MODE: 0644}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {name: w1, namespace: default}
spec:
  templateRef: t1
  hardwareRef: m1
  hardwareMap: {device_1: "MAC"}
"#;
