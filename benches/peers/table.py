"""The README's tables, in Markdown."""

import statistics

OURS = "Qalqan"
NOTHING = "–"


def of(rows):
    tables = [cpu(rows), *(columns_of(rows, columns) for columns in (THE_LIST, CLIENTS, THREADS, REST))]
    return [table for table in tables if table]


def cpu(rows):
    """Microseconds an answer and how many times the floor that is; then ours beside the best peer."""
    kinds = [kind for kind in ("blocked", "cached", "mixed", "tcp", "miss", "cold", "signed")
             if any(of_kind(row, kind) for row in rows.values())]
    floor, beside = ["floor: the echo"], [f"{OURS} beside the best peer"]
    lines = [[name if name == OURS else row["title"]] for name, row in rows.items()]
    for kind in kinds:
        floors = [of_kind(row, kind)["floor"] for row in rows.values() if of_kind(row, kind)]
        floor.append(three_digits(statistics.median(floors)))
        for line, row in zip(lines, rows.values()):
            figures = of_kind(row, kind)
            if not figures:
                line.append(NOTHING)
            elif not recursed(row, kind):
                line.append("forwards")
            else:
                line.append(f"{three_digits(figures['micros'])} (× {three_digits(figures['ratio'])})")
        best, ratio = best_peer(rows, kind)
        beside.append(f"× {ratio:.2f} ({best})" if best else NOTHING)
    return markdown(["CPU µs an answer", *kinds], [floor, *lines, beside]) if kinds else ""


def three_digits(figure):
    return f"{figure:.{2 if figure < 10 else 1 if figure < 100 else 0}f}"


def of_kind(row, kind):
    return row.get("cpu", {}).get(kind)


def recursed(row, kind):
    """To hand a miss on to somebody else is not the same work."""
    return row["recurses"] or kind not in ("miss", "cold", "signed")


def best_peer(rows, kind):
    """The best peer's name and how many times its cost ours is, by what both are beside the floor; or nothing twice."""
    peers = {name: row["cpu"][kind]["ratio"] for name, row in rows.items()
             if name != OURS and of_kind(row, kind) and recursed(row, kind)}
    ours = of_kind(rows.get(OURS, {}), kind)
    best = min(peers, key=peers.get, default=None)
    return (best, ours["ratio"] / peers[best]) if ours and best else (None, None)


def start(row):
    return f"{row['start']:.3g}" + (f", unfiltered for {row['unfiltered']:.1f}" if row["unfiltered"] > 0.05 else "")


def connections(row):
    figures = row["connections"]
    held = f", holds {figures['held']}" if figures["held"] < figures["wanted"] else ""
    return f"{figures['memory']['rss']:.0f}{held}"


def latency(figures):
    return f"{figures['p50']:.2f} / {figures['p99']:.2f}"


def hits(flood):
    """A column about the hits beside such a flood."""
    def cell(row):
        figures = row["flood"][flood]
        if figures["p50"] is None:
            return "all lost"
        return latency(figures) + (f", {100 * figures['lost']:.1f} % lost" if figures["lost"] > 0.0005 else "")
    return cell


def each(show):
    """A column about all numbers of threads."""
    return lambda row: " / ".join(show(figures) if figures else NOTHING for figures in row["scaling"].values())


THE_LIST = {
    "start s": start,
    "memory MB": lambda row: f"{row['memory']['rss']:.0f}",
    "PSS": lambda row: f"{row['memory']['pss']:.0f}",
    "above an empty list": lambda row: f"{row['memory']['rss'] - row['empty']['rss']:.0f}",
    "in reload": lambda row: f"{row['reload']['peak_mb']:.0f}",
    "after": lambda row: f"{row['reload']['after']['rss']:.0f}",
    "longest silence ms": lambda row: f"{row['reload']['silence'] * 1000:,.0f}",
    "without a reload": lambda row: f"{row['reload']['calm'] * 1000:,.0f}",
    "lost": lambda row: f"{row['reload']['lost']:,}",
    "let through": lambda row: f"{row['reload']['leaked']:,}",
    "in force after s": lambda row: f"{row['reload']['enforced']:.1f}",
}
CLIENTS = {
    "mixed kq/s": lambda row: f"{row['cpu']['mixed']['rate'] / 1000:.0f}",
    "p50 / p99 ms": lambda row: latency(row["latency"]["server"]),
    "of the echo": lambda row: latency(row["latency"]["floor"]),
    "hits alone": hits("alone"),
    "beside a flood of misses": hits("miss"),
    "of misses at silent servers": hits("silent"),
    "MB with idle TCP connections": connections,
}
THREADS = {
    "CPU µs with 1 / 2 / 4 threads": each(lambda figures: f"{figures['micros']:.2f}"),
    "waits in 1,000 answers": each(lambda figures: f"{figures['voluntary'] * 1000:.0f}"),
    "pre-emptions": each(lambda figures: f"{figures['involuntary'] * 1000:.0f}"),
    "kq/s": each(lambda figures: f"{figures['rate'] / 1000:.0f}"),
}
REST = {
    "CPU ms a second at rest": lambda row: f"{row['rest']['cpu'] * 1000 / row['rest']['seconds']:.2f}",
    "waits a second": lambda row: f"{row['rest']['voluntary'] / row['rest']['seconds']:.0f}",
    "ends in s": lambda row: f"{row['ends']:.2f}",
    "under load": lambda row: f"{row['rest']['ends_under_load']:.2f}",
}


def columns_of(rows, columns):
    def cell(column, row):
        try:
            return column(row)
        except (KeyError, TypeError):
            return NOTHING

    lines = [[name, *(cell(column, row) for column in columns.values())] for name, row in rows.items()]
    measured = any(cell != NOTHING for line in lines for cell in line[1:])
    return markdown(["", *columns], lines) if measured else ""


def markdown(head, lines):
    """A table without the columns that nobody has anything for; ours stands out."""
    filled = [at for at in range(len(head)) if any(line[at] != NOTHING for line in lines)]

    def row(cells):
        bold = "**" if cells[0] == OURS else ""
        return "| " + " | ".join(f"{bold}{cell}{bold}" for cell in (cells[at] for at in filled)) + " |"

    return "\n".join([row(head), "|" + "---|" * len(filled), *(row(line) for line in lines)])
