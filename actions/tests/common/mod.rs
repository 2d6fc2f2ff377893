//! What the tests of the program share: running it, loop devices that go away again, a web server that can misbehave,
//! images with a GPT. Only `root` may skip a test.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses its own part of it; the lint knows only test functions.

pub mod server;

use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use actions::disk::gpt::Table;
use gpt::partition::Partition;
use gpt::partition_types::{EFI, LINUX_FS};
use spec::{Event, Failure};

pub const MIB: usize = 1 << 20;

/// Whether loop devices can be made; says so when not.
pub fn root(test: &str) -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let has_loops = Path::new("/dev/loop-control").exists();
    if !(is_root && has_loops) {
        // Around the capture of the test harness: a skip is always seen.
        let _ = writeln!(std::io::stderr(), "SKIP {test}: needs root and loop devices");
    }
    is_root && has_loops
}

/// What the program did.
#[derive(Debug)]
pub struct Run {
    pub status: Option<i32>,
    pub log: String,
    pub events: Vec<Event>,
}

impl Run {
    /// The failure it reported, which has to be its last event and in its log, too.
    #[track_caller]
    pub fn failure(&self) -> &Failure {
        assert_eq!(self.status, Some(1), "{self:#?}");
        let Some(Event::Error(failure)) = self.events.last() else { panic!("no error event: {self:#?}") };
        let lines: Vec<_> = self.log.lines().filter(|l| l.starts_with("failed: ")).collect();
        assert_eq!(lines, [format!("failed: {}", failure.one_line())], "the chain is printed once");
        failure
    }

    #[track_caller]
    pub fn ok(&self) -> &Self {
        assert_eq!(self.status, Some(0), "{self:#?}");
        self
    }
}

/// Runs one action with nothing in its environment but what is given and a file for events.
pub fn run(action: &str, env: &[(&str, &str)]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events.jsonl");
    let output = bare().arg(action).envs(env.iter().copied()).env("IRONHOOK_EVENTS", &events).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = fs::read_to_string(&events).unwrap_or_default();
    Run {
        status: output.status.code(),
        log: String::from_utf8(output.stdout).unwrap(),
        events: lines.lines().map(|line| Event::parse(line).unwrap()).collect(),
    }
}

/// Writes an image, by default without a digest.
pub fn write(url: &str, disk: &Loop, more: &[(&str, &str)]) -> Run {
    let base = [("IMG_URL", url), ("DEST_DISK", disk.path()), ("IMG_CHECKSUM", "none"), ("WAIT_DEVICE_SECONDS", "0")];
    let base = base.into_iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
    run("image-write", &base.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// Kills an action some time after its start. Whether it had ended by itself.
pub fn killed(action: &str, env: &[(&str, &str)], after: Duration) -> bool {
    let mut child = bare().arg(action).envs(env.iter().copied()).stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(after);
    let finished = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    finished
}

/// Durations below `most` that look like chance, and differ from run to run.
pub fn instants(most: Duration) -> impl Iterator<Item = Duration> {
    let mut state = u64::from(std::process::id()) | 1;
    let most = most.as_micros() as u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_micros(state % most)
    })
}

/// The code with which image-write failed, which is empty when it did not, and its peak memory in MiB.
pub fn peak(env: &[(&str, &str)]) -> (String, u64) {
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut child = bare()
        .arg("image-write")
        .envs(env.iter().copied())
        .env("REPORT_PATH", report.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // Before it becomes the program, a new process still has the memory of this one.
        let exe = fs::read_link(format!("/proc/{}/exe", child.id())).unwrap_or_default();
        if !exe.ends_with("ironhook-actions") {
            continue;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(line.unwrap_or(0));
        thread::sleep(Duration::from_millis(2));
    }
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report.path()).unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().success(), report["failure"].is_null());
    (report["failure"]["code"].as_str().unwrap_or_default().to_owned(), peak >> 10)
}

/// The program, with an empty environment.
pub fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ironhook-actions"));
    command.env_clear();
    command
}

/// A loop device over a file of its own.
#[derive(Debug)]
pub struct Loop {
    pub path: PathBuf,
    pub file: File,
    _dir: tempfile::TempDir,
}

impl Loop {
    /// A disk of this many bytes, filled with 0xAA so that what was not written shows.
    pub fn new(size: usize, sector: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("disk");
        fs::write(&backing, vec![0xaa; size]).unwrap();
        let sector = sector.to_string();
        let args = ["--find", "--show", "--partscan", "--sector-size", &sector];
        let path = tool("losetup", &args.iter().map(Path::new).chain([backing.as_path()]).collect::<Vec<_>>());
        Self {
            path: path.trim().into(),
            file: File::options().read(true).write(true).open(backing).unwrap(),
            _dir: dir,
        }
    }

