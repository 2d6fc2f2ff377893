//! `make bench-boot`: from the start of the kernel to "agent ready", against a boot of the same bytes whose process 1
//! only says how late it is. Interleaved pairs in one run, one processor, the command line of our own server.
//! Writes out/bench/boot.json; hack/bench/plot.py draws it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::direct::{Build, Machine, SERIAL, image_with};
use e2e::lab::{HTTP, Lab, Places};
use e2e::manifests::{Hardware, Step, user_data, workflow};
use spec::Mac;

const PAIRS: usize = 5;
const BOOT: Duration = Duration::from_secs(300);
const MAC: Mac = Mac::new([0x52, 0x54, 0x00, 0x00, 0x10, 40]);
/// At most twice the bare boot; our half of the ratio is then at least one half.
const RATIO: f64 = 0.5;
/// Seconds of nothing to do: waiting is a bug.
const IDLE: f64 = 0.5;

/// Says what the clock of the kernel has when the agent's phase is on the timeline. Looking for it costs a little of the
/// processor, which is no idle time, and up to a fifth of a second of `ready`.
const PROBE: &str = r#"services:
  - name: probe
    image: docker.io/ironhook/busybox:dev
    command:
      - /bin/sh
      - -c
      - >-
        until grep -q 'agent ready' /run/ironhook/timeline.jsonl; do sleep 0.2; done;
        read uptime </proc/uptime; echo "bench: uptime $uptime"; cat /run/ironhook/timeline.jsonl; exec sleep 3600
    binds: ["/run/ironhook:/run/ironhook"]
    annotations: {dev.ironhook.console: "true"}
"#;

/// One boot, in seconds.
#[derive(Clone, Copy)]
struct Boot {
    ready: f64,
    idle: f64,
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-boot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let places = Places::find()?;
    e2e::network::enter(&places.repo)?;
    let mut lab = Lab::new("bench-boot", places.clone(), &mut |step| eprintln!("bench-boot: {step}"))?;
    let hardware = Hardware {
        name: "bench".into(),
        mac: MAC,
        address: [192, 168, 56, 40].into(),
        hostname: "bench".into(),
        user_data: user_data("bench"),
    };
    lab.apply("hardware", &hardware.yaml())?;
    // Only a machine with something to do is booted; what it is to do comes after what is measured.
    lab.apply(
        "workflow",
        &workflow("bench", &hardware, &[Step::new("disk-wipe", [("DEST_DISK", "/dev/vda".into())])]),
    )?;
    let append = command_line()?;
    let yaml = fs::read_to_string(places.repo.join("linuxkit/ironhook.yaml"))?;
    let image = image_with("bench-boot-image", &[&yaml, PROBE], &[])?;
    let (ours, bare) = same_bytes(&places, &image)?;
    let mut pairs = Vec::new();
    for i in 0..PAIRS {
        lab.check()?;
        let pair = (boot(&lab, "bare", &bare, &append, "bare: ")?, boot(&lab, "ours", &ours, &append, "bench: ")?);
        eprintln!(
            "bench-boot: pair {}: bare {:.2} s, ours {:.2} s, idle {:.2} s",
            i + 1,
            pair.0.ready,
            pair.1.ready,
            pair.1.idle
        );
        pairs.push(pair);
    }
    report(&places.out.join("bench"), &pairs)
}

/// As the boot script of our server has it.
fn command_line() -> Result<String> {
    let mut stream = TcpStream::connect(HTTP)?;
    write!(stream, "GET /ipxe/script/{MAC}/auto.ipxe HTTP/1.1\r\nHost: {HTTP}\r\nConnection: close\r\n\r\n")?;
    let mut script = String::new();
    stream.read_to_string(&mut script)?;
    let line = script.lines().find_map(|line| line.strip_prefix("kernel "));
    let line = line.with_context(|| format!("no kernel in the boot script: {script}"))?;
    // After the file; up to what iPXE does next.
    let words = line.split_whitespace().skip(1).take_while(|word| !["&&", "||"].contains(word));
    let arguments: Vec<&str> = words.filter(|word| !word.starts_with("initrd=")).collect();
    ensure!(!arguments.is_empty(), "no command line in the boot script: {script}");
    Ok(arguments.join(" "))
}

