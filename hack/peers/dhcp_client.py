"""A PXE client in plain sockets: asks once, listens a moment, and prints each answer as a line of JSON.

    dhcp_client.py MAC ARCH [--class PXEClient] [--count N] [--port 4011 --to ADDRESS] [--wait SECONDS]

With --count, as many machines as that ask at once, each with the next MAC address; the number of those that were
answered, of repetitions, and the slowest answer in milliseconds are printed instead.
"""
import argparse, json, os, socket, struct, time

COOKIE = bytes([99, 130, 83, 99])


def message(mac, xid, kind, arch, vendor, extra=b""):
    options = bytes([53, 1, kind, 93, 2]) + struct.pack(">H", arch) + bytes([94, 3, 1, 3, 16])
    vendor = f"{vendor}:Arch:{arch:05}:UNDI:003016".encode()
    options += bytes([60, len(vendor)]) + vendor + bytes([97, 17, 0]) + bytes(16) + bytes([55, 4, 1, 3, 66, 67])
    head = struct.pack(">BBBBIHH", 1, 1, 6, 0, xid, 0, 0x8000) + bytes(16) + mac + bytes(10) + bytes(192)
    return head + COOKIE + options + extra + b"\xff"


def options(packet):
    found, at = {}, 240
    while at < len(packet) and packet[at] != 255:
        if packet[at] == 0:
            at += 1
            continue
        code, length = packet[at], packet[at + 1]
        found[code] = packet[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def shown(packet, started):
    opts = options(packet)
    return {
        "ms": round((time.monotonic() - started) * 1000, 1),
        "type": opts.get(53, b"\0")[0],
        "address": socket.inet_ntoa(packet[16:20]),
        "server": socket.inet_ntoa(opts.get(54, bytes(4))),
        "next": socket.inet_ntoa(packet[20:24]),
        "file": packet[108:236].split(b"\0")[0].decode(),
        "options": sorted(opts),
    }


def link(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("", port))
    return sock


def one(args, mac):
    sock, xid = link(68), int.from_bytes(os.urandom(4), "big")
    started = time.monotonic()
    to = (args.to or "255.255.255.255", args.port)
    sock.sendto(message(mac, xid, 3 if args.port == 4011 else 1, args.arch, args.vendor), to)
    while (left := started + args.wait - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            packet = sock.recv(4096)
        except TimeoutError:
            return
        if packet[4:8] == struct.pack(">I", xid) and packet[0] == 2:
            print(json.dumps(shown(packet, started)), flush=True)


def many(args, mac):
    sock, base = link(68), int.from_bytes(mac, "big")
    waiting, slowest, repeats = {}, 0.0, 0
    for i in range(args.count):
        waiting[i] = (time.monotonic(), (base + i).to_bytes(6, "big"))
    end = time.monotonic() + args.wait
    for i, (_, own) in list(waiting.items()):
        waiting[i] = (time.monotonic(), own)
        sock.sendto(message(own, i, 1, args.arch, args.vendor), ("255.255.255.255", 67))
    sock.settimeout(1)
    while waiting and time.monotonic() < end:
        try:
            packet = sock.recv(4096)
        except TimeoutError:
            # As firmware does after its first seconds.
            for i, (_, own) in waiting.items():
                repeats += 1
                sock.sendto(message(own, i, 1, args.arch, args.vendor), ("255.255.255.255", 67))
            continue
        asked = waiting.pop(struct.unpack(">I", packet[4:8])[0], None)
        if packet[0] == 2 and asked:
            slowest = max(slowest, time.monotonic() - asked[0])
    print(json.dumps({"answered": args.count - len(waiting), "repeats": repeats, "slowest_ms": round(slowest * 1000, 1)}))


parser = argparse.ArgumentParser()
parser.add_argument("mac")
parser.add_argument("arch", type=int)
parser.add_argument("--class", dest="vendor", default="PXEClient")
parser.add_argument("--count", type=int)
parser.add_argument("--port", type=int, default=67)
parser.add_argument("--to")
parser.add_argument("--wait", type=float, default=2)
arguments = parser.parse_args()
(many if arguments.count else one)(arguments, bytes.fromhex(arguments.mac.replace(":", "")))
