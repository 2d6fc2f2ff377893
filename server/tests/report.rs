//! What a machine that does not get on sends, and what its operator sees of it; what metadata tells it of credentials.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::Write;

use common::{HARDWARE, Server, WORKER, text};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

const OTHER: &str = "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {name: m2}\nspec:\n  interfaces:\n    - dhcp: {mac: \"52:54:00:12:34:02\", ip: {address: 127.0.0.2, netmask: 255.0.0.0}}\n";

fn bundle() -> Vec<u8> {
    let failures = json!([{"step": "worker", "code": "registry_auth", "message": "cannot pull r/w:1: unauthorized\u{1b}[2J",
        "hint": "see that all three are right", "sinceMs": 12000, "count": 3}]);
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in
        [("failures.json", failures.to_string()), ("logs/docker.log", "level=info\nlevel=fatal\n".into())]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

async fn put(server: &Server, mac: &str, body: Vec<u8>) -> u16 {
    let url = format!("{}/report/{mac}", server.url("http"));
    reqwest::Client::new().put(url).body(body).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_report_is_kept_per_machine_bounded_and_shown() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let applied = server.apply(dir.path(), &[("h.yaml", HARDWARE), ("o.yaml", OTHER)]);
    assert!(applied.status.success(), "{}", text(&applied.stderr));

    let none = server.cli(&["report", "m1"]);
    assert!(!none.status.success() && text(&none.stderr).contains("m1 has sent no report"), "{}", text(&none.stderr));
    assert_eq!(put(&server, "52:54:00:00:00:99", bundle()).await, 404, "a machine that is not known");
    assert_eq!(put(&server, "nonsense", bundle()).await, 400);
    assert_eq!(put(&server, "..%2F..%2Fetc%2Fpasswd", bundle()).await, 400);
    assert_eq!(put(&server, "52:54:00:12:34:02", bundle()).await, 403, "asked from the address of m1");
    assert_eq!(put(&server, WORKER, b"text".to_vec()).await, 400);
    assert_eq!(put(&server, WORKER, [vec![0x1f, 0x8b], vec![0; 9 << 20]].concat()).await, 413);
    assert_eq!(put(&server, WORKER, bundle()).await, 204);

    let shown = server.cli(&["report", "m1"]);
    let said = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(said.contains("worker failed [registry_auth], 3 times since 12 s after boot"), "{said}");
    assert!(said.contains("What helps: see that all three are right") && said.contains("logs/docker.log"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    let log = server.cli(&["report", "m1", "--show", "logs/docker.log"]);
    assert_eq!(text(&log.stdout), "level=info\nlevel=fatal\n");
    let file = dir.path().join("m1.tar.gz");
    assert!(server.cli(&["report", "m1", "-o", file.to_str().unwrap()]).status.success());
    assert_eq!(std::fs::read(file).unwrap(), bundle());
}

#[tokio::test]
async fn metadata_tells_credentials_to_machines_of_ours_and_never_the_log() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("credentials.conf");
    let write = |text: &str| std::fs::File::create(&keys).unwrap().write_all(text.as_bytes()).unwrap();
    write("registry_username=bob\nregistry_password=c4nary-hunter2\n");
    let server = Server::start_with(dir.path(), &format!("credentials: {}\n", keys.display()));
    let url = format!("{}/metadata", server.url("metadata"));
    let get = || async { reqwest::get(&url).await.unwrap() };
    assert_eq!(get().await.status(), 404, "nobody is known yet");
    assert!(server.apply(dir.path(), &[("h.yaml", HARDWARE)]).status.success());
    let answer: serde_json::Value = get().await.json().await.unwrap();
    assert_eq!(answer["ironhook"], json!({"registry_username": "bob", "registry_password": "c4nary-hunter2"}));
    assert_eq!(answer["id"], "i-42");
    for (text, line) in [("registry_pasword=c4nary-hunter2\n", "line 1"), ("grpc_authority=a:1\n", "grpc_authority")] {
        write(text);
        let refused = get().await;
        assert_eq!(refused.status(), 503, "{line}");
        assert!(!refused.text().await.unwrap().contains("c4nary"));
    }
}
