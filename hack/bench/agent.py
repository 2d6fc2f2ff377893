#!/usr/bin/env python3
"""The agent: size, memory when idle, time to its first poll, and what an action costs over the bare tools.

An action through docker is compared with `docker run` of the same image, one through crun with `crun run` of the same
root file system; pairs are interleaved in one run. Must not be told what to expect: goals are only printed beside the
results. Needs root, an engine (hack/with-dockerd), crun (hack/with-crun) and the agent's dist build.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tarfile
import tempfile
import time

import plot

IMAGE = "ironhook-test:1"
NULL = subprocess.DEVNULL


def layout(out, root):
    """An OCI layout of a root file system, named as the engine's image is."""
    blobs = out / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(root, arcname=".")
    layer = blob("layer.v1.tar", buffer.getvalue())
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}}
    config = blob("config.v1+json", json.dumps(config).encode())
    entry = blob("manifest.v1+json", json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": f"docker.io/library/{IMAGE}"}
    (out / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def first_poll(agent, work, idle):
    """Milliseconds from exec to the first call of the agent, and its memory in KiB after `idle` seconds of waiting."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [agent, "--id=bench", "--tinkerbell-tls=false", "--protocol=classic", f"--run-dir={work}/idle"]
        begun = time.monotonic()
        process = subprocess.Popen(command + [f"--tinkerbell-grpc-authority=127.0.0.1:{server.getsockname()[1]}"], stdout=NULL, stderr=NULL)
        try:
            connection, _ = server.accept()
            connection.sendall(b"\0\0\0\4\0\0\0\0\0")  # our SETTINGS, empty
            data = b""
            while True:
                data += connection.recv(65536)
                if has_headers(data[24:]):
                    break
            took = (time.monotonic() - begun) * 1000
            time.sleep(idle)
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            rss = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))
            return took, rss
        finally:
            process.kill()
            process.wait()


def has_headers(frames):
    while len(frames) >= 9:
        if frames[3] == 1:
            return True
        frames = frames[9 + int.from_bytes(frames[:3], "big"):]
    return False


def agent_action(agent, work, executor, extra):
    """Milliseconds of an action that does nothing, from taking it to its end, by the agent's own results."""
    workflow, results = work / "workflow.yaml", work / "results.json"
    workflow.write_text(f"tasks: [{{name: t, actions: [{{name: a, image: '{IMAGE}', command: ['/bin/true']}}]}}]\n")
    command = [agent, "run", workflow, "--results", results, f"--executor={executor}", "--privileges=declared"]
    command += [f"--run-dir={work}/run", f"--worker-dir={work}/worker", *extra]
    subprocess.run(command, check=True, stdout=NULL, stderr=NULL)
    return json.loads(results.read_text())["actions"][0]["milliseconds"]


def timed(command):
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=NULL, stderr=NULL, stdin=NULL)
    return (time.monotonic() - begun) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/bench"))
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp())
    try:
        rows = measure(arguments.agent.resolve(), work, arguments.rounds)
    finally:
        shutil.rmtree(work)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "agent.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    plot.write(path)
    for row in rows:
        print(f'{row["case"]}: {row["metric"]} {row["ours"]:.1f} {row["unit"]}, {row["peers"]}')


def measure(agent, work, rounds):
    socket_path = os.environ["IRONHOOK_TEST_DOCKER"]
    root = work / "root/bin"
    root.mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "busybox")
    (root / "true").symlink_to("busybox")
    layout(work / "images", work / "root")
    bundle = work / "bundle"
    bundle.mkdir()
    subprocess.run(["crun", "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"args": ["/bin/true"], "terminal": False}
    config["root"] = {"path": str(work / "root")}
    config["linux"].pop("resources", None)
    (bundle / "config.json").write_text(json.dumps(config))
    starts = [first_poll(agent, work, 5 if i == 0 else 0) for i in range(rounds)]
    docker = ["docker", "--host", f"unix://{socket_path}", "run", "--rm", "--network=none", IMAGE, "/bin/true"]
    crun = ["crun", "--root", str(work / "crun"), "--cgroup-manager=disabled", "run", "--bundle", str(bundle), "bench"]
    ours, bare = {"docker": [], "crun": []}, {"docker": [], "crun": []}
    for i in range(rounds + 1):
        took = agent_action(agent, work, "docker", ["--docker-socket", socket_path]), timed(docker)
        also = agent_action(agent, work, "crun", ["--images", work / "images"]), timed(crun)
        # The first round fills caches, as the first action of a machine does.
        if i > 0:
            for kind, (mine, other) in (("docker", took), ("crun", also)):
                ours[kind].append(mine)
                bare[kind].append(other)

    def row(case, metric, unit, value, limit, peers):
        peers = {**peers, "at most": limit}
        return {"case": case, "metric": metric, "unit": unit, "ours": value, "peers": peers, "ratio": limit / value, "goal": 1.0}

    median = statistics.median
    rows = [
        row("static binary", "size, stripped", "MB", agent.stat().st_size / 1e6, 15.0, {}),
        row("idle", "resident memory", "MiB", starts[0][1] / 1024, 12.0, {}),
        row("start", "until the first poll", "ms", median(took for took, _ in starts), 50.0, {}),
    ]
    for kind, over in (("docker", 150.0), ("crun", 60.0)):
        base = median(bare[kind])
        rows.append(row(f"an action through {kind}", "time", "ms", median(ours[kind]), base + over, {f"{kind} run": base}))
    return rows


main()
