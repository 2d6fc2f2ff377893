#!/usr/bin/env python3
"""image-write against the best other ways to put the same image onto a disk: one run, ratios, a plot.

Every way gets the same file from the same server on loopback and writes the same loop device; rounds are interleaved.
Ours is timed as others work (no digest, nothing read back) and, beside it, with both. Must not be told what to expect:
goals stand in GOALS and are only printed beside the results. Needs root, and the release build of ironhook-actions.
"""

import argparse
import http.server
import json
import os
import pathlib
import resource
import shutil
import socketserver
import statistics
import subprocess
import threading
import time

GOALS = {"gz-multi": 1.5, "zst-multi": 1.5}
MIB = 1 << 20


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of one directory by sendfile, with lengths, tags and ranges."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        path = self.server.root / os.path.basename(self.path)
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        start, end = 0, size
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted[6:].partition("-")
            start, end = int(first), min(int(last) + 1, size) if last else size
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        self.end_headers()
        if body:
            with open(path, "rb") as file:
                try:
                    while start < end:
                        sent = os.sendfile(self.connection.fileno(), file.fileno(), start, min(end - start, 8 * MIB))
                        if sent == 0:
                            break
                        start += sent
                except OSError:
                    self.close_connection = True

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def run(command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)


def make_image(work, size):
    """A GPT with one ext4 that holds this machine's programs; more than half full."""
    raw = work / "image.raw"
    if raw.exists() and raw.stat().st_size == size * MIB:
        return raw
    tree = work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    left = size * MIB * 55 // 100
    for base in ("/usr/bin", "/usr/lib/x86_64-linux-gnu"):
        for path in sorted(pathlib.Path(base).iterdir()):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < left:
                left -= path.stat().st_size
                shutil.copy(path, tree / path.name)
    for path in work.glob("image.*"):
        path.unlink()
    part = work / "part"
    run(["truncate", "-s", f"{size - 2}M", part])
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, part])
    run(["truncate", "-s", f"{size}M", raw])
    run(["sgdisk", "-n", "1:2048:0", raw])
    run(["dd", f"if={part}", f"of={raw}", "bs=1M", "seek=1", "conv=notrunc"])
    part.unlink()
    shutil.rmtree(tree)
    return raw


def make_files(work, raw):
    """The image in every packing, single and in pieces."""
    def sh(name, script):
        path = work / f"image.{name}"
        if not path.exists():
            run(["sh", "-c", script.format(raw=raw, out=f"{path}.new")])
            os.rename(f"{path}.new", path)
        return path

    return {
        "raw": raw,
        "gz": sh("gz", "gzip -6 -c {raw} > {out}"),
        "gz-multi": sh("multi.gz", "split -b 8M --filter='gzip -6 -c' {raw} > {out}"),
        "zst": sh("zst", "zstd -q -3 -c {raw} > {out}"),
        "zst-multi": sh("multi.zst", "split -b 8M --filter='zstd -q -3 -c' {raw} > {out}"),
        "xz": sh("xz", "xz -1 -T1 -c {raw} > {out}"),
        "xz-multi": sh("multi.xz", "xz -1 -T2 --block-size=8MiB -c {raw} > {out}"),
    }


