"""What we hold ourselves to, beside what was reached in the same run."""

import contextlib

from table import OURS, best_peer, markdown


def of(rows):
    """A table of the budgets that something was measured for, if any."""
    lines = []
    for what, most, reached in BUDGETS:
        with contextlib.suppress(KeyError, TypeError):
            figure = reached(rows, rows[OURS])
            lines.append([what, f"{most:g}", f"{figure:.3g}", "kept" if figure <= most else "missed"])
    return [markdown([f"budget of {OURS}", "at most", "reached", ""], lines)] if lines else []


def times_floor(kind):
    return lambda rows, ours: ours["cpu"][kind]["ratio"]


def times_best(kind):
    return lambda rows, ours: best_peer(rows, kind)[1]


BUDGETS = (
    ("blocked, times the floor", 1.35, times_floor("blocked")),
    ("blocked, times the best peer", 0.7, times_best("blocked")),
    ("cached, times the floor", 1.35, times_floor("cached")),
    ("cached, times the best peer", 0.75, times_best("cached")),
    ("mixed, times the floor", 1.35, times_floor("mixed")),
    ("tcp, times the best peer", 1, times_best("tcp")),
    ("miss, times the best peer that recurses", 0.8, times_best("miss")),
    ("start, s", 0.05, lambda rows, ours: ours["start"]),
    ("memory above an empty list, MB", 16, lambda rows, ours: ours["memory"]["rss"] - ours["empty"]["rss"]),
    ("the same after a reload, MB", 16, lambda rows, ours: ours["reload"]["after"]["rss"] - ours["empty"]["rss"]),
    ("longest silence in a reload, ms", 5, lambda rows, ours: ours["reload"]["silence"] * 1000),
    ("lost in a reload", 0, lambda rows, ours: ours["reload"]["lost"]),
    ("a changed line in force, s", 2, lambda rows, ours: ours["reload"]["enforced"]),
    ("answers lost in a flood of misses, %", 0, lambda rows, ours: 100 * max(
        figures["lost"] for figures in ours["flood"].values())),
)
