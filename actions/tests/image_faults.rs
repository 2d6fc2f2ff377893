//! Every fault of a network, for every source and every packing of an image: each run ends in success with the right
//! bytes, or in a failure with the right code and a disk that nothing boots from.

#![allow(clippy::unwrap_used)] // Helpers of tests; the lint knows only test functions.

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{Loop, MIB, Run, image, root, run, sha256};

/// What happens to the file on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Every answer ends after a third of the file, as if it were whole.
    Truncate,
    /// The first answer ends in a reset connection.
    Reset,
    /// The first answer falls silent.
    Stall,
    /// As `Truncate` the first time; then the range is answered without a word on which one it is.
    DropRange,
    /// The same, with another range than was asked for.
    WrongRange,
    /// The same, with the whole file.
    Whole,
    /// The first answer is cut; then there is another tag on the same bytes.
    NewTag,
    /// The first answer is cut; then there are another tag and other bytes.
    Changed,
    /// One byte is another one.
    Corrupt,
    /// The length is announced too large.
    LongLength,
    /// The length is announced too small.
    ShortLength,
}

const NETWORK: [Fault; 12] = [
    Fault::None,
    Fault::Truncate,
    Fault::Reset,
    Fault::Stall,
    Fault::DropRange,
    Fault::WrongRange,
    Fault::Whole,
    Fault::NewTag,
    Fault::Changed,
    Fault::Corrupt,
    Fault::LongLength,
    Fault::ShortLength,
];

struct Server {
    file: Vec<u8>,
    fault: Fault,
    /// Which answer with the file is the one where it begins.
    victim: usize,
    /// Answers with the file so far.
    answers: AtomicUsize,
}

/// Serves a file at `/disk.img` and, as the only layer of an artifact, at `/v2/`.
fn serve(file: Vec<u8>, fault: Fault, victim: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = Arc::new(Server { file, fault, victim, answers: AtomicUsize::new(0) });
    thread::spawn(move || {
        for peer in listener.incoming() {
            let server = server.clone();
            // A client that goes away is part of the game.
            thread::spawn(move || server.answer(peer.unwrap()));
        }
    });
    host
}

impl Server {
    fn answer(&self, peer: TcpStream) -> std::io::Result<()> {
        let (path, range) = request(&peer)?;
        let mut peer = peer;
        if let Some(tag) = path.strip_prefix("/v2/os/manifests/") {
            assert_eq!(tag, "raw");
            let manifest = manifest(&self.file);
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let length = manifest.len();
            return write!(
                peer,
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{manifest}"
            );
        }
        let answer = self.answers.fetch_add(1, Ordering::SeqCst);
        let (is_first, is_later) = (answer == self.victim, answer > self.victim);
        let third = self.file.len() / 3;
        let mut file = self.file.clone();
        let mut tag = "one";
        let mut cut = None;
        match self.fault {
            Fault::Truncate => cut = Some(third),
            Fault::Reset | Fault::Stall | Fault::DropRange | Fault::WrongRange | Fault::Whole if is_first => {
                cut = Some(third);
            }
            Fault::NewTag | Fault::Changed if is_first => cut = Some(third),
            Fault::NewTag if is_later => tag = "two",
            Fault::Changed if is_later => {
                tag = "two";
                file.iter_mut().for_each(|byte| *byte ^= 1);
            }
            Fault::Corrupt => file[third] ^= 4,
            _ => {}
        }
        // A validator that no longer fits: the whole file.
        let range = range.filter(|_| tag == "one");
        let from = range.map(|(from, _)| from);
        let mut head = String::new();
        let mut whole = false;
        let mut start = from.unwrap_or(0).min(file.len());
        let end = range.and_then(|(_, last)| last).map_or(file.len(), |last| file.len().min(last + 1));
        let last = end - 1;
        match (from, self.fault) {
            (Some(_), Fault::Whole) | (None, _) => {
                head += "HTTP/1.1 200 OK\r\n";
                (start, whole) = (0, true);
            }
            (Some(_), Fault::DropRange) => head += "HTTP/1.1 206 Partial\r\n",
            (Some(_), Fault::WrongRange) => {
                start -= 1;
                let _ = write!(head, "HTTP/1.1 206 Partial\r\nContent-Range: bytes {start}-{last}/{}\r\n", file.len());
            }
            (Some(from), _) if from >= file.len() => {
                return write!(peer, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
            (Some(_), _) => {
                let _ = write!(head, "HTTP/1.1 206 Partial\r\nContent-Range: bytes {start}-{last}/{}\r\n", file.len());
            }
        }
        let body = &file[start..if whole { file.len() } else { end }];
        let length = match self.fault {
            Fault::LongLength if from.is_none() => body.len() + 1000,
            Fault::ShortLength => body.len().saturating_sub(1000),
            _ => body.len(),
        };
        let _ = write!(head, "Content-Length: {length}\r\nETag: \"{tag}\"\r\nConnection: close\r\n\r\n");
        peer.write_all(head.as_bytes())?;
        peer.write_all(&body[..cut.unwrap_or(usize::MAX).min(body.len())])?;
        match self.fault {
            // Until the client has had enough.
            Fault::Stall if is_first => while peer.read(&mut [0])? > 0 {},
            // The request is still unread: closing resets the connection.
            Fault::Reset if is_first => return Ok(()),
            _ => {}
        }
        drain(&peer)
    }
}

/// First and last byte, as they were asked for.
type Asked = (usize, Option<usize>);

/// The path and the bytes asked for, without taking the request out of the socket.
fn request(peer: &TcpStream) -> std::io::Result<(String, Option<Asked>)> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let n = peer.peek(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes[..n]).to_ascii_lowercase();
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if text.contains("\r\n\r\n") {
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let range = text.lines().find_map(|line| {
                let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
                Some((first.parse().ok()?, last.parse().ok()))
            });
            return Ok((path, range));
        }
        thread::yield_now();
    }
}

