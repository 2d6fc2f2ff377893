#!/usr/bin/env python3
"""image-write against the best other ways to put the same image onto a disk: one run, ratios, a plot.

Every way gets the same file from the same server on loopback and writes the same loop device; rounds are interleaved.
Ours is timed as others work (no digest, nothing read back) and, beside it, with both. What it could reach at best is
measured too: its stages alone (hack/bench/stages.rs), and all the processor time that the server, the program and the
kernel's workers take, divided by the cores. Must not be told what to expect: goals are only printed beside the results.
Needs root, and the release builds of ironhook-actions and of the example `stages`.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from actions_images import make_files, make_image  # noqa: E402
from actions_peers import peers  # noqa: E402
import plot  # noqa: E402
from webfiles import serve  # noqa: E402

GOALS = {"gz-multi": 1.5, "zst-multi": 1.5}
OVERLAP = 0.9
# MiB of memory that the manual promises.
MEMORY = {"raw": 64, "gz": 64, "zst": 64}
MOST_MEMORY = 256
MIB = 1 << 20
# Seconds for one command.
PATIENCE = 90
# Who is so many times slower than the best is run once more, not in every round.
HOPELESS = 1.6


def kernel_workers():
    """Processor seconds of the kernel's worker threads, those of loop devices and of loopback among them."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith(("kworker", "ksoftirqd")):
                total += int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0])
        except OSError:
            pass
    return total / 1e9


def seconds(usage):
    return usage.ru_utime + usage.ru_stime


