"""Rates as bars, one group a case, ours first, in an SVG."""

from xml.sax.saxutils import escape

OURS, PROVEN, PEER = "#b03a2e", "#e59866", "#7f8c8d"
LEFT, BAR, WIDTH, PAGE = 120, 15, 560, 980


def plot(rows, path, title, note):
    """`rows` as in the JSON of design §7; the first line of a group says ratio and goal."""
    top = max(max(row["ours"], *row["peers"].values()) for row in rows)
    out, y = [], 64
    for row in rows:
        bars = [("ours", row["ours"], OURS)]
        bars += [(name, rate, PROVEN) for name, rate in row["peers"].items() if name.startswith("ours")]
        others = sorted(row["peers"].items(), key=lambda peer: -peer[1])
        bars += [(name, rate, PEER) for name, rate in others if not name.startswith("ours")]
        colour = OURS if row["ratio"] < row["goal"] else "#1e8449"
        out.append(f'<text x="{LEFT - 10}" y="{y + 11}" text-anchor="end" font-weight="bold">{escape(row["case"])}</text>')
        out.append(f'<text x="{PAGE - 20}" y="{y + 11}" text-anchor="end" font-weight="bold" fill="{colour}">'
                   f'{row["ratio"]:.2f}x (goal {row["goal"]:.1f}x)</text>')
        for name, rate, fill in bars:
            width = rate / top * WIDTH
            out.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 3}" fill="{fill}"/>')
            out.append(f'<text x="{LEFT + width + 5:.1f}" y="{y + BAR - 5}">{rate:.0f} {escape(name)}</text>')
            y += BAR
        y += 16
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{PAGE}" height="{y}" font-family="sans-serif" font-size="11">'
    text = (f'<rect width="100%" height="100%" fill="white"/><text x="16" y="26" font-size="16" font-weight="bold">'
            f'{escape(title)}</text><text x="16" y="46">{escape(note)}</text>')
    path.write_text(head + text + "".join(out) + "</svg>\n")
