//! The service over loopback and plain sockets, and the scripts against their goldens.

use std::net::Ipv4Addr;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::rules::Verdict;
use crate::script::Boot;
use crate::tests::{MAC, Seen, machine, netboot, pattern, settings};
use crate::{History, Machine};

const BIG: usize = 40 << 20;

struct Lab {
    server: SocketAddr,
    activity: Seen,
    stop: oneshot::Sender<()>,
    service: tokio::task::JoinHandle<io::Result<()>>,
    dir: TempDir,
}

async fn lab(machines: Vec<Machine>) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["osie", "files/sub"] {
        std::fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    std::fs::write(dir.path().join("osie/vmlinuz-x86_64"), pattern(1000)).unwrap();
    std::fs::write(dir.path().join("files/sub/os image.raw"), pattern(BIG)).unwrap();
    std::fs::write(dir.path().join("files/empty"), "").unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    let (netboot, activity) = netboot(machines, dir.path());
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let server = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let service =
        tokio::spawn(serve(listener, router(netboot, Caps::default()), async { stopped.await.unwrap_or(()) }));
    Lab { server, activity, stop, service, dir }
}

/// Head and body of the answer.
async fn ask(server: SocketAddr, request: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase(), answer[end + 4..].to_vec())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

async fn file_told(lab: &mut Lab) -> (String, u64, u64) {
    match lab.activity.recv().await.unwrap().what {
        What::File { service, path, bytes, total, .. } if service == "http" => (path, bytes, total),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn files_have_a_length_and_validators_and_are_reported() {
    let mut lab = lab(vec![]).await;
    let (head, body) = ask(lab.server, "GET /files/sub/os%20image.raw", "").await;
    assert!(head.starts_with("http/1.1 200") && body == pattern(BIG), "{head}");
    assert_eq!(field(&head, "content-length"), Some(BIG.to_string().as_str()));
    assert_eq!((field(&head, "accept-ranges"), field(&head, "transfer-encoding")), (Some("bytes"), None));
    assert!(field(&head, "last-modified").unwrap().ends_with(" gmt") && field(&head, "etag").is_some());
    assert_eq!(file_told(&mut lab).await, ("/files/sub/os%20image.raw".into(), BIG as u64, BIG as u64));

    let (whole, body) = ask(lab.server, "HEAD /files/sub/os%20image.raw", "").await;
    assert!(body.is_empty() && field(&whole, "content-length") == field(&head, "content-length"), "{whole}");
    let (head, body) = ask(lab.server, "GET /files/empty", "").await;
    assert_eq!(file_told(&mut lab).await, ("/files/empty".into(), 0, 0), "HEAD sends no file");
    assert!(
        head.starts_with("http/1.1 200") && body.is_empty() && field(&head, "content-length") == Some("0"),
        "{head}"
    );
}

#[tokio::test]
async fn ranges_resume_and_only_of_the_same_content() {
    let mut lab = lab(vec![]).await;
    let (head, body) = ask(lab.server, "GET /misc/osie/current/vmlinuz-x86_64", "Range: bytes=990-\r\n").await;
    assert!(head.starts_with("http/1.1 206") && body == pattern(1000)[990..], "{head}");
    assert_eq!(field(&head, "content-range"), Some("bytes 990-999/1000"));
    assert_eq!(field(&head, "content-length"), Some("10"));
    assert_eq!(file_told(&mut lab).await, ("/misc/osie/current/vmlinuz-x86_64".into(), 10, 10));
    let tag = field(&head, "etag").unwrap().to_owned();

    let (head, body) = ask(lab.server, "GET /misc/osie/current/vmlinuz-x86_64", "Range: bytes=1000-\r\n").await;
    assert!(head.starts_with("http/1.1 416") && body.is_empty(), "{head}");
    assert_eq!(field(&head, "content-range"), Some("bytes */1000"));

    let range = format!("Range: bytes=1-2\r\nIf-Range: {tag}\r\n");
    assert!(ask(lab.server, "GET /misc/osie/current/vmlinuz-x86_64", &range).await.0.starts_with("http/1.1 206"));
    std::fs::write(lab.dir.path().join("osie/vmlinuz-x86_64"), pattern(2000)).unwrap();
    let (head, body) = ask(lab.server, "GET /misc/osie/current/vmlinuz-x86_64", &range).await;
    assert!(head.starts_with("http/1.1 200") && body.len() == 2000, "{head}");
}

#[tokio::test]
async fn nothing_but_files_of_the_directories_is_served() {
    let mut lab = lab(vec![]).await;
    std::os::unix::fs::symlink("/dev/zero", lab.dir.path().join("files/device")).unwrap();
    for path in [
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/..%2fsecret",
        "/files/sub/%2e%2e/%2e%2e/secret",
        "/files//etc/passwd",
        "/files/%2fetc%2fpasswd",
        "/misc/osie/current/..%2fsecret",
        "/files/sub",
        "/files/none",
        "/files/empty/below",
        "/files/device",
        "/ipxe/binary/52:54:00:00:00:01/none.efi",
    ] {
        let (head, body) = ask(lab.server, &format!("GET {path}"), "").await;
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(String::from_utf8(body).unwrap().contains("is not for"), "{path}");
        assert!(matches!(lab.activity.recv().await.unwrap().what, What::Refused { .. }), "{path}");
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_is_reported_as_such() {
    let mut lab = lab(vec![]).await;
    let mut stream = TcpStream::connect(lab.server).await.unwrap();
    stream.write_all(b"GET /files/sub/os%20image.raw HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 1000]).await.unwrap();
    drop(stream);
    let (_, bytes, total) = file_told(&mut lab).await;
    assert!(bytes > 0 && bytes < total && total == BIG as u64, "{bytes} of {total}");
    drop(lab.stop);
    lab.service.await.unwrap().unwrap();
}

#[tokio::test]
async fn loaders_are_served_under_both_paths() {
    let lab = lab(vec![]).await;
    for path in ["/ipxe/binary/52:54:00:00:00:01/undionly.kpxe", "/ipxe/52:54:00:00:00:01/undionly.kpxe"] {
        let (head, body) = ask(lab.server, &format!("GET {path}"), "").await;
        assert!(head.starts_with("http/1.1 200") && body == pattern(100_000), "{head}");
    }
}

#[tokio::test]
async fn scripts_go_to_machines_that_may_netboot_and_to_nobody_else() {
    let mut here = machine();
    if let Some(lease) = &mut here.lease {
        lease.address = Ipv4Addr::LOCALHOST;
    }
    let forbidden = Machine { allow_pxe: false, mac: "52:54:00:00:00:02".parse().unwrap(), lease: None, ..machine() };
    let mut lab = lab(vec![here, forbidden]).await;
    let (known, history, site) = (machine(), History::default(), settings());
    let boot = Boot { mac: MAC, machine: Some(&known), history: &history, settings: &site, ticket: None };
    let wanted = boot.ipxe(&Verdict::Installer).unwrap().unwrap().text;
    for path in ["/ipxe/script/52:54:00:00:00:01/auto.ipxe", "/52-54-00-00-00-01/auto.ipxe", "/auto.ipxe"] {
        let (head, body) = ask(lab.server, &format!("GET {path}"), "").await;
        assert!(head.starts_with("http/1.1 200") && body == wanted.as_bytes(), "{path}: {head}");
        let told = lab.activity.recv().await.unwrap();
        assert_eq!(told.what, What::Script { boots: "installer".into() });
        assert_eq!(told.machine.as_deref(), Some("default/machine-1"));
    }
    for (mac, reason) in [
        ("52:54:00:00:00:02", "does not allow it"),
        ("52:54:00:00:00:03", "no Hardware has this MAC address"),
        ("${mac}", "is not a MAC address"),
    ] {
        let (head, body) = ask(lab.server, &format!("GET /ipxe/script/{mac}/auto.ipxe"), "").await;
        assert!(head.starts_with("http/1.1 404"), "{head}");
        assert!(String::from_utf8(body).unwrap().contains(reason), "{mac}");
        let told = lab.activity.recv().await.unwrap();
        match told.what {
            What::Refused { why, .. } => assert!(why.contains(reason), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(mac.contains('$') || told.mac == Some(mac.parse().unwrap()));
    }
}

#[tokio::test]
async fn a_machine_without_a_possible_script_is_told_why_on_its_screen() {
    let mut odd = machine();
    odd.arch = "riscv64".into();
    let mut lab = lab(vec![odd]).await;
    let (head, body) = ask(lab.server, "GET /52:54:00:00:00:01/auto.ipxe", "").await;
    let text = String::from_utf8(body).unwrap();
    assert!(head.starts_with("http/1.1 200") && text.starts_with("#!ipxe\n") && text.contains("riscv64"), "{text}");
    assert!(text.ends_with("reboot || exit 1\n"));
    assert!(matches!(lab.activity.recv().await.unwrap().what, What::Refused { .. }));
}
