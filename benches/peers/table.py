"""The README's tables, in Markdown."""

import statistics

OURS = "Qalqan"
NOTHING = "–"


def of(rows):
    tables = (cpu(rows), everything_else(rows)) if rows else ()
    return "\n\n".join(table for table in tables if table)


def cpu(rows):
    """Microseconds an answer and how many times the floor that is; then ours beside the best peer."""
    kinds = [kind for kind in ("blocked", "cached", "mixed", "tcp", "miss", "cold")
             if any(row.get("cpu", {}).get(kind) for row in rows.values())]
    floor, beside, lines = ["floor"], [f"{OURS} beside the best peer"], [[name] for name in rows]
    for kind in kinds:
        measured = {name: row["cpu"][kind] for name, row in rows.items() if row.get("cpu", {}).get(kind)}
        # To hand a miss on to somebody else is not the same work.
        forward = {name for name in rows if kind in ("miss", "cold") and not rows[name]["recurses"]}

        floor.append(f"{statistics.median(figures['floor'] for figures in measured.values()):.2f}")
        for line, name in zip(lines, rows):
            figures = measured.get(name)
            text = f"{figures['micros']:.2f} (× {figures['ratio']:.2f})" if figures else NOTHING
            line.append(text + " forwards" * (figures is not None and name in forward))

        peers = {name: figures["ratio"] for name, figures in measured.items() if name not in forward | {OURS}}
        if peers and OURS in measured:
            best = min(peers, key=peers.get)
            beside.append(f"× {measured[OURS]['ratio'] / peers[best]:.2f} ({best})")
        else:
            beside.append(NOTHING)
    return markdown(["CPU µs an answer", *kinds], [floor, *lines, beside]) if kinds else ""


def everything_else(rows):
    columns = {
        "mixed kq/s": lambda row: f"{row['cpu']['mixed']['rate'] / 1000:.0f}",
        "latency p50 / p99 ms": lambda row: f"{row['latency']['p50']:.2f} / {row['latency']['p99']:.2f}",
        "start s": start,
        "memory MB": lambda row: f"{row['memory_mb']:.0f}",
        "in reload": lambda row: f"{row['reload']['peak_mb']:.0f}",
        "after": lambda row: f"{row['reload']['after_mb']:.0f}",
        "silence in reload ms": lambda row: f"{row['reload']['silence'] * 1000:.0f}",
        "lost": lambda row: f"{row['reload']['lost']}",
        "let through": lambda row: f"{row['reload']['leaked']}",
        "new list in force s": lambda row: f"{row['reload']['enforced']:.1f}",
        "MB with idle TCP connections": idle,
    }

    def cell(column, row):
        try:
            return column(row)
        except (KeyError, TypeError):
            return NOTHING

    lines = [[name, *(cell(column, row) for column in columns.values())] for name, row in rows.items()]
    return markdown(["", *columns], lines)


def start(row):
    return f"{row['start']:.2f}" + (f", unfiltered for {row['unfiltered']:.1f}" if row["unfiltered"] > 0.05 else "")


def idle(row):
    held = row["idle"]["held"]
    return f"{row['idle']['memory_mb']:.0f}" + (f", holds {held}" if held < row["idle"]["wanted"] else "")


def markdown(head, lines):
    """A table without the columns that nobody has anything for."""
    filled = [at for at in range(len(head)) if any(line[at] != NOTHING for line in lines)]
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row[at] for at in filled) + " |" for row in rows)
