//! What bootkit asks of the network and sends there: files of keys, authorities, metadata, reports. The other end is a few
//! lines of HTTP in the network at the other end of the cable; nothing listens there until the test says so.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod lab;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use lab::{Lab, MAC, Running};
use nix::sched::{CloneFlags, setns};
use sha2::{Digest, Sha256};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

fn site(test: &str, line: &str) -> Option<Lab> {
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0) {
        lab::skip(test, "needs root: a thread of the test enters the lab's network");
        return None;
    }
    let lab = lab::lab(test, line)?;
    lab.plug("eth0", MAC);
    lab.outside_does("ip addr add 10.77.0.1/24 dev s-eth0");
    lab.machine_does("ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up");
    Some(lab)
}

fn lease(lab: &Lab) {
    let lease = format!(
        r#"{{"interface":"eth0","mac":"{MAC}","address":"10.77.0.2","prefix":24,"server":"10.77.0.1","seconds":60}}"#
    );
    fs::write(lab.path("/run/ironhook/lease.new"), lease).unwrap();
    fs::rename(lab.path("/run/ironhook/lease.new"), lab.path("/run/ironhook/lease.json")).unwrap();
}

/// Answers requests at the other end, one a connection: path to status and body. What was sent comes out.
fn serve(lab: &Lab, answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Receiver<(String, Vec<u8>)> {
    let (pid, (ready, started), (tell, told)) = (lab.outside_pid(), channel(), channel());
    thread::spawn(move || {
        setns(File::open(format!("/proc/{pid}/ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let listener = TcpListener::bind("10.77.0.1:7080").unwrap();
        ready.send(()).unwrap();
        for mut client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
            reader.read_line(&mut first).unwrap();
            while reader.read_line(&mut line).is_ok() && !line.trim().is_empty() {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, text) = answer(first.split(' ').nth(1).unwrap_or_default());
            let _ = tell.send((first.trim().to_owned(), body));
            let _ = write!(
                client,
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
        }
    });
    started.recv().unwrap();
    told
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An agent that shows its environment.
fn agent(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("agent");
    fs::write(&path, "#!/bin/sh\nenv\ncat \"$IRONHOOK_CA_FILE\"\necho over\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn worker(lab: &Lab, dir: &tempfile::TempDir) -> Running {
    lab.bootkit(&["worker", "--agent", agent(dir).to_str().unwrap()])
}

#[test]
fn keys_and_authorities_come_from_files_once_their_server_is_there_and_credentials_from_metadata() {
    let config =
        "grpc_authority=10.0.0.9:42113\ntinkerbell_tls=false\nNO_PROXY=a.test,b.test\nHTTP_PROXY=http://p.test:1\n";
    let line = format!(
        "worker_id=w1 ironhook.config=http://10.77.0.1:7080/site.conf#sha256:{} ironhook.ca=http://10.77.0.1:7080/ca#sha256:{} \
         ironhook.metadata=http://10.77.0.1:7080",
        sha256(config),
        sha256(CERTIFICATE)
    );
    let Some(lab) = site("keys_and_authorities_come_from_files_once_their_server_is_there", &line) else { return };
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(&lab, &dir);
    worker.expect("worker: waiting for the network");
    lease(&lab);
    worker.expect("worker: waiting for ironhook.config (http://10.77.0.1:7080/site.conf), since ");
    let _asked = serve(&lab, move |path| match path {
        "/site.conf" => (200, config.to_owned()),
        "/ca" => (200, CERTIFICATE.to_owned()),
        "/metadata" => {
            (200, r#"{"ironhook": {"registry_password": "hunter2", "grpc_authority": "evil:1"}}"#.to_owned())
        }
        _ => (404, String::new()),
    });
    let said = worker.until("over").join("\n");
    for text in [
        "TINKERBELL_GRPC_AUTHORITY=10.0.0.9:42113",
        "WORKER_ID=w1",
        "REGISTRY_PASSWORD=hunter2",
        "NO_PROXY=a.test,b.test,10.0.0.9",
        "metadata: grpc_authority: metadata has no say in this",
        "BEGIN CERTIFICATE",
    ] {
        assert!(said.contains(text), "{text} in:\n{said}");
    }
}

/// A worker image is given the id (bootkit/tests/engine.rs); here it is seen where it is asked for.
#[test]
fn a_metadata_service_of_the_ec2_kind_is_asked_for_the_id_and_one_that_has_neither_ends_the_step() {
    let line = "grpc_authority=10.0.0.9:1 tinkerbell_tls=false worker_id=w1 ironhook.metadata=http://10.77.0.1:7080";
    let name = "a_metadata_service_of_the_ec2_kind_is_asked_for_the_id";
    for (id, asked_for) in [(Some("i-77"), vec!["/metadata", "/2009-04-04/meta-data/instance-id"]), (None, vec![])] {
        let Some(lab) = site(name, line) else { return };
        lease(&lab);
        let asked = serve(&lab, move |path| match (path, id) {
            ("/2009-04-04/meta-data/instance-id", Some(id)) => (200, id.to_owned()),
            _ => (404, String::new()),
        });
        let (status, output) = worker(&lab, &tempfile::tempdir().unwrap()).end();
        let paths: Vec<_> = asked.try_iter().map(|(first, _)| first).collect();
        match id {
            Some(_) => assert!(output.contains("WORKER_ID=w1"), "{output}"),
            None => assert!(
                output.contains("worker failed [config_fetch]: ironhook.metadata: cannot get the file: http://10.77.0.1:7080/metadata was answered with status 404"),
                "{output}"
            ),
        }
        assert_eq!(status.success(), id.is_some(), "{output}");
        for path in asked_for {
            assert!(paths.iter().any(|first| first.contains(path)), "{path} in {paths:?}");
        }
    }
}

#[test]
fn a_file_that_is_another_one_or_has_mistakes_is_refused_with_its_code() {
    let hex = sha256("what was meant");
    for (line, text, told) in [
        (
            format!("ironhook.config=http://10.77.0.1:7080/c#sha256:{hex}"),
            "another",
            "worker failed [digest_mismatch]: ironhook.config: the file has the sha256 ",
        ),
        (
            "ironhook.config=http://10.77.0.1:7080/c".into(),
            "grpc_authority=a:1\ntypo=1\nvlan_id=3\n",
            "worker failed [bad_config]: ironhook.config: line 2: \"typo\" is not a key",
        ),
        (
            "ironhook.config=http://10.77.0.1:7080/gone".into(),
            "",
            "worker failed [config_fetch]: ironhook.config: cannot get the file: ",
        ),
        (
            format!("grpc_authority=a:1 ironhook.ca=http://10.77.0.1:7080/c#sha256:{}", sha256("no PEM")),
            "no PEM",
            "there is no certificate in the file",
        ),
    ] {
        let Some(lab) = site("a_file_that_is_another_one_or_has_mistakes_is_refused", &line) else { return };
        lease(&lab);
        let _asked = serve(&lab, move |path| if path == "/c" { (200, text.to_owned()) } else { (404, String::new()) });
        let (status, output) = worker(&lab, &tempfile::tempdir().unwrap()).end();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains(told), "{told} in:\n{output}");
    }
}

#[test]
fn a_failure_is_reported_when_the_server_can_be_reached_and_not_before() {
    let line = "ironhook.server=http://10.77.0.1:7080 grpc_authority=10.77.0.1:42113 registry_password=hunter2secret";
    let Some(lab) = site("a_failure_is_reported_when_the_server_can_be_reached", line) else { return };
    let (status, output) = lab.bootkit(&["engine", "--dockerd", "/nowhere/dockerd"]).end();
    assert_eq!(status.code(), Some(1), "{output}");
    let courier = lab.bootkit(&["report"]);
    courier.expect("report: waiting for http://10.77.0.1:7080 to take it");
    assert!(lab.path("/run/ironhook/report.tar.gz").exists(), "not spooled");
    lease(&lab);
    let sent = serve(&lab, |_| (204, String::new()));
    courier.expect("report: sent to http://10.77.0.1:7080/report/02:00:00:77:00:01");
    let (first, body) = sent.recv().unwrap();
    assert_eq!(first, "PUT /report/02:00:00:77:00:01 HTTP/1.1");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(body.as_slice()));
    let (mut names, mut all) = (Vec::new(), String::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().display().to_string());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    // The lease came after the report was spooled.
    for name in ["failures.json", "config.txt", "links.json", "memory.txt", "lease.json", "boot.log"] {
        assert!(names.iter().any(|one| one == name), "{name} in {names:?}");
    }
    assert!(all.contains("engine_missing") && all.contains("no dockerd at /nowhere/dockerd"), "{all}");
    assert!(!all.contains("hunter2secret"), "the secret is in the report");
    lab::eventually("the spool is empty", || !lab.path("/run/ironhook/report.tar.gz").exists());
}