def peers(case, url, disk):
    """Every other way that is installed."""
    kind = case.split("-")[0]
    unpack = {
        "raw": {"curl, dd": "cat"},
        "gz": {"curl, igzip, dd": "igzip -d -c", "curl, pigz, dd": "pigz -d -c"},
        "zst": {"curl, zstd, dd": "zstd -q -d -c"},
        "xz": {"curl, xz, dd": "xz -T2 -d -c", "curl, pixz, dd": "pixz -d"},
    }[kind]
    ways = {}
    for name, program in unpack.items():
        if program == "cat":
            ways[name] = f"curl -sf {url} | dd of={disk} bs=4M iflag=fullblock oflag=direct conv=fsync"
        elif shutil.which(program.split()[0]):
            ways[name] = f"curl -sf {url} | {program} | dd of={disk} bs=4M iflag=fullblock oflag=direct conv=fsync"
    core = shutil.which("coreos-installer") or "out/cache/tools/bin/coreos-installer"
    if os.path.exists(core):
        ways["coreos-installer"] = f"{core} install --insecure --preserve-on-error --image-url {url} {disk}"
    if shutil.which("bmaptool"):
        ways["bmaptool"] = f"bmaptool -q copy --nobmap {url} {disk}"
    if kind == "raw" and shutil.which("qemu-img"):
        ways["qemu-img"] = f"qemu-img convert -n -W -m 8 -t none -f raw -O host_device {url} {disk}"
    return ways


def timed(command, env=None):
    """Wall seconds, and CPU seconds of the command and of this process, which is the server."""
    def used(who):
        usage = resource.getrusage(who)
        return usage.ru_utime + usage.ru_stime

    before = used(resource.RUSAGE_CHILDREN) + used(resource.RUSAGE_SELF)
    start = time.monotonic()
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wall = time.monotonic() - start
    cpu = used(resource.RUSAGE_CHILDREN) + used(resource.RUSAGE_SELF) - before
    return (wall, cpu) if done.returncode == 0 else (None, done.stdout.decode(errors="replace")[-400:])


def is_right(raw, disk):
    """Everything but the ends, which belong to the partition table."""
    size = os.path.getsize(raw)
    skip = f"--ignore-initial={MIB} --bytes={size - 2 * MIB}"
    return subprocess.run(f"cmp {skip} {raw} {disk}", shell=True, capture_output=True).returncode == 0


def measure(case, file, raw, port, disk, program, rounds):
    url = f"http://127.0.0.1:{port}/{file.name}"
    base = {"PATH": os.environ["PATH"], "IMG_URL": url, "DEST_DISK": disk, "WAIT_DEVICE_SECONDS": "0"}
    plain = {**base, "IMG_CHECKSUM": "none", "VERIFY": "none"}
    digest = run_output(["sha256sum", file]).split()[0]
    proven = {**base, "IMG_CHECKSUM": f"sha256:{digest}"}
    ways = {"ours": (f"{program} image-write", plain), "ours, proven": (f"{program} image-write", proven)}
    ways |= {name: (command, None) for name, command in peers(case, url, disk).items()}
    times, costs = {name: [] for name in ways}, {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, (command, env) in list(ways.items()):
            subprocess.run(["blkdiscard", "-f", disk], capture_output=True)
            wall, cpu = timed(command, env)
            if wall is None:
                print(f"{case}: {name} left out: {cpu}")
                del ways[name]
                continue
            if number == 0:
                # The first round warms the caches and shows that the bytes are right.
                if not is_right(raw, disk):
                    print(f"{case}: {name} left out: other bytes on the disk")
                    del ways[name]
                continue
            times[name].append(wall)
            costs[name].append(cpu)
    size = os.path.getsize(raw) / 1e6
    rates = {name: size / statistics.median(values) for name, values in times.items() if values}
    others = {name: rate for name, rate in rates.items() if not name.startswith("ours")}
    best = max(others, key=others.get)
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times[best]))
    bound = statistics.median(costs["ours"]) / os.cpu_count()
    print(f"{case}: ours {rates['ours']:.0f} MB/s ({rates['ours, proven']:.0f} proven), best other {best} "
          f"{others[best]:.0f} MB/s, ratio {ratio:.2f}; CPU bound {bound:.2f} s of {statistics.median(times['ours']):.2f} s", flush=True)
    others["ours, proven"] = rates["ours, proven"]
    goal = GOALS.get(case, 1.0)
    return [
        {"case": case, "metric": "content written", "unit": "MB/s", "ours": round(rates["ours"], 1),
         "peers": {name: round(rate, 1) for name, rate in others.items()}, "ratio": round(ratio, 3), "goal": goal},
        {"case": f"{case}: both cores busy", "metric": "CPU seconds of all stages and the server / cores / wall", "unit": "1",
         "ours": round(bound / statistics.median(times["ours"]), 3), "peers": {},
         "ratio": round(bound / statistics.median(times["ours"]), 3), "goal": 0.9},
    ]