class Run:
    """One command: wall seconds, processor seconds of all it took (the server in this process too), MiB at the peak."""

    def __init__(self, command, env=None):
        before = seconds(resource.getrusage(resource.RUSAGE_SELF)) + kernel_workers()
        start = time.monotonic()
        child = subprocess.Popen(["timeout", str(PATIENCE), "bash", "-o", "pipefail", "-c", command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.said = child.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.wall = time.monotonic() - start
        self.cpu = seconds(usage) + seconds(resource.getrusage(resource.RUSAGE_SELF)) + kernel_workers() - before
        self.peak = usage.ru_maxrss / 1024
        # 124: it took longer than that.
        self.status = child.returncode
        self.failed = self.status != 0


def output(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_right(raw, disk):
    """Everything but the ends, which belong to the partition table."""
    size = os.path.getsize(raw)
    skip = f"--ignore-initial={MIB} --bytes={size - 2 * MIB}"
    return subprocess.run(f"cmp {skip} {raw} {disk}", shell=True, capture_output=True).returncode == 0


def rounds_of(ways, raw, disk, rounds):
    """Every way in turn, `rounds` times after a first that warms the caches and shows that the bytes are right."""
    runs = {name: [] for name in ways}
    for number in range(rounds + 1):
        best = min((min(run.wall for run in done) for done in runs.values() if done), default=None)
        for name, (command, env) in list(ways.items()):
            done = runs[name]
            if number > 1 and not name.startswith("ours") and min(run.wall for run in done) > HOPELESS * best:
                continue
            subprocess.run(["blkdiscard", "-f", disk], capture_output=True)
            run = Run(command, env)
            if run.failed or (number == 0 and not is_right(raw, disk)):
                why = f"status {run.status}: {run.said[-400:]}" if run.failed else "other bytes on the disk"
                print(f"{name} left out ({why})", flush=True)
                del ways[name], runs[name]
            elif number > 0:
                done.append(run)
    return runs


def stages(program, url, file, raw, disk):
    """Wall seconds of each stage alone, the best of two."""
    ways = {"fetch": f"{program} fetch {url}", "unpack": f"{program} unpack {file}", "write": f"{program} write {raw} {disk}"}
    times = {}
    for name, command in ways.items():
        for _ in range(2):
            subprocess.run(["blkdiscard", "-f", disk], capture_output=True)
            times[name] = min(times.get(name, 1e9), float(output(command.split())))
    return times


def middle(values):
    return statistics.median(values)


def measure(name, case, file, raw, port, disk, args):
    url = f"http://127.0.0.1:{port}/{file.name}"
    base = {"PATH": os.environ["PATH"], "IMG_URL": url, "DEST_DISK": disk, "WAIT_DEVICE_SECONDS": "0"}
    digest = output(["sha256sum", file]).split()[0]
    ours = f"exec {args.program} image-write"
    ways = {
        "ours": (ours, {**base, "IMG_CHECKSUM": "none", "VERIFY": "none"}),
        "ours, proven": (ours, {**base, "IMG_CHECKSUM": f"sha256:{digest}"}),
    }
    ways |= {name: (command, None) for name, command in peers(case.split("-")[0], url, disk).items()}
    runs = rounds_of(ways, raw, disk, args.rounds)
    size = os.path.getsize(raw) / 1e6
    rates = {name: size / middle([run.wall for run in done]) for name, done in runs.items()}
    others = {name: rate for name, rate in rates.items() if not name.startswith("ours")}
    best = max(others, key=others.get)
    ratio = middle([b.wall / a.wall for a, b in zip(runs["ours"], runs[best])])
    alone = stages(args.stages, url, file, raw, disk)
    wall = middle([run.wall for run in runs["ours"]])
    costs = {name: middle([run.cpu for run in done]) for name, done in runs.items()}
    bounds = {**alone, "processors": costs["ours"] / os.cpu_count()}
    bound = max(bounds, key=bounds.get)
    peak = max(run.peak for way in ("ours", "ours, proven") for run in runs[way])
    print(f"{name}: ours {rates['ours']:.0f} MB/s ({rates['ours, proven']:.0f} proven), best other {best} {others[best]:.0f}, "
          f"ratio {ratio:.2f}; bound by {bound} {bounds[bound]:.2f} s of {wall:.2f} s; peak {peak:.0f} MiB; CPU s "
          + ", ".join(f"{name} {cost:.2f}" for name, cost in costs.items()), flush=True)
    return rows(name, case, rates, ratio, bounds, wall, peak)


def rows(name, case, rates, ratio, bounds, wall, peak):
    others = {way: round(rate, 1) for way, rate in rates.items() if way != "ours"}
    limit = MEMORY.get(case, MOST_MEMORY)
    reached = max(bounds.values()) / wall
    return [
        {"case": name, "metric": "content written", "unit": "MB/s", "ours": round(rates["ours"], 1), "peers": others,
         "ratio": round(ratio, 3), "goal": GOALS.get(name, 1.0)},
        {"case": name, "metric": "overlap: the slowest stage alone, or all processor time / cores, of the time taken", "unit": "s",
         "ours": round(wall, 3), "peers": {what: round(value, 3) for what, value in bounds.items()}, "ratio": round(reached, 3), "goal": OVERLAP},
        {"case": name, "metric": "memory at the peak", "unit": "MiB", "ours": round(peak, 1), "peers": {"promised": limit},
         "ratio": round(limit / peak, 3), "goal": 1.0},
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--stages", required=True)
    parser.add_argument("--work", default="out/bench/work", type=pathlib.Path)
    parser.add_argument("--out", default="out/bench", type=pathlib.Path)
    parser.add_argument("--size", default=1536, type=int, help="MiB of the image")
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--case", action="append", help="only this; the others' results stay as they are")
    parser.add_argument("--prepare", action="store_true", help="only make the images")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    raw = make_image(args.work, args.size)
    files = make_files(args.work, raw)
    if args.prepare:
        return
    port = serve(args.work)
    path = args.out / "actions.json"
    results = json.loads(path.read_text()) if args.case and path.exists() else []
    backings = {"memory": pathlib.Path("/dev/shm/ironhook-bench.disk"), "file": args.work / "disk"}
    cases = [(case, case, "memory") for case in files] + [(f"{case}, file", case, "file") for case in ("raw", "zst-multi")]
    for name, case, where in cases:
        if args.case and name not in args.case:
            continue
        backing = backings[where]
        output(["truncate", "-s", f"{args.size + 64}M", backing])
        disk = output(["losetup", "--find", "--show", "--partscan", backing]).strip()
        try:
            new = measure(name, case, files[case], raw, port, disk, args)
        finally:
            output(["losetup", "--detach", disk])
            backing.unlink()
        order = [name for name, _, _ in cases]
        results = [row for row in results if row["case"] != name and row["case"] in order] + new
        results.sort(key=lambda row: order.index(row["case"]))
        path.write_text(json.dumps(results, indent=1) + "\n")
        plot.write(path)


if __name__ == "__main__":
    main()