/// Takes the request, so that closing is no reset.
fn drain(peer: &TcpStream) -> std::io::Result<()> {
    for line in BufReader::new(peer).lines() {
        if line?.is_empty() {
            break;
        }
    }
    Ok(())
}

fn manifest(file: &[u8]) -> String {
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},
        "layers":[{{"mediaType":"application/octet-stream","digest":"{}","size":{},
        "annotations":{{"org.opencontainers.image.title":"disk.img"}}}}]}}"#,
        sha256(file),
        file.len()
    )
}

/// The image as each kind of file. The tools of the host pack what no library here packs.
fn packings(raw: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, raw).unwrap();
    let packed = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).arg(&path).output();
        let output = output.unwrap_or_else(|e| panic!("cannot run {program} ({e}): hack/deps installs it"));
        assert!(output.status.success(), "{program}");
        output.stdout
    };
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(raw).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(raw).unwrap();
    vec![
        ("raw", raw.to_vec()),
        ("gz", common::gzip(raw)),
        ("bz2", bzip2.finish().unwrap()),
        ("xz", packed("xz", &["-0", "-T2", "--block-size=1MiB", "-c"])),
        ("zst", common::zstd(raw)),
        ("lz4", lz4.finish().unwrap()),
    ]
}

/// A QEMU image, where qemu-img can make one.
fn qcow2(raw: &[u8]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("raw"), dir.path().join("qcow2"));
    std::fs::write(&from, raw).unwrap();
    let status =
        Command::new("qemu-img").args(["convert", "-c", "-f", "raw", "-O", "qcow2"]).args([&from, &to]).status();
    status.ok().filter(|status| status.success()).map(|_| std::fs::read(&to).unwrap())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Web,
    Registry,
    File,
}

#[derive(Clone)]
struct Case {
    source: Source,
    packing: &'static str,
    file: Arc<Vec<u8>>,
    fault: Fault,
    victim: usize,
    streams: &'static str,
}

