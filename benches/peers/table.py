"""The README's tables, in Markdown."""

import statistics

OURS = "Qalqan"


def of(rows):
    return "\n\n".join(part for part in (cpu(rows), rest(rows)) if part)


def cpu(rows):
    """Microseconds an answer and, in brackets, how many times the floor; then ours beside the best peer."""
    kinds = [kind for kind in ("blocked", "cached", "mixed", "tcp", "miss", "cold")
             if any(row.get("cpu", {}).get(kind) for row in rows.values())]
    if not kinds:
        return ""

    def cells(kind):
        return {name: row["cpu"][kind] for name, row in rows.items() if row.get("cpu", {}).get(kind)}

    def forwards(name, kind):
        return kind in ("miss", "cold") and not rows[name]["recurses"]

    floor = [f"{statistics.median(cell['floor'] for cell in cells(kind).values()):.2f}" for kind in kinds]
    lines = [["floor", *floor]]
    for name in rows:
        line = [name]
        for kind in kinds:
            cell = cells(kind).get(name)
            text = f"{cell['micros']:.2f} (× {cell['ratio']:.2f})" if cell else "–"
            line.append(text + ", forwards" * (bool(cell) and forwards(name, kind)))
        lines.append(line)
    beside = [f"{OURS} beside the best peer"]
    for kind in kinds:
        peers = {name: cell["ratio"] for name, cell in cells(kind).items() if name != OURS and not forwards(name, kind)}
        best = min(peers, key=peers.get, default=None)
        ours = cells(kind).get(OURS)
        beside.append(f"× {ours['ratio'] / peers[best]:.2f} ({best})" if ours and best else "–")
    return markdown(["CPU µs an answer", *kinds], [*lines, beside])


def rest(rows):
    """Everything that is not CPU."""

    def cell(row, part, text):
        return text(row[part]) if row.get(part) else "–"

    def reload(seen):
        lost = f"{seen['silence'] * 1000:.0f} ms / {seen['lost']}"
        return lost + (f" / {seen['leaked']}" if seen["leaked"] else "") if seen["enforced"] else "not in time"

    def enforced(seen):
        return f"{seen['enforced']:.1f}" if seen["enforced"] else "–"

    def idle(seen):
        return f"{seen['memory_mb']:.0f}" + (f" (holds {seen['held']})" if seen["held"] < seen["wanted"] else "")

    lines = [
        [
            name,
            cell(row.get("cpu", {}), "mixed", lambda mixed: f"{mixed['rate'] / 1000:.0f}"),
            cell(row, "latency", lambda seen: f"{seen['p50']:.2f} / {seen['p99']:.2f}"),
            f"{row['start']:.2f}" + (f" ({row['unfiltered']:.1f} unfiltered)" if row["unfiltered"] > 0.05 else ""),
            f"{row['memory_mb']:.0f}" + cell(row, "reload", lambda seen: f" ({seen['peak_mb']:.0f})").replace("–", ""),
            cell(row, "reload", reload),
            cell(row, "reload", enforced),
            cell(row, "idle", idle),
        ]
        for name, row in rows.items()
    ]
    head = ["", "mixed kq/s", "latency p50 / p99 ms", "start to first blocked answer s", "memory MB (peak in reload)",
            "reload: longest silence / lost", "new list in force s", "MB with idle TCP connections"]
    return markdown(head, lines) if lines else ""


def markdown(head, lines):
    """A table without the columns that nobody has anything for."""
    filled = [at for at in range(len(head)) if any(line[at] != "–" for line in lines)]
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row[at] for at in filled) + " |" for row in rows)