def run_output(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def plot(rows, path, title):
    """Bars of rates, one group a case."""
    rows = [row for row in rows if row["unit"] == "MB/s"]
    names = ["ours", *sorted({name for row in rows for name in row["peers"]}, key=lambda n: (n != "ours, proven", n))]
    colours = ["#c0392b", "#e59866", "#2e86c1", "#58d68d", "#8e44ad", "#f1c40f", "#566573", "#a04000", "#1abc9c", "#d98880"]
    colour = dict(zip(names, colours))
    top = max(max(row["ours"], *row["peers"].values()) for row in rows) * 1.1
    left, bar, height, y = 110, 13, 520, 60
    out = []
    for row in rows:
        values = {"ours": row["ours"], **row["peers"]}
        out.append(f'<text x="{left - 8}" y="{y + bar * len(values) / 2 + 4}" text-anchor="end" font-weight="bold">{row["case"]}</text>')
        for name in [n for n in names if n in values]:
            width = values[name] / top * 640
            out.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{bar - 2}" fill="{colour[name]}"/>')
            out.append(f'<text x="{left + width + 4:.1f}" y="{y + bar - 4}">{values[name]:.0f} {name}</text>')
            y += bar
        out.append(f'<text x="{left + 720}" y="{y - bar * len(values) / 2 + 4}" font-weight="bold">{row["ratio"]:.2f}x (goal {row["goal"]:.1f})</text>')
        y += 14
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="980" height="{y + 10}" font-family="sans-serif" font-size="10">'
    text = f'<rect width="100%" height="100%" fill="white"/><text x="10" y="22" font-size="15" font-weight="bold">{title}</text>'
    note = '<text x="10" y="40">MB/s of content on a loop device; ratio: ours against the best of the others, median of interleaved rounds</text>'
    path.write_text(head + text + note + "".join(out) + "</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--work", default="out/bench/work", type=pathlib.Path)
    parser.add_argument("--out", default="out/bench", type=pathlib.Path)
    parser.add_argument("--size", default=768, type=int, help="MiB of the image")
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--case", action="append")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    raw = make_image(args.work, args.size)
    files = make_files(args.work, raw)
    server = Server(("127.0.0.1", 0), Handler)
    server.root = args.work
    threading.Thread(target=server.serve_forever, daemon=True).start()
    json_path = args.out / "actions.json"
    rows = json.loads(json_path.read_text()) if args.case and json_path.exists() else []
    backings = {"memory": pathlib.Path("/dev/shm/ironhook-bench.disk"), "file": args.work / "disk"}
    cases = [(f"{case}{'' if where == 'memory' else ', file'}", case, where)
             for where in backings for case in files if where == "memory" or case in ("raw", "zst-multi")]
    for name, case, where in cases:
        if args.case and name not in args.case:
            continue
        backing = backings[where]
        run(["truncate", "-s", f"{args.size + 64}M", backing])
        disk = run_output(["losetup", "--find", "--show", "--partscan", backing]).strip()
        try:
            new = measure(name, files[case], raw, server.server_address[1], disk, args.program, args.rounds)
        finally:
            run(["losetup", "--detach", disk])
            backing.unlink()
        rows = [row for row in rows if row["case"].split(":")[0] != name] + new
        json_path.write_text(json.dumps(rows, indent=1) + "\n")
        plot(rows, args.out / "actions.svg", "image-write over loopback HTTP, %d cores, %d MiB image" % (os.cpu_count(), args.size))


if __name__ == "__main__":
    main()
