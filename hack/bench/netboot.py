#!/usr/bin/env python3
"""DHCP against dnsmasq and Kea, TFTP against dnsmasq and tftpd-hpa, HTTP against nginx: one run, rounds interleaved.

Each server has a network namespace of its own with one client beside it, and the same generator, reservations and files.
CPU is that of the server's processes as the kernel counts it. Absolute figures are goals that are only printed beside the
results. Needs root (hack/in-lab), dnsmasq, kea-dhcp4, in.tftpd, nginx, curl and the server's release build.
"""

import argparse, json, os, pathlib, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

REPO = pathlib.Path(__file__).resolve().parents[2]
NULL = subprocess.DEVNULL
TICK = os.sysconf("SC_CLK_TCK")
COOKIE = bytes([99, 130, 83, 99])
SERVER, MACHINES = "10.80.0.1", 1000


def mac(i):
    return bytes([0x52, 0x54]) + struct.pack(">I", i)


def address(i):
    return f"10.80.{4 + i // 250}.{1 + i % 250}"


def text(m):
    return ":".join(f"{b:02x}" for b in m)


def sh(words):
    subprocess.run(words.split(), check=True)


# The generator runs in the client's namespace and prints JSON.

def message(kind, i, xid, extra=b""):
    head = struct.pack(">BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + mac(i) + bytes(10) + bytes(192)
    vendor = b"PXEClient:Arch:00000:UNDI:002001"
    opts = bytes([53, 1, kind, 60, len(vendor)]) + vendor + bytes([93, 2, 0, 0, 94, 3, 1, 2, 1, 55, 4, 1, 3, 66, 67])
    return head + COOKIE + opts + extra + b"\xff"


def receive(sock, xid):
    while True:
        packet = sock.recv(4096)
        if packet[0] == 2 and packet[4:8] == struct.pack(">I", xid):
            return packet


def transaction(sock, i, xid):
    to = ("255.255.255.255", 67)
    begun = time.perf_counter()
    sock.sendto(message(1, i, xid), to)
    offer = receive(sock, xid)
    middle = time.perf_counter()
    extra = bytes([50, 4]) + offer[16:20] + bytes([54, 4]) + socket.inet_aton(SERVER)
    sock.sendto(message(3, i, xid, extra), to)
    receive(sock, xid)
    return [(middle - begun) * 1e3, (time.perf_counter() - middle) * 1e3]


def generate(count):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.bind(("", 68))
    sock.settimeout(5)
    times, lost = [], 0
    for n in range(count):
        try:
            times += transaction(sock, n % MACHINES, 1000 + n)
        except TimeoutError:
            lost += 1
    times.sort()
    print(json.dumps({"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "lost": lost, "done": count - lost}))


class Host:
    """A server's namespace `s<n>` and its client's `c<n>`."""

    def __init__(self, n):
        self.n = n
        sh(f"ip netns add s{n}")
        sh(f"ip netns add c{n}")
        sh(f"ip link add eth0 netns s{n} type veth peer name eth0 netns c{n}")
        for side, ip in [("s", SERVER), ("c", "10.80.0.2")]:
            sh(f"ip -n {side}{n} address add {ip}/16 dev eth0")
            sh(f"ip -n {side}{n} link set eth0 up")
            sh(f"ip -n {side}{n} link set lo up")
        self.processes = []

    def serve(self, words, **more):
        process = subprocess.Popen(["ip", "netns", "exec", f"s{self.n}", *map(str, words)], stdout=NULL, stderr=NULL, **more)
        self.processes.append(process)
        return process

    def client(self, words, **more):
        return subprocess.run(["ip", "netns", "exec", f"c{self.n}", *map(str, words)], **more)

    def cpu(self, process):
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICK

    def dhcp(self, count):
        out = self.client([sys.executable, __file__, "--generate", count], check=True, stdout=subprocess.PIPE).stdout
        return json.loads(out)


def hardware(first, count):
    return "---\n".join(
        f"apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {{name: m{i}}}\nspec:\n  interfaces:\n    - netboot: {{allowPXE: true}}\n"
        f"      dhcp:\n        mac: \"{text(mac(i))}\"\n        ip: {{address: {address(i)}, netmask: 255.255.0.0}}\n" for i in range(first, first + count))


def wait(host, test):
    for _ in range(600):
        if host.client(["ip", "netns", "exec", f"s{host.n}", "sh", "-c", test], stderr=NULL, stdout=NULL).returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"never true: {test}")


def ours(program, work, files, machines, host):
    for name in ["state", "loaders"]:
        (work / name).mkdir()
    shutil.copy(files / "big", work / "loaders/big")
    (work / "loaders/undionly.kpxe").write_bytes(bytes(100_000))
    (work / "serve.yaml").write_text(
        f"address: {SERVER}\ninterface: eth0\nstate: {work}/state\nartifacts: {files}\nloaders: {work}/loaders\nfiles: {files}\nmetadata: off\n")
    process = host.serve([program, "serve", "--config", work / "serve.yaml"], env={**os.environ, "IRONHOOK_LOG": "warn"})
    wait(host, "curl -sf http://127.0.0.1:7480/healthz")
    apply(program, work, host, 0, machines)
    return process


def apply(program, work, host, first, count):
    for start in range(first, first + count, 1000):
        (work / "machines.yaml").write_text(hardware(start, 1000))
        subprocess.run(["ip", "netns", "exec", f"s{host.n}", program, "apply", "-f", work / "machines.yaml"], check=True, stdout=NULL)


def dnsmasq(work, files, host):
    hosts = work / "hosts"
    hosts.write_text("".join(f"{text(mac(i))},{address(i)}\n" for i in range(MACHINES)))
    return host.serve(["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--user=root", "--quiet-dhcp",
                       "--no-ping", "--leasefile-ro", "--dhcp-range=10.80.0.0,static,255.255.0.0", f"--dhcp-hostsfile={hosts}",
                       "--dhcp-boot=undionly.kpxe", "--dhcp-authoritative", "--enable-tftp", f"--tftp-root={files}"])


def kea(work, host):
    reservations = [{"hw-address": text(mac(i)), "ip-address": address(i)} for i in range(MACHINES)]
    config = {"Dhcp4": {"interfaces-config": {"interfaces": ["eth0"]}, "lease-database": {"type": "memfile", "persist": False},
              "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "/dev/null"}]}],
              "boot-file-name": "undionly.kpxe", "next-server": SERVER,
              "subnet4": [{"subnet": "10.80.0.0/16", "reservations": reservations}]}}
    (work / "kea.json").write_text(json.dumps(config))
    return host.serve(["kea-dhcp4", "-c", work / "kea.json"], env={**os.environ, "KEA_PIDFILE_DIR": str(work), "KEA_LOCKFILE_DIR": "none"})


def nginx(work, files, host):
    (work / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {work}/nginx.pid; error_log /dev/null; events {{}}\n"
        f"http {{ access_log off; sendfile on; server {{ listen 7080; location /files/ {{ alias {files}/; }} }} }}\n")
    return host.serve(["nginx", "-c", work / "nginx.conf", "-p", work])


def downloads(host, n):
    url = f"http://{SERVER}:7080/files/big"
    loop = f"while :; do curl -s -o /dev/null {url}; done"
    return [subprocess.Popen(["ip", "netns", "exec", f"c{host.n}", "sh", "-c", loop], start_new_session=True) for _ in range(n)]


def fetch(host, process, url, size):
    cpu, begun = host.cpu(process), time.perf_counter()
    host.client(["curl", "-sS", "--tftp-blksize", "1428", "-o", "/dev/null", url], check=True)
    took = time.perf_counter() - begun
    return size / took / 1e6, (host.cpu(process) - cpu) / (size / 1e9)


class Results(list):
    def add(self, case, metric, unit, own, peers, higher=True, goal=None):
        best = (max if higher else min)(peers.values()) if peers else None
        ratio = None if not best or not own else round(own / best if higher else best / own, 3)
        self.append({"case": case, "metric": metric, "unit": unit, "ours": round(own, 3), "peers": {k: round(v, 3) for k, v in peers.items()},
                     "ratio": ratio, "goal": goal})
        print(json.dumps(self[-1]), flush=True)


def svg(results, path):
    rows = [r for r in results if r["ratio"]]
    bars = "".join(
        f'<text x="0" y="{20 * i + 14}">{r["case"]}: {r["metric"]}</text><rect x="330" y="{20 * i + 4}" width="{min(r["ratio"], 5) * 100:.0f}" height="12" '
        f'fill="#4a7"/><text x="{340 + min(r["ratio"], 5) * 100:.0f}" y="{20 * i + 14}">{r["ratio"]}x</text>' for i, r in enumerate(rows))
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{20 * len(rows) + 10}" font-family="sans-serif" font-size="12">{bars}</svg>\n')


def medians(rounds):
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}


def run(args, work):
    files = work / "files"
    files.mkdir()
    size = args.megabytes << 20
    (files / "big").write_bytes(os.urandom(1 << 20) * args.megabytes)
    hosts = {name: Host(n) for n, name in enumerate(["ours", "dnsmasq", "kea"])}
    dirs = {name: work / name for name in [*hosts, "nginx"]}
    for path in dirs.values():
        path.mkdir()
    servers = {"ours": ours(args.program, dirs["ours"], files, MACHINES, hosts["ours"]),
               "dnsmasq": dnsmasq(dirs["dnsmasq"], files, hosts["dnsmasq"]), "kea": kea(dirs["kea"], hosts["kea"])}
    web = {"ours": servers["ours"], "dnsmasq": nginx(dirs["nginx"], files, hosts["dnsmasq"])}
    tftpd = hosts["kea"].serve(["in.tftpd", "-L", "-s", files, "-a", f"{SERVER}:69"])
    time.sleep(3)
    results = Results()
    for host in hosts.values():
        host.dhcp(50)
    idle = {name: [] for name in hosts}
    for _ in range(args.rounds):
        for name, host in hosts.items():
            cpu = host.cpu(servers[name])
            told = host.dhcp(args.transactions)
            told["per_cpu"] = told["done"] / max(host.cpu(servers[name]) - cpu, 1 / TICK)
            idle[name].append(told)
    idle = {name: medians(rounds) for name, rounds in idle.items()}
    peers = lambda table, key: {name: table[name][key] for name in table if name != "ours"}
    results.add("dhcp idle", "transactions per CPU second", "1/s", idle["ours"]["per_cpu"], peers(idle, "per_cpu"), goal=1.0)
    for key in ["p50", "p99"]:
        results.add("dhcp idle", key, "ms", idle["ours"][key], peers(idle, key), higher=False, goal=1.0)
    busy = {}
    for name in ["ours", "dnsmasq"]:
        load = downloads(hosts[name], 4)
        time.sleep(1)
        busy[name] = hosts[name].dhcp(args.transactions)
        for process in load:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    results.add("dhcp while http saturates", "p50", "ms", busy["ours"]["p50"], peers(busy, "p50"), higher=False, goal=1.0)
    results.add("dhcp while http saturates", "p99", "ms (goal: at most 10)", busy["ours"]["p99"], peers(busy, "p99"), higher=False, goal=1.0)
    for case, places in [
        ("tftp", {"ours": ("ours", servers["ours"], "tftp"), "dnsmasq": ("dnsmasq", servers["dnsmasq"], "tftp"), "tftpd-hpa": ("kea", tftpd, "tftp")}),
        ("http", {"ours": ("ours", web["ours"], "http"), "nginx": ("dnsmasq", web["dnsmasq"], "http")}),
    ]:
        table = {name: [] for name in places}
        for _ in range(args.rounds):
            for name, (host, process, scheme) in places.items():
                url = f"tftp://{SERVER}/big" if scheme == "tftp" else f"http://{SERVER}:7080/files/big"
                rate, cpu = fetch(hosts[host], process, url, size)
                table[name].append({"rate": rate, "cpu": cpu})
        table = {name: medians(rounds) for name, rounds in table.items()}
        results.add(case, "throughput", "MB/s", table["ours"]["rate"], peers(table, "rate"), goal=0.95)
        results.add(case, "CPU per GB", "s", table["ours"]["cpu"], peers(table, "cpu"), higher=False, goal=0.95)
    out = hosts["ours"].client([sys.executable, REPO / "hack/peers/dhcp_client.py", text(mac(0)), "0", "--count", str(MACHINES), "--wait", "20"],
                               check=True, stdout=subprocess.PIPE).stdout
    told = json.loads(out)
    results.add("1000 machines at once", "answered", "machines", told["answered"], {}, goal=MACHINES)
    results.add("1000 machines at once", "slowest answer", "ms", told["slowest_ms"], {}, goal=1000)
    apply(args.program, dirs["ours"], hosts["ours"], MACHINES, 9000)
    status = pathlib.Path(f"/proc/{servers['ours'].pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    results.add("10000 known machines", "RSS", "MiB", rss / 1024, {}, higher=False, goal=256)
    for host in hosts.values():
        for process in host.processes:
            process.kill()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transactions", type=int, default=2000)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.generate:
        return generate(args.generate)
    args.program = args.program.resolve()
    with tempfile.TemporaryDirectory() as work:
        results = run(args, pathlib.Path(work))
    out = REPO / "out/bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "netboot.json").write_text(json.dumps(results, indent=1) + "\n")
    svg(results, out / "netboot.svg")


main()
