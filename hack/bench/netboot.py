#!/usr/bin/env python3
"""DHCP against dnsmasq and Kea, TFTP against dnsmasq and tftpd-hpa, HTTP against nginx: one run, rounds interleaved.

Each server has a network namespace of its own with one client beside it, and the same generator, reservations and files.
CPU is that of the server's processes as the kernel counts it. Absolute figures are goals that are only printed beside the
results. Needs root (hack/in-lab), dnsmasq, kea-dhcp4, in.tftpd, nginx, curl and the server's release build.
"""

import argparse, errno, json, os, pathlib, resource, selectors, signal, socket, statistics, struct, subprocess, sys, tempfile, time

import plot

REPO = pathlib.Path(__file__).resolve().parents[2]
NULL = subprocess.DEVNULL
TICK = os.sysconf("SC_CLK_TCK")
COOKIE = bytes([99, 130, 83, 99])
SERVER, MACHINES, LOADER = "10.80.0.1", 1000, 100_000


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


def client_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    sock.bind(("", 68))
    return sock


def generate(count):
    sock = client_socket()
    sock.settimeout(5)
    times, lost = [], 0
    for n in range(count):
        try:
            times += transaction(sock, n % MACHINES, 1000 + n)
        except TimeoutError:
            lost += 1
    times.sort()
    print(json.dumps({"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "lost": lost, "done": count - lost}))


# A firmware's first time-out (PXE 2.1 §2.2.4: 4 seconds, then longer).
PATIENCE = 4


class Machine:
    """DISCOVER, REQUEST, the loader by TFTP, the script by HTTP: what a machine does between power and iPXE's script."""

    def __init__(self, rack, i):
        self.rack, self.i, self.sock, self.block, self.bytes, self.slowest, self.timeouts = rack, i, None, 1, 0, 0.0, 0
        self.dhcp(1)

    def said(self, send, state):
        self.state, self.send = state, send
        self.again()

    def again(self):
        self.since = time.monotonic()
        self.send()

    def answered(self):
        self.slowest = max(self.slowest, time.monotonic() - self.since)

    def dhcp(self, kind, extra=b""):
        self.said(lambda: self.rack.dhcp.sendto(message(kind, self.i, self.i, extra), ("255.255.255.255", 67)), f"dhcp {kind}")

    def heard(self, packet):
        kind = packet[packet.index(bytes([53, 1]), 240) + 2]
        if (self.state, kind) == ("dhcp 1", 2):
            self.answered()
            self.dhcp(3, bytes([50, 4]) + packet[16:20] + bytes([54, 4]) + socket.inet_aton(SERVER))
        elif (self.state, kind) == ("dhcp 3", 5):
            self.answered()
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.rack.wait(self.sock, selectors.EVENT_READ, self.tftp)
            self.said(lambda: self.sock.sendto(b"\0\x01undionly.kpxe\0octet\0blksize\x001428\0", (SERVER, 69)), "tftp")

    def tftp(self, _):
        packet, peer = self.sock.recvfrom(2048)
        number = struct.unpack(">H", packet[2:4])[0] if packet[1] == 3 else 0
        if packet[1] == 3 and number == self.block % 65536:
            self.bytes, self.block = self.bytes + len(packet) - 4, self.block + 1
        self.answered()
        self.said(lambda: self.sock.sendto(struct.pack(">HH", 4, self.block - 1), peer), "tftp")
        if packet[1] == 3 and len(packet) < 1432:
            assert self.bytes == LOADER, self.bytes
            self.rack.done(self.sock)
            self.http()

    def http(self):
        self.sock, self.text = socket.socket(), b""
        self.sock.setblocking(False)
        assert self.sock.connect_ex((SERVER, 7080)) in (0, errno.EINPROGRESS)
        self.rack.wait(self.sock, selectors.EVENT_WRITE, self.ask)
        self.said(lambda: None, "http")

    def ask(self, _):
        self.sock.sendall(f"GET /ipxe/script/{text(mac(self.i))}/auto.ipxe HTTP/1.0\r\nHost: {SERVER}\r\n\r\n".encode())
        self.rack.done(self.sock, close=False)
        self.rack.wait(self.sock, selectors.EVENT_READ, self.script)

    def script(self, _):
        piece = self.sock.recv(65536)
        self.text += piece
        if not piece:
            self.answered()
            assert b"#!ipxe" in self.text, self.text
            self.rack.done(self.sock)
            self.state = "ready"


class Rack:
    def __init__(self):
        self.selector = selectors.EpollSelector()
        self.dhcp = client_socket()
        self.wait(self.dhcp, selectors.EVENT_READ, self.heard)

    def wait(self, sock, events, then):
        self.selector.register(sock, events, then)

    def done(self, sock, close=True):
        self.selector.unregister(sock)
        if close:
            sock.close()

    def heard(self, _):
        packet = self.dhcp.recv(4096)
        if packet[0] == 2:
            self.machines[struct.unpack(">I", packet[4:8])[0]].heard(packet)

    def power_on(self, count):
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
        begun, self.machines = time.monotonic(), [Machine(self, i) for i in range(count)]
        waiting, end = self.machines, begun + 90
        while waiting and time.monotonic() < end:
            for key, _ in self.selector.select(0.5):
                key.data(key.fileobj)
            waiting = [m for m in waiting if m.state != "ready"]
            for m in waiting:
                if time.monotonic() - m.since > PATIENCE:
                    m.timeouts += 1
                    m.again()
        ready = [m for m in self.machines if m.state == "ready"]
        print(json.dumps({"ready": len(ready), "timeouts": sum(m.timeouts for m in self.machines),
                          "slowest": max(m.slowest for m in self.machines) * 1e3, "took": time.monotonic() - begun}))


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

    def generator(self, *words):
        return json.loads(self.client([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE).stdout)

    def client(self, words, **more):
        return subprocess.run(["ip", "netns", "exec", f"c{self.n}", *map(str, words)], **more)

    def cpu(self, process):
        """Of the server and its children that live."""
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return sum(self.times(pid) for pid in [process.pid, *children])

    def times(self, pid):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return sum(map(int, fields[11:13])) / TICK

    def dhcp(self, count):
        return self.generator("--generate", count)


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
    (work / "loaders/undionly.kpxe").write_bytes(bytes(LOADER))
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
        f"daemon off; worker_processes auto; user root; pid {work}/nginx.pid; error_log /dev/null; events {{}}\n"
        f"http {{ access_log off; sendfile on; server {{ listen 7080; location /files/ {{ alias {files}/; }} }} }}\n")
    return host.serve(["nginx", "-c", work / "nginx.conf", "-p", work])


def downloads(host, n):
    url = f"http://{SERVER}:7080/files/big"
    loop = f"while :; do curl -s -o /dev/null {url}; done"
    return [subprocess.Popen(["ip", "netns", "exec", f"c{host.n}", "sh", "-c", loop], start_new_session=True) for _ in range(n)]


def fetch(host, process, urls, size):
    """tftpd-hpa forks for every transfer and does not wait for its children: they are looked at until they are gone."""
    cpu, begun = host.cpu(process), time.perf_counter()
    words = [word for url in urls for word in ["-o", "/dev/null", url]]
    curl = subprocess.Popen(["ip", "netns", "exec", f"c{host.n}", "curl", "-sS", "--fail", "--tftp-blksize", "1428", *words])
    most = cpu
    while curl.poll() is None:
        most = max(most, host.cpu(process))
        time.sleep(0.02)
    took, size = time.perf_counter() - begun, size * len(urls)
    assert curl.returncode == 0, curl.returncode
    return {"rate": size / took / 1e6, "cpu": (max(most, host.cpu(process), cpu + 1 / TICK) - cpu) / (size / 1e9)}


class Results(list):
    def add(self, case, metric, unit, own, peers, higher=True, goal=None, ratio=None):
        self.append({"case": case, "metric": metric, "unit": unit, "ours": round(own, 3), "peers": {k: round(v, 3) for k, v in peers.items()},
                     "ratio": ratio, "goal": goal})
        print(json.dumps(self[-1]), flush=True)

    def at_most(self, case, metric, unit, own, limit):
        # One more than each, so that none at all is a figure too.
        self.add(case, metric, unit, own, {"at most": limit}, goal=1.0, ratio=round((limit + 1) / (own + 1), 3))

    def compare(self, case, metric, unit, rounds, key, higher=True, goal=1.0):
        """`rounds`: by server, what each round measured. The ratio is the median of those of the rounds, to the peer whose median is best."""
        medians = {name: statistics.median(r[key] for r in measured) for name, measured in rounds.items()}
        own = medians.pop("ours")
        best = (max if higher else min)(medians, key=medians.get)
        pairs = [(o[key] / p[key] if higher else p[key] / o[key]) for o, p in zip(rounds["ours"], rounds[best])]
        self.add(case, metric, unit, own, medians, goal=goal, ratio=round(statistics.median(pairs), 3))


def dhcp(results, args, hosts, servers):
    for host in hosts.values():
        host.dhcp(50)
    rounds = {name: [] for name in hosts}
    for _ in range(args.rounds):
        for name, host in hosts.items():
            cpu = host.cpu(servers[name])
            told = host.dhcp(args.transactions)
            told["per_cpu"] = told["done"] / max(host.cpu(servers[name]) - cpu, 1 / TICK)
            rounds[name].append(told)
    results.compare("dhcp idle", "transactions per CPU second", "1/s", rounds, "per_cpu")
    for key in ["p50", "p99"]:
        results.compare("dhcp idle", key, "ms", rounds, key, higher=False)


def busy(results, args, hosts):
    """Each answers while the HTTP server beside it (its own, or nginx) and four downloads take both processors."""
    rounds = {name: [] for name in hosts}
    for _ in range(args.rounds):
        for name, host in hosts.items():
            load = downloads(host, 4)
            time.sleep(0.5)
            rounds[name].append(host.dhcp(args.transactions // 4))
            for process in load:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    for key in ["p50", "p99"]:
        results.compare("dhcp while http saturates", key, "ms", rounds, key, higher=False)
    results.at_most("dhcp while http saturates", "p99", "ms", results[-1]["ours"], 10)


def transfers(results, args, hosts, case, places, urls, size):
    rounds = {name: [] for name in places}
    for _ in range(args.rounds):
        for name, (host, process) in places.items():
            rounds[name].append(fetch(hosts[host], process, urls, size))
    results.compare(case, "throughput", "MB/s", rounds, "rate", goal=0.95)
    results.compare(case, "CPU per GB", "s", rounds, "cpu", higher=False, goal=0.95)


def run(args, work):
    files = work / "files"
    files.mkdir()
    big, small = args.megabytes << 20, args.megabytes << 17
    (files / "big").write_bytes(os.urandom(1 << 20) * args.megabytes)
    (files / "initramfs-x86_64").write_bytes(os.urandom(1 << 17) * args.megabytes)
    hosts = {name: Host(n) for n, name in enumerate(["ours", "dnsmasq", "kea"])}
    dirs = {name: work / name for name in [*hosts, "nginx", "nginx2"]}
    for path in dirs.values():
        path.mkdir()
    servers = {"ours": ours(args.program, dirs["ours"], files, MACHINES, hosts["ours"]),
               "dnsmasq": dnsmasq(dirs["dnsmasq"], files, hosts["dnsmasq"]), "kea": kea(dirs["kea"], hosts["kea"])}
    web = nginx(dirs["nginx"], files, hosts["dnsmasq"])
    nginx(dirs["nginx2"], files, hosts["kea"])
    tftpd = hosts["kea"].serve(["in.tftpd", "-L", "-s", files, "-a", f"{SERVER}:69"])
    for host in hosts.values():
        wait(host, f"curl -sfI http://{SERVER}:7080/files/initramfs-x86_64")
        wait(host, f"curl -sf tftp://{SERVER}/initramfs-x86_64 -o /dev/null")
    results = Results()
    if "dhcp" in args.only:
        dhcp(results, args, hosts, servers)
    if "busy" in args.only:
        busy(results, args, hosts)
    if "tftp" in args.only:
        places = {"ours": ("ours", servers["ours"]), "dnsmasq": ("dnsmasq", servers["dnsmasq"]), "tftpd-hpa": ("kea", tftpd)}
        transfers(results, args, hosts, "tftp", places, [f"tftp://{SERVER}/initramfs-x86_64"], small)
    if "http" in args.only:
        places = {"ours": ("ours", servers["ours"]), "nginx": ("dnsmasq", web)}
        transfers(results, args, hosts, "http", places, [f"http://{SERVER}:7080/files/big"] * 8, big)
    if "rack" in args.only:
        told = hosts["ours"].generator("--power-on", MACHINES)
        results.at_most("1000 machines at once", "without their script", "machines", MACHINES - told["ready"], 0)
        results.at_most("1000 machines at once", "time-outs (4 s)", "1", told["timeouts"], 0)
        results.at_most("1000 machines at once", "slowest answer", "ms", told["slowest"], PATIENCE * 1000)
        results.add("1000 machines at once", "all have their script after", "s", told["took"], {})
        apply(args.program, dirs["ours"], hosts["ours"], MACHINES, 9000)
        status = pathlib.Path(f"/proc/{servers['ours'].pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        results.at_most("10000 known machines", "RSS", "MiB", rss / 1024, 256)
    for host in hosts.values():
        for process in host.processes:
            process.kill()
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transactions", type=int, default=4000)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--only", nargs="+", default=["dhcp", "busy", "tftp", "http", "rack"], help="these parts; nothing is written then")
    parser.add_argument("--generate", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--power-on", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.generate:
        return generate(args.generate)
    if args.power_on:
        return Rack().power_on(args.power_on)
    args.program = args.program.resolve()
    # Names of namespaces are files; in a mount namespace of our own they end with it.
    pathlib.Path("/run/netns").mkdir(exist_ok=True)
    sh("mount -t tmpfs tmpfs /run/netns")
    with tempfile.TemporaryDirectory() as work:
        results = run(args, pathlib.Path(work))
    if len(args.only) < 5:
        return
    out = REPO / "out/bench"
    out.mkdir(parents=True, exist_ok=True)
    (out / "netboot.json").write_text(json.dumps(results, indent=1) + "\n")
    plot.write(out / "netboot.json")


main()
