//! `make bench-image`: assembling the full flavour from a warm cache, its memory, and `make image` after a one-line change
//! in the agent. The stock CLI beside it where there is one, and zstd alone on the finished tree, which no assembler can
//! be faster than. Writes out/bench/image.json; hack/bench/plot.py draws it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

const ROUNDS: usize = 5;
/// The goals: assembling, its memory, and all of `make image` after a change.
const SECONDS: f64 = 3.0;
const MIB: f64 = 512.0;
const REBUILT: f64 = 20.0;
const TOOL: &str = "target/x86_64-unknown-linux-gnu/debug/ironhook-image";
const YAML: &str = "linuxkit/ironhook.yaml";
/// A module of the agent that is small and that nearly nothing depends on.
const CHANGED: &str = "agent/src/main.rs";
const LINE: &str = "// A line that `make bench-image` adds and takes away.\n";

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    std::env::set_current_dir(&root)?;
    run(Command::new("make").arg("image"))?;
    let scratch = Scratch::new()?;
    let (mut ours, mut floor, mut stock, mut peak) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let tree = scratch.0.join("tree");
    run(Command::new("zstd").args(["-dqf", "out/initramfs-x86_64", "-o"]).arg(&tree))?;
    let has_stock = Command::new("linuxkit").arg("version").output().is_ok();
    for _ in 0..ROUNDS {
        let (took, memory) = measured(Command::new(TOOL).args(["build", YAML, "--out"]).arg(&scratch.0))?;
        ours.push(took.as_secs_f64());
        peak = peak.max(memory);
        let zstd = scratch.0.join("tree.zst");
        floor.push(
            measured(Command::new("zstd").args(["-3", "-T2", "-qf"]).arg(&tree).arg("-o").arg(zstd))?.0.as_secs_f64(),
        );
        if has_stock {
            let mut command = Command::new("linuxkit");
            command.args([
                "--cache",
                "out/cache/oci",
                "build",
                "--no-sbom",
                "--format",
                "kernel+initrd",
                "--name",
                "stock",
            ]);
            stock.push(measured(command.arg("--dir").arg(&scratch.0).arg(YAML))?.0.as_secs_f64());
        }
    }
    let (ours, floor) = (median(ours), median(floor));
    let mut peers = json!({"at most": SECONDS, "zstd -3 -T2 of the tree": floor});
    if has_stock {
        peers["linuxkit build (gzip)"] = json!(median(stock));
    }
    let rebuilt = after_one_line()?.as_secs_f64();
    let mib = peak as f64 / 1024.0;
    let assemble = "assemble the full flavour, warm cache, level 3";
    let rows = [
        json!({"case": assemble, "metric": "time", "unit": "s", "ours": ours, "peers": peers,
            "ratio": SECONDS / ours, "goal": 1.0}),
        json!({"case": assemble, "metric": "resident memory, peak", "unit": "MiB", "ours": mib,
            "peers": {"at most": MIB}, "ratio": MIB / mib, "goal": 1.0}),
        json!({"case": "make image after a one-line change in the agent", "metric": "time", "unit": "s", "ours": rebuilt,
            "peers": {"at most": REBUILT}, "ratio": REBUILT / rebuilt, "goal": 1.0}),
    ];
    fs::create_dir_all("out/bench")?;
    fs::write("out/bench/image.json", serde_json::to_string_pretty(&rows)? + "\n")?;
    for row in &rows {
        println!(
            "{}: {} {:.2} {} (at most {})",
            row["case"],
            row["metric"],
            row["ours"].as_f64().unwrap_or(0.0),
            row["unit"],
            row["peers"]["at most"]
        );
    }
    Ok(())
}

/// `make image` once more, with another line in the agent.
fn after_one_line() -> Result<Duration> {
    let added = Added::new(Path::new(CHANGED))?;
    let start = Instant::now();
    run(Command::new("make").arg("image"))?;
    let took = start.elapsed();
    drop(added);
    Ok(took)
}

/// A line at the end of a source file; taken away again, whatever else has changed there.
struct Added(PathBuf);

impl Added {
    fn new(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        // Before the last item, so that what follows moves and the program is another one.
        let at = text.rfind("\nfn ").context("no function in the file")? + 1;
        fs::write(path, format!("{}{LINE}{}", &text[..at], &text[at..]))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        let text = fs::read_to_string(&self.0).map(|text| text.replacen(LINE, "", 1));
        if let Err(error) = text.and_then(|text| fs::write(&self.0, text)) {
            eprintln!("bench-image: take the line `{}` out of {} by hand: {error}", LINE.trim(), self.0.display());
        }
    }
}

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("out/bench/image.{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Wall time, and the most memory it held (KiB): the kernel keeps the peak, so the last look before the end is enough.
fn measured(command: &mut Command) -> Result<(Duration, u64)> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Some(end) = child.try_wait()? {
            ensure!(end.success(), "{command:?} failed with {end}");
            return Ok((start.elapsed(), peak));
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        peak = peak.max(kib);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
