"""The other ways of `bench-actions` to put an image from a web server onto a disk: whatever of them is installed."""

import os
import pathlib
import shutil

TOOLS = pathlib.Path("out/cache/tools")
UNPACK = {
    "raw": {"curl, dd": "cat"},
    "gz": {"curl, igzip, dd": "igzip -d -c", "curl, pigz, dd": "pigz -d -c"},
    "zst": {"curl, zstd, dd": "zstd -q -d -c", "curl, pzstd, dd": "pzstd -q -d -c"},
    "xz": {"curl, xz, dd": "xz -T2 -d -c", "curl, pixz, dd": "pixz -d"},
}


def peers(kind, url, disk):
    """A shell line for each; `kind` is how the image is packed."""
    write = f"dd of={disk} bs=4M iflag=fullblock oflag=direct conv=fsync"
    ways = {}
    for name, program in UNPACK[kind].items():
        if program == "cat":
            ways[name] = f"curl -sf {url} | {write}"
        elif shutil.which(program.split()[0]):
            ways[name] = f"curl -sf {url} | {program} | {write}"
    core = shutil.which("coreos-installer") or TOOLS / "bin/coreos-installer"
    if os.path.exists(core):
        ways["coreos-installer"] = as_on_a_machine(f"{core} install --insecure --preserve-on-error --image-url {url} {disk}", disk)
    if shutil.which("bmaptool"):
        ways["bmaptool"] = f"bmaptool -q copy --nobmap {url} {disk}"
    if kind == "raw":
        ways |= qemu(url, disk)
    return ways


def as_on_a_machine(command, disk):
    """coreos-installer gives up where no udevd ever ran, though it only waits for it to be idle, and, when all is
    written, where one of the machine's disks may not be read. In a mount namespace it finds what a real machine has."""
    script = ["mount -t tmpfs none /run", "mkdir /run/udev", ": > /run/udev/control"]
    script += [f"mount --bind {disk} {other}" for other in pathlib.Path("/dev").glob("[sv]d[a-z]") if not readable(other)]
    return "unshare -m sh -c '" + " && ".join([*script, f"exec {command}"]) + "'"


def readable(path):
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def qemu(url, disk):
    """By its own driver for URLs (qemu-block-extra), which may lie beside a qemu-img of the same build, and from memory."""
    beside = TOOLS / "qemu"
    convert = "convert -n -W -m 8 -t none -f raw -O host_device"
    ways = {}
    if (beside / "bin/qemu-img").exists():
        ways["qemu-img"] = f"QEMU_MODULE_DIR={beside}/lib/x86_64-linux-gnu/qemu {beside}/bin/qemu-img {convert} {url} {disk}"
    elif any(pathlib.Path("/usr/lib").glob("*/qemu/block-curl.so")):
        ways["qemu-img"] = f"qemu-img {convert} {url} {disk}"
    if shutil.which("qemu-img"):
        whole = "/dev/shm/ironhook-bench.whole"
        ways["curl, qemu-img"] = f"curl -sf -o {whole} {url} && qemu-img {convert} {whole} {disk} && rm {whole}"
    return ways
