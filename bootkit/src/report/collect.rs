//! What goes into a report: everything that explains a boot and nothing that must stay secret. What cannot be read is
//! left out; every part is bounded, and so is the whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use spec::boot::BootFailure;
use spec::cmdline::{Cmdline, KEYS, Kind};
use spec::paths::{LEASE, RUN, TIMELINE};

use crate::cmdline::describe;

/// Of a log: its end.
const LOG: u64 = 256 << 10;
/// Of the kernel's messages.
const KERNEL: usize = 512 << 10;
/// Of everything else.
const FILE: u64 = 256 << 10;
/// Services whose logs are sent.
const LOGS: usize = 32;
/// Of open(2); reading the kernel's messages then ends with the last.
const O_NONBLOCK: i32 = 0o4000;

/// A `tar.gz`.
pub fn bundle(line: &Cmdline, failures: &[BootFailure]) -> io::Result<Vec<u8>> {
    let hidden = secrets(line);
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut add = |name: &str, text: Option<String>| -> io::Result<()> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
        let text = scrubbed(text, &hidden);
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, text.as_bytes())
    };
    add("failures.json", serde_json::to_string_pretty(failures).ok())?;
    add("config.txt", Some(describe(line).join("\n") + "\n"))?;
    add("boot.log", kernel())?;
    add("links.json", Some(format!("{:#}\n", links(Path::new("/sys/class/net")))))?;
    add("lease.json", end(Path::new(LEASE), FILE))?;
    add("timeline.jsonl", end(Path::new(TIMELINE), FILE))?;
    add("devices.json", end(&Path::new(RUN).join("devices.json"), FILE))?;
    add("memory.txt", end(Path::new("/proc/meminfo"), FILE))?;
    add("mounts.txt", end(Path::new("/proc/self/mounts"), FILE))?;
    for (name, text) in logs(Path::new("/var/log")) {
        add(&format!("logs/{name}"), text)?;
    }
    archive.into_inner()?.finish()
}

/// Every secret that this program knows of, and the passwords of URLs.
fn secrets(line: &Cmdline) -> Vec<String> {
    let mut found = Vec::new();
    for key in KEYS {
        let Some(value) = line.get(key) else { continue };
        if key.secret {
            found.push(value.to_owned());
        } else if matches!(key.kind, Kind::Url | Kind::Proxy | Kind::Seal(_))
            && let Some((user, _)) = value.rsplit_once('@')
        {
            found.push(user.rsplit_once("://").map_or(user, |(_, user)| user).to_owned());
        }
    }
    found.retain(|secret| secret.len() >= 3);
    found
}

fn scrubbed(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        text = text.replace(secret, "***");
    }
    text
}

/// The end of a file.
fn end(path: &Path, most: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    if length > most {
        file.seek(SeekFrom::Start(length - most)).ok()?;
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the kernel said, with its times.
fn kernel() -> Option<String> {
    let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg").ok()?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    while text.len() < KERNEL {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => text.push_str(&readable(&String::from_utf8_lossy(&record[..length]))),
            // Overwritten while it was read: the next one is there.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    Some(text)
}

/// `6,339,5140900,-;text` is priority, number, microseconds, flags, text.
fn readable(record: &str) -> String {
    let Some((head, text)) = record.split_once(';') else { return String::new() };
    let micros: u64 = head.split(',').nth(2).and_then(|text| text.parse().ok()).unwrap_or(0);
    let text = text.lines().next().unwrap_or_default();
    format!("[{:5}.{:06}] {text}\n", micros / 1_000_000, micros % 1_000_000)
}

/// Every interface, as sysfs has it.
fn links(dir: &Path) -> Value {
    let Ok(entries) = fs::read_dir(dir) else { return json!([]) };
    let mut links: Vec<Value> = entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            let text = |name: &str| fs::read_to_string(path.join(name)).ok().map(|text| text.trim().to_owned());
            let driver = fs::read_link(path.join("device/driver")).ok();
            let driver = driver.and_then(|driver| Some(driver.file_name()?.to_string_lossy().into_owned()));
            json!({
                "name": entry.file_name().to_string_lossy(), "mac": text("address"), "state": text("operstate"),
                "carrier": text("carrier"), "speed": text("speed"), "mtu": text("mtu"), "driver": driver,
            })
        })
        .collect();
    links.sort_by_key(|link| link["name"].as_str().map(str::to_owned));
    json!(links)
}

fn logs(dir: &Path) -> Vec<(String, Option<String>)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.truncate(LOGS);
    paths.iter().filter_map(|path| Some((path.file_name()?.to_string_lossy().into_owned(), end(path, LOG)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_kernel_is_read_as_dmesg_shows_it() {
        assert_eq!(readable("6,339,5140900,-;NET: Registered\n SUBSYSTEM=x\n"), "[    5.140900] NET: Registered\n");
        assert_eq!(readable("nothing"), "");
    }

    #[test]
    fn no_secret_is_in_a_report() {
        let line = Cmdline::parse("registry_password=hunter2 HTTP_PROXY=http://bob:hunter3@p:1 ironhook.ticket=t1cket");
        let failure = BootFailure {
            step: "worker".into(),
            code: "registry".into(),
            message: "Get http://bob:hunter3@p:1: hunter2 t1cket".into(),
            hint: String::new(),
            since_ms: 1,
            count: 1,
        };
        let bytes = bundle(&line, &[failure]).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        let (mut names, mut all) = (Vec::new(), String::new());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            entry.read_to_string(&mut all).unwrap();
        }
        assert!(names.contains(&"failures.json".to_owned()) && names.contains(&"links.json".to_owned()), "{names:?}");
        assert!(!all.contains("hunter") && !all.contains("t1cket") && all.contains("Get http://***@p:1"), "{all}");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(&path, "x".repeat(10) + "end").unwrap();
        assert_eq!(end(&path, 3).as_deref(), Some("end"));
        assert_eq!(logs(folder.path()), [("a.log".to_owned(), Some("xxxxxxxxxxend".to_owned()))]);
    }
}
