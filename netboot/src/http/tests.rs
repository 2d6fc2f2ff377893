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
    lab_with(machines, Caps::default()).await
}

async fn lab_with(machines: Vec<Machine>, caps: Caps) -> Lab {
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
    let service = tokio::spawn(serve(listener, router(netboot, caps), async { stopped.await.unwrap_or(()) }));
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

/// The stand-ins of bodies never reach a client, whatever the order of its requests.
#[tokio::test]
async fn requests_in_a_row_on_one_connection_get_each_its_own_bytes() {
    let lab = lab(vec![]).await;
    let mut stream = TcpStream::connect(lab.server).await.unwrap();
    let big = "/files/sub/os%20image.raw";
    let parts = [(0, 999_999), (3, 3), (1_000_000, 1_900_000), (BIG - 262_145, BIG - 1)];
    let mut asked = String::new();
    for (from, to) in parts {
        asked += &format!("GET {big} HTTP/1.1\r\nHost: x\r\nRange: bytes={from}-{to}\r\n\r\n");
        asked += "GET /ipxe/binary/52:54:00:00:00:01/full.kpxe HTTP/1.1\r\nHost: x\r\n\r\n";
    }
    asked += "GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let mut next = || {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
        let body = answer[end..end + length].to_vec();
        answer.drain(..end + length);
        body
    };
    let (whole, loader) = (pattern(BIG), pattern(1024));
    for (from, to) in parts {
        assert!(next() == whole[from..=to], "{from}-{to}");
        assert!(next() == loader);
    }
    assert_eq!(next(), b"ok");
}

#[tokio::test]
async fn over_http_2_the_bytes_are_the_same() {
    let lab = lab(vec![]).await;
    let url = format!("http://{}/files/sub/os%20image.raw", lab.server);
    let to = lab.dir.path().join("got");
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "-o"]).arg(&to).arg(url);
    let status = tokio::task::spawn_blocking(move || curl.status().unwrap()).await.unwrap();
    assert!(status.success() && std::fs::read(to).unwrap() == pattern(BIG));
}

#[tokio::test]
async fn a_download_beyond_the_cap_waits_visibly_and_small_things_do_not() {
    let lab = lab_with(vec![machine()], Caps { transfers: 1, per_subnet: 1 }).await;
    let mut first = TcpStream::connect(lab.server).await.unwrap();
    first.write_all(b"GET /files/sub/os%20image.raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    first.read_exact(&mut [0; 1000]).await.unwrap();
    let server = lab.server;
    let second = tokio::spawn(async move { ask(server, "GET /files/sub/os%20image.raw", "").await });
    loop {
        let metrics = String::from_utf8(ask(lab.server, "GET /metrics", "").await.1).unwrap();
        if metrics.contains("\nironhook_http_transfers 1\n")
            && metrics.contains("\nironhook_http_transfers_waiting 1\n")
        {
            break;
        }
    }
    let (head, _) = ask(lab.server, "GET /ipxe/script/52:54:00:00:00:01/auto.ipxe", "").await;
    assert!(head.starts_with("http/1.1 200") && !second.is_finished(), "{head}");
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).await.unwrap();
    assert!(second.await.unwrap().1 == pattern(BIG));
    let metrics = String::from_utf8(ask(lab.server, "GET /metrics", "").await.1).unwrap();
    assert!(metrics.contains("\nironhook_http_transfers_waiting 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_file_that_shrinks_under_way_breaks_off_and_is_never_filled_up() {
    let lab = lab(vec![]).await;
    let mut stream = TcpStream::connect(lab.server).await.unwrap();
    stream.write_all(b"GET /files/sub/os%20image.raw HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1000];
    stream.read_exact(&mut answer).await.unwrap();
    let path = lab.dir.path().join("files/sub/os image.raw");
    std::fs::File::options().write(true).open(path).unwrap().set_len(20 << 20).unwrap();
    // An error of the connection is as good as its end.
    let _ = stream.read_to_end(&mut answer).await;
    let start = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let body = &answer[start..];
    assert!(body.len() < BIG && *body == pattern(BIG)[..body.len()], "{} bytes", body.len());
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

/// A self-signed certificate of this kind, as operators make one.
fn certificate(dir: &std::path::Path, kind: &[&str]) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let status = std::process::Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(kind)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    (certificate, key)
}

#[tokio::test]
async fn https_with_an_rsa_certificate_serves_the_same_and_another_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate_rsa(dir.path());
    let mut here = machine();
    here.lease = None;
    let (netboot, _seen) = netboot(vec![here], dir.path());
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tls::acceptor(&certificate, &key).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = router(netboot, Caps::default());
    let service = tokio::spawn(tls::serve(listener, acceptor, router, async { stopped.await.unwrap_or(()) }));
    // One that never speaks holds nobody up.
    let _silent = TcpStream::connect(address).await.unwrap();
    let url = format!("https://{address}/ipxe/script/52:54:00:00:00:01/auto.ipxe");
    let ask = |trust: Option<std::path::PathBuf>| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let mut curl = std::process::Command::new("curl");
            curl.args(["-sS", "--max-time", "30"]);
            if let Some(ca) = trust {
                curl.arg("--cacert").arg(ca);
            }
            curl.arg(url).output().unwrap()
        })
    };
    let answer = ask(Some(certificate)).await.unwrap();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(text.starts_with("#!ipxe\necho Ironhook: default/machine-1"), "{text} {answer:?}");
    assert!(!ask(None).await.unwrap().status.success(), "nobody is to trust a certificate that he does not know");
    drop(stop);
    service.await.unwrap().unwrap();

    let (_, elliptic) = self::certificate(dir.path(), &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let error = tls::acceptor(&dir.path().join("cert.pem"), &elliptic).err().unwrap().to_string();
    assert!(error.contains("it must be RSA"), "{error}");
}