    /// A disk of zeros that takes no room until it is written.
    pub fn sparse(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("disk");
        File::create(&backing).unwrap().set_len(size).unwrap();
        let path = tool("losetup", &["--find", "--show", backing.to_str().unwrap()]);
        Self {
            path: path.trim().into(),
            file: File::options().read(true).write(true).open(backing).unwrap(),
            _dir: dir,
        }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The disk's bytes, after what the kernel still holds of them is written.
    pub fn bytes(&self) -> Vec<u8> {
        File::open(&self.path).unwrap().sync_all().unwrap();
        let mut bytes = vec![0; self.file.metadata().unwrap().len() as usize];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// No firmware and no kernel finds anything on it.
    #[track_caller]
    pub fn assert_blank_ends(&self) {
        let bytes = self.bytes();
        assert!(bytes[..MIB].iter().all(|b| *b == 0), "the head is not blank");
        assert!(bytes[bytes.len() - MIB..].iter().all(|b| *b == 0), "the tail is not blank");
    }

    /// Nothing was written, or nothing was finished.
    #[track_caller]
    pub fn assert_nothing_new_boots(&self) {
        if !self.bytes().iter().all(|b| *b == 0xaa) {
            self.assert_blank_ends();
        }
    }

    /// Nobody wrote to it.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert!(self.bytes().iter().all(|b| *b == 0xaa), "the disk was written to");
    }

    /// Another implementation finds nothing wrong with its table.
    #[track_caller]
    pub fn assert_table_is_clean(&self) {
        let output = Command::new("sgdisk").arg("--verify").arg(&self.path).output();
        match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && text.contains("No problems found"), "{text}");
            }
            Err(e) => panic!("cannot run sgdisk ({e}): install gdisk, hack/deps does"),
        }
    }

    /// What the kernel says of one of its partitions, as `1/size`.
    pub fn in_sysfs(&self, file: &str) -> String {
        let name = self.path().trim_start_matches("/dev/");
        format!("/sys/class/block/{name}p{file}")
    }

    /// Path of one of its partitions.
    pub fn partition(&self, number: u32) -> String {
        format!("{}p{number}", self.path())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// Runs a tool of the host that has to succeed.
#[track_caller]
pub fn tool<A: AsRef<std::ffi::OsStr>>(name: &str, args: &[A]) -> String {
    let output = Command::new(name).args(args).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A disk image with partitions 1 (root) and 15 (ESP) and bytes that cannot be mistaken.
pub fn image(size: usize, sector: u32) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Few different bytes, so that it can be packed.
        (state as u8) & 0x1f | 0x20
    });
    let mut bytes: Vec<u8> = noise.take(size).collect();
    bytes[..MIB].fill(0);
    let mut disk = Cursor::new(bytes);
    let mut table = Table::empty(&mut disk, sector).unwrap();
    let mib = MIB as u64 / u64::from(sector);
    let last = size as u64 / u64::from(sector) - 1;
    let make = |kind, first, last, name: &str| Partition {
        part_type_guid: kind,
        part_guid: uuid::Uuid::new_v4(),
        first_lba: first,
        last_lba: last,
        flags: 0,
        name: name.into(),
    };
    table.set(15, &make(EFI, mib, 2 * mib - 1, "esp")).unwrap();
    table.set(1, &make(LINUX_FS, 2 * mib, last - mib, "root")).unwrap();
    table.write(&mut disk).unwrap();
    disk.into_inner()
}

/// `sha256:<hex>`.
pub fn sha256(bytes: &[u8]) -> String {
    use actions::image::checksum::{Promise, parse};
    let Ok(Promise::Checked(any)) = parse(&format!("sha256:{}", "0".repeat(64))) else { panic!() };
    let mut hasher = any.hasher();
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// A block map that names these runs of bytes.
pub fn block_map(bytes: &[u8], runs: &[(usize, usize)]) -> Vec<u8> {
    let hex = |bytes: &[u8]| sha256(bytes).split_once(':').unwrap().1.to_owned();
    let of = |(from, to): &(usize, usize)| spec::bmap::Range {
        first: (from / 4096) as u64,
        last: (to / 4096 - 1) as u64,
        sha256: hex(&bytes[*from..*to]),
    };
    let ranges = runs.iter().map(of).collect();
    spec::bmap::Map { size: bytes.len() as u64, ranges }.to_xml(hex).into_bytes()
}

/// Two members.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = Vec::new();
    for half in <[&[u8]; 2]>::from(bytes.split_at(bytes.len() / 2)) {
        let mut encoder = flate2::write::GzEncoder::new(&mut out, flate2::Compression::fast());
        encoder.write_all(half).unwrap();
        encoder.finish().unwrap();
    }
    out
}

/// A skippable frame and two frames.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    for half in <[&[u8]; 2]>::from(bytes.split_at(bytes.len() / 2)) {
        out.extend(zstd::encode_all(half, 1).unwrap());
    }
    out
}