/// Both images hold the same archive and the same program behind it; in one it is `/init`, in the other it is nothing.
fn same_bytes(places: &Places, image: &Path) -> Result<(PathBuf, PathBuf)> {
    let program = places.programs.join("examples/bare_init");
    ensure!(program.exists(), "{} is missing; make bench-boot builds it", program.display());
    let mut first = fs::read(image.join("initramfs-x86_64"))?;
    first.resize(first.len().next_multiple_of(4), 0);
    let make = |name: &str, path: &str| -> Result<PathBuf> {
        let directory = image.join(name);
        let top = directory.join("top");
        fs::create_dir_all(&top)?;
        fs::copy(&program, top.join(path))?;
        let pack = format!("cd {:?} && echo {path} | cpio --quiet -o -H newc", top.display().to_string());
        let packed = Command::new("sh").args(["-c", &pack]).output().context("cannot run cpio")?;
        ensure!(packed.status.success(), "cpio: {}", String::from_utf8_lossy(&packed.stderr));
        fs::write(directory.join("initramfs-x86_64"), [first.as_slice(), &packed.stdout].concat())?;
        fs::copy(image.join("vmlinuz-x86_64"), directory.join("vmlinuz-x86_64"))?;
        Ok(directory)
    };
    Ok((make("ours", "none")?, make("bare", "init")?))
}

fn boot(lab: &Lab, name: &str, image: &Path, append: &str, marker: &str) -> Result<Boot> {
    let tap = lab.tap("tap-bench")?;
    let netdev = format!("tap,id=net0,ifname={},script=no,downscript=no", tap.name());
    let card = format!("virtio-net-pci,netdev=net0,mac={MAC},romfile=");
    let qemu = [&SERIAL[..], &["-smp", "1", "-netdev", &netdev, "-device", &card]].concat();
    let machine = Machine::boot(&Build { name, yaml: &[], append, memory_mib: 3072, qemu: &qemu }, image)?;
    let line = machine.line(marker, BOOT)?.text;
    let (_, numbers) = line.split_once("uptime ").with_context(|| format!("no numbers: {line}"))?;
    let mut numbers = numbers.split_whitespace().map(str::parse);
    let mut next = || numbers.next().with_context(|| format!("no numbers: {line}"))?.context("no number");
    let (ready, idle) = (next()?, next()?);
    drop(machine);
    Ok(Boot { ready, idle })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(directory: &Path, pairs: &[(Boot, Boot)]) -> Result<()> {
    let of = |value: fn(&(Boot, Boot)) -> f64| median(pairs.iter().map(value).collect());
    let (bare, ours) = (of(|pair| pair.0.ready), of(|pair| pair.1.ready));
    let ratio = of(|pair| pair.0.ready / pair.1.ready);
    let (idle, added) = (of(|pair| pair.1.idle), of(|pair| pair.1.ready - pair.0.ready));
    let results = serde_json::json!([
        {"case": "boot", "metric": "kernel start to agent ready", "unit": "s", "ours": ours, "peers": {"bare boot of the same bytes": bare}, "ratio": ratio, "goal": RATIO},
        {"case": "boot added", "metric": "agent ready after the bare boot", "unit": "s", "ours": added, "peers": {"bare boot": bare}, "ratio": bare / added, "goal": 1.0},
        {"case": "boot idle", "metric": "idle until agent ready, one processor", "unit": "s", "ours": idle, "peers": {"at most": IDLE}, "ratio": IDLE / idle, "goal": 1.0},
    ]);
    fs::create_dir_all(directory)?;
    fs::write(directory.join("boot.json"), serde_json::to_string_pretty(&results)? + "\n")?;
    println!(
        "bench-boot: bare {bare:.2} s, agent ready {ours:.2} s, ours/bare {:.2} (goal 2.00), idle {idle:.2} s (goal {IDLE:.2})",
        ours / bare
    );
    Ok(())
}