fn certificate_rsa(dir: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    certificate(dir, &["-newkey", "rsa:2048"])
}

#[tokio::test]
async fn an_existing_iso_is_patched_for_its_machine_and_any_range_is_of_the_same_file() {
    let mut own = machine();
    own.iso = Some("sub/hook.iso".into());
    let lab = lab(vec![own]).await;
    let mut iso = pattern(3_000_000).to_vec();
    iso[1_000_000..1_001_024].copy_from_slice(crate::iso::PLACEHOLDER.as_bytes());
    std::fs::write(lab.dir.path().join("files/sub/hook.iso"), &iso).unwrap();
    let path = "/iso/52:54:00:00:00:01/hook.iso";
    let (head, whole) = ask(lab.server, &format!("GET {path}"), "").await;
    assert!(head.starts_with("http/1.1 200") && whole.len() == iso.len(), "{head}");
    assert_eq!(field(&head, "content-type"), Some("application/vnd.efi-iso"));
    let patch = String::from_utf8(whole[1_000_000..1_001_024].to_vec()).unwrap();
    assert!(patch.contains("hw_addr=52:54:00:00:00:01") && !patch.contains("ticket"), "{patch}");
    assert!(whole[..1_000_000] == iso[..1_000_000] && whole[1_001_024..] == iso[1_001_024..]);
    for (from, to) in [(999_990, 1_000_010), (1_000_500, 1_000_600), (1_001_000, 1_001_100), (0, 2_999_999)] {
        let (head, part) = ask(lab.server, &format!("GET {path}"), &format!("Range: bytes={from}-{to}\r\n")).await;
        assert!(head.starts_with("http/1.1 206") && part == whole[from..=to], "{from}-{to}: {head}");
    }
    let (head, _) = ask(lab.server, "GET /iso/52:54:00:00:00:01/x.img", "").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    assert!(ask(lab.server, "GET /iso/nobody/x.iso", "").await.0.starts_with("http/1.1 400"));
    assert!(ask(lab.server, "GET /iso/52:54:00:00:00:07/x.iso", "").await.0.starts_with("http/1.1 404"));
}

#[tokio::test]
async fn machines_are_told_of_by_prometheus_and_loaders_have_tags() {
    let lab = lab(vec![machine()]).await;
    let path = "/ipxe/binary/52:54:00:00:00:01/snponly.efi";
    let (head, _) = ask(lab.server, &format!("HEAD {path}"), "").await;
    assert_eq!((field(&head, "content-length"), field(&head, "content-type")), (Some("5000"), Some("application/efi")));
    let tag = field(&head, "etag").unwrap().to_owned();
    let (head, part) =
        ask(lab.server, &format!("GET {path}"), &format!("Range: bytes=10-19\r\nIf-Range: {tag}\r\n")).await;
    assert!(head.starts_with("http/1.1 206") && part == pattern(5000)[10..20], "{head}");
    ask(lab.server, "GET /ipxe/script/52:54:00:00:00:01/auto.ipxe", "").await;
    for path in ["/metrics", "/smee/metrics"] {
        let text = String::from_utf8(ask(lab.server, &format!("GET {path}"), "").await.1).unwrap();
        assert!(
            text.contains("\nironhook_scripts_total 1\n") && text.contains("\nironhook_http_bytes_total 10\n"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_rule_that_needs_the_serial_number_asks_the_machine_for_it() {
    let rules = serde_saphyr::from_str("- {name: that one, when: {serial: S1}, then: disk}\n").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (netboot, _seen) = crate::tests::netboot_with(vec![machine()], dir.path(), |site| {
        site.rules = std::sync::Arc::new(crate::rules::Rules::new(rules).unwrap());
    });
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let server = listener.local_addr().unwrap();
    let service = tokio::spawn(serve(listener, router(netboot, Caps::default()), std::future::pending()));
    let path = "/ipxe/script/52:54:00:00:00:01/auto.ipxe";
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    let first = text(ask(server, &format!("GET {path}"), "").await.1);
    assert!(
        first.contains("chain --replace --autofree http://10.0.0.1:7080") && first.contains("serial=${serial"),
        "{first}"
    );
    let second = text(ask(server, &format!("GET {path}?serial=S1&asked=1"), "").await.1);
    assert!(second.contains("sanboot"), "{second}");
    let other = text(ask(server, &format!("GET {path}?serial=S2&asked=1"), "").await.1);
    assert!(other.contains("initramfs"), "{other}");
    service.abort();
}

#[tokio::test]
async fn what_did_not_fit_on_the_line_is_served_where_the_line_says() {
    let mut long = machine();
    if let Ok(installer) = &mut long.installer {
        installer.extra_args = vec![format!("NO_PROXY={}", "10.0.0.0/8,".repeat(200))];
    }
    let lab = lab(vec![long]).await;
    let script = ask(lab.server, "GET /ipxe/script/52:54:00:00:00:01/auto.ipxe", "").await.1;
    let script = String::from_utf8(script).unwrap();
    let url = script.split("ironhook.config=").nth(1).unwrap().split_whitespace().next().unwrap();
    let path = url.strip_prefix("http://10.0.0.1:7080").unwrap();
    let file = String::from_utf8(ask(lab.server, &format!("GET {path}"), "").await.1).unwrap();
    assert!(file.contains("NO_PROXY=10.0.0.0/8,") && spec::cmdline::site::parse(&file, true).is_ok(), "{file}");
}
