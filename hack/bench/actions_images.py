"""The image of `bench-actions`, in every packing, single and in pieces."""

import os
import pathlib
import shutil
import subprocess


def run(command):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def make_image(work, size):
    """A GPT with one ext4 that holds this machine's programs; more than half full."""
    raw = work / "image.raw"
    if raw.exists() and raw.stat().st_size == size << 20:
        return raw
    tree, part = work / "tree", work / "part"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    left = (size << 20) * 55 // 100
    for base in ("/usr/bin", "/usr/lib/x86_64-linux-gnu"):
        for path in sorted(pathlib.Path(base).iterdir()):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < left:
                left -= path.stat().st_size
                shutil.copy(path, tree / path.name)
    for path in work.glob("image.*"):
        path.unlink()
    run(["truncate", "-s", f"{size - 2}M", part])
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, part])
    run(["truncate", "-s", f"{size}M", raw])
    run(["sgdisk", "-n", "1:2048:0", raw])
    run(["dd", f"if={part}", f"of={raw}", "bs=1M", "seek=1", "conv=notrunc"])
    part.unlink()
    shutil.rmtree(tree)
    return raw


def make_files(work, raw):
    """Pieces of 8 MiB of content, as `ironhook image add` makes them."""
    def packed(name, script):
        path = work / f"image.{name}"
        if not path.exists():
            run(["sh", "-c", script.format(raw=raw, out=f"{path}.new")])
            os.rename(f"{path}.new", path)
        return path

    return {
        "raw": raw,
        "gz": packed("gz", "gzip -6 -c {raw} > {out}"),
        "gz-multi": packed("multi.gz", "split -b 8M --filter='gzip -6 -c' {raw} > {out}"),
        "zst": packed("zst", "zstd -q -3 -c {raw} > {out}"),
        "zst-multi": packed("multi.zst", "split -b 8M --filter='zstd -q -3 -c' {raw} > {out}"),
        "xz": packed("xz", "xz -1 -T1 -c {raw} > {out}"),
        "xz-multi": packed("multi.xz", "xz -1 -T2 --block-size=8MiB -c {raw} > {out}"),
    }