impl Case {
    /// Codes that tell the truth about the fault; none when the image has to arrive all the same.
    fn codes(&self) -> &'static [&'static str] {
        match (self.fault, self.source, self.packing) {
            (Fault::DropRange | Fault::WrongRange | Fault::Whole | Fault::NewTag, _, "qcow2") => {
                &["fetch", "truncated"]
            }
            (Fault::Changed | Fault::LongLength, ..) => &["truncated"],
            (Fault::Truncate, Source::File, _) => &["digest_mismatch"],
            (Fault::Corrupt | Fault::ShortLength, ..) => &["digest_mismatch"],
            _ => &[],
        }
    }

    /// It is read in an order that may or may not need ranges, so a server without them may do or not.
    fn may_succeed(&self) -> bool {
        let ranges = [Fault::DropRange, Fault::WrongRange, Fault::Whole, Fault::NewTag];
        // What changes after the last range was asked for is not seen.
        let is_late = self.victim > 0 && self.fault == Fault::Changed;
        self.codes().is_empty() || is_late || (self.packing == "qcow2" && ranges.contains(&self.fault))
    }

    fn run(&self, disk: &Loop) -> Run {
        let mut file = self.file.to_vec();
        let sum = sha256(&file);
        let dir = tempfile::tempdir().unwrap();
        let url = match self.source {
            Source::Web => format!("http://{}/disk.img", serve(file, self.fault, self.victim)),
            Source::Registry => format!("oci://{}/os:raw", serve(file, self.fault, self.victim)),
            Source::File => {
                let third = file.len() / 3;
                match self.fault {
                    Fault::Truncate => file.truncate(2 * third),
                    Fault::Corrupt => file[third] ^= 4,
                    _ => {}
                }
                let path = dir.path().join("disk.img");
                std::fs::write(&path, file).unwrap();
                path.to_str().unwrap().to_owned()
            }
        };
        // A registry proves its bytes by itself.
        let sum = if self.source == Source::Registry { "none" } else { &sum };
        let env = [
            ("IMG_URL", url.as_str()),
            ("DEST_DISK", disk.path()),
            ("IMG_CHECKSUM", sum),
            ("FETCH_STREAMS", self.streams),
            ("PLAIN_HTTP", "true"),
            ("WAIT_DEVICE_SECONDS", "0"),
            ("STALL_TIMEOUT_SECONDS", "2"),
            ("RETRY_BUDGET_SECONDS", "20"),
        ];
        run("image-write", &env)
    }

    fn shown(&self) -> String {
        let Self { source, packing, fault, streams, victim, .. } = self;
        format!("{source:?} {packing} {fault:?} from answer {victim} on, by {streams} streams")
    }

    fn check(&self, disk: &Loop, raw: &[u8]) {
        let case = self.shown();
        let before = vec![0xaa; disk.bytes().len()];
        std::fs::File::options().write(true).open(&disk.path).unwrap().write_all(&before).unwrap();
        let done = self.run(disk);
        let bytes = disk.bytes();
        let codes = self.codes();
        if codes.is_empty() || (self.may_succeed() && done.status == Some(0)) {
            assert_eq!(done.status, Some(0), "{case}: {done:#?}");
            assert!(bytes[MIB..raw.len() - MIB] == raw[MIB..raw.len() - MIB], "{case}: the body differs");
            assert!(bytes[2048..MIB] == raw[2048..MIB], "the head differs");
            disk.assert_table_is_clean();
            return;
        }
        let failure = done.failure();
        assert!(codes.contains(&failure.code.as_str()), "{case}: {failure:#?}");
        let is_blank = bytes[..MIB].iter().all(|b| *b == 0) && bytes[bytes.len() - MIB..].iter().all(|b| *b == 0);
        assert!(is_blank || bytes == before, "{case}: the ends are not blank");
    }
}

fn cases(raw: &[u8], streams: &'static str, victim: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for (packing, file) in packings(raw).into_iter().chain(qcow2(raw).map(|file| ("qcow2", file))) {
        let file = Arc::new(file);
        for source in [Source::Web, Source::Registry, Source::File] {
            let faults: &[Fault] = match source {
                Source::File => &[Fault::None, Fault::Truncate, Fault::Corrupt],
                _ => &NETWORK,
            };
            cases.extend(faults.iter().map(|fault| Case {
                source,
                packing,
                file: file.clone(),
                fault: *fault,
                victim,
                streams,
            }));
        }
    }
    cases
}

#[test]
fn every_fault_of_every_source_and_packing() {
    if root("every_fault_of_every_source_and_packing") {
        check_all("1", 0, |_| true);
    }
}

#[test]
fn every_fault_of_a_network_with_ranges_fetched_at_once() {
    if root("every_fault_of_a_network_with_ranges_fetched_at_once") {
        // The fault begins with the first answer, or with the second range.
        for victim in [0, 2] {
            check_all("4", victim, |case| case.source != Source::File);
        }
    }
}

fn check_all(streams: &'static str, victim: usize, which: impl Fn(&Case) -> bool) {
    let raw = image(5 * MIB, 512);
    let mut cases = cases(&raw, streams, victim);
    cases.retain(which);
    assert!(cases.len() > 150, "{}", cases.len());
    let cases = Mutex::new(cases);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let disk = Loop::new(8 * MIB, 512);
                while let Some(case) = { cases.lock().unwrap().pop() } {
                    case.check(&disk, &raw);
                }
            });
        }
    });
}
