#!/usr/bin/env python3
"""The picture of a bench: reads out/bench/NAME.json and writes NAME.svg beside it.

Each row is one case and metric: a bar for ours and one for each peer, to the row's own scale, and the ratio (above one is
better for us) beside its goal. A limit is a peer as any other. Must not measure or judge: the ratio is the bench's.
"""

import json
import pathlib
import sys
from html import escape

PAGE, BARS, LINE = 900, 520, 18
COLOURS = {True: "#1b7f3b", False: "#b3261e", None: "#555555"}


def met(row):
    return None if row["ratio"] is None or row["goal"] is None else row["ratio"] >= row["goal"]


def bars(row, y):
    """One row of the list, from `y` downwards, and where it ends."""
    values = {"ours": row["ours"], **row["peers"]}
    longest = max(*values.values(), 1e-9) if len(values) > 1 else max(row["ours"], 1e-9)
    yield f'<text x="16" y="{y}" font-weight="bold">{escape(row["case"])}: {escape(row["metric"])} ({escape(row["unit"])})</text>'
    if row["ratio"] is not None:
        goal = "" if row["goal"] is None else f' (goal {row["goal"]:g}×)'
        yield f'<text x="{PAGE - 16}" y="{y}" text-anchor="end" font-weight="bold" fill="{COLOURS[met(row)]}">{row["ratio"]:.2f}×{goal}</text>'
    for number, (name, value) in enumerate(values.items()):
        top = y + 6 + number * LINE
        width = BARS * value / longest
        colour = "#2a6f97" if number == 0 else "#adb5bd"
        yield f'<text x="190" y="{top + 12}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect x="198" y="{top}" width="{width:.1f}" height="{LINE - 4}" fill="{colour}"/>'
        yield f'<text x="{204 + width:.1f}" y="{top + 12}">{value:,.4g}</text>'


def picture(rows):
    y, parts = 30, []
    for row in rows:
        parts.extend(bars(row, y))
        y += LINE * (1 + len(row["peers"])) + 36
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{PAGE}" height="{y}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def write(path):
    """NAME.svg beside NAME.json."""
    path.with_suffix(".svg").write_text(picture(json.loads(path.read_text())))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: hack/bench/plot.py out/bench/NAME.json...")
    for name in sys.argv[1:]:
        write(pathlib.Path(name))
