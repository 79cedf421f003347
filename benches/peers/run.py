#!/usr/bin/env python3
"""Measures Qalqan beside its peers and prints the README's tables.

Every server runs alone, pinned to the first core, with the same list; load and
name servers run on the other cores, all in a network namespace of its own. CPU
is the server's user and system time for each right answer. Each run stands
beside a run of the floor with the same questions, and ratios are taken from
such pairs: the machine's mood moves both alike. A run in which more than one
answer in a hundred is wrong or missing is void. Servers that are not installed
are left out. Linux, Python 3.9 or later and its standard library; needs dnsperf
and nsd.

    cargo build --release && cargo build --release --bench floor
    benches/peers/run.py
    benches/peers/run.py --quick                      # does it all still work?
    benches/peers/run.py --servers qalqan,unbound --kinds miss,cold --only speed

A server takes about three minutes, and longer by three times what it needs to
load the list. The kind signed needs ldns-keygen and ldns-signzone as well.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time

import budgets
import processes
import table
from bench import Bench, Failed, say
from parts import PARTS
from questions import KINDS
from servers import SERVERS, Floor


def arguments_of(parser):
    def names(known):
        def split(text):
            chosen = text.split(",")
            unknown = set(chosen) - set(known)
            if unknown:
                raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
            return chosen
        return split

    def listing(known):
        # argparse takes a percent sign for the start of a value.
        return "; ".join(f"{name}: {what}" for name, what in known.items()).replace("%", "%%")

    parser.add_argument("--names", type=int, default=1_000_000, help="names in the list")
    parser.add_argument("--queries", type=int, default=200_000, help="questions in a run; a fourth for misses")
    parser.add_argument("--under-way", type=int, default=150,
                        help="questions asked and not answered yet; more of them overflow the receive buffers of some")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind; the median counts")
    parser.add_argument("--zones", type=int, default=20_000, help="zones that are popular")
    parser.add_argument("--cold-zones", type=int, default=16_000, help="zones that all runs of the kind cold share")
    parser.add_argument("--signed-names", type=int, default=30_000, help="names that all runs of the kind signed share")
    parser.add_argument("--connections", type=int, default=10_000, help="idle TCP connections")
    parser.add_argument("--patience", type=float, default=90, help="seconds for a start or a reload")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10,
                        help="how long a server is watched at rest, and half of it in a flood")
    parser.add_argument("--flood", type=int, default=20_000, help="fresh names a second in a flood")
    known = ", ".join(server.slug() for server in SERVERS[1:])
    parser.add_argument("--servers", type=lambda text: text.lower().split(","), default=[""],
                        help=f"those whose names begin so: {known}")
    parser.add_argument("--kinds", type=names(KINDS), default=["blocked", "cached", "mixed", "miss"],
                        help=listing(KINDS))
    parser.add_argument("--only", type=names(PARTS), dest="parts", default=list(PARTS),
                        help=listing({name: part.__doc__ for name, part in PARTS.items()}))
    parser.add_argument("--quick", action="store_true", help="small and short: does all work?")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--keep", metavar="FOLDER", help="work in this new folder and leave it behind")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.names, arguments.queries, arguments.repeats = 2000, 5000, 1
        arguments.zones, arguments.connections, arguments.patience = 500, 200, 20
        arguments.cold_zones, arguments.signed_names, arguments.seconds = 500, 500, 2
    if "cold" not in arguments.kinds:
        arguments.cold_zones = 0
    if "signed" not in arguments.kinds:
        arguments.signed_names = 0
    return arguments


def measure_all(arguments, folder):
    """What was measured of each server, and whether all went well."""
    rows, failed = {}, False
    bench = Bench(arguments, os.path.abspath(folder))
    try:
        for server in SERVERS[1:]:
            if not server.slug().startswith(tuple(arguments.servers)):
                continue
            if not server.path_of_program():
                say(f"{server.name}: {server.program} is not installed, left out")
                continue
            row = rows.setdefault(server.name, {"title": server.title(), "recurses": server.recurses})
            began = time.monotonic()
            for part in arguments.parts:
                try:
                    row |= PARTS[part](bench, server)
                except (Failed, OSError, subprocess.SubprocessError) as error:
                    failed = True
                    say(f"{server.name}: {part}: {error}")
            say(f"{server.name}, {time.monotonic() - began:.0f} s: {json.dumps(row)}")
    finally:
        bench.close()
    return rows, failed


def main():
    arguments = arguments_of(argparse.ArgumentParser(description=__doc__,
                                                     formatter_class=argparse.RawDescriptionHelpFormatter))
    processes.enter_private_network()
    # A pause of ours would be taken for a silence of the server's.
    gc.disable()
    needed = ["dnsperf", "nsd", *(["ldns-keygen", "ldns-signzone"] if "signed" in arguments.kinds else [])]
    missing = [program for program in needed if not processes.installed(program)]
    missing += ["the floor (cargo build --release --bench floor)"] if not Floor.path_of_program() else []
    if missing:
        sys.exit(f"not here: {', '.join(missing)}")
    if len(processes.CORES) < 2:
        say("only one core here: server and load will disturb each other")

    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        rows, failed = measure_all(arguments, arguments.keep or temporary)
    if arguments.json:
        with open(arguments.json, "w", encoding="ascii") as file:
            json.dump(rows, file, indent=1)
    print("\n\n".join([*table.of(rows), *budgets.of(rows)]))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
