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
    benches/peers/run.py --servers qalqan,unbound --kinds miss,cold --only cpu
"""

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import processes
import table
from load import PORT, Watch, ask, dnsperf, full_speed, hold_connections, still_open
from questions import KINDS, Questions, meaning
from servers import FLOOR_PORT, SERVERS, Floor
from world import World

PARTS = {
    "cpu": "CPU of each answer, and answers a second",
    "latency": "latency at a moderate rate",
    "reload": "silence, losses and memory while the list is read again",
    "idle": "memory of idle TCP connections",
}


class Failed(Exception):
    """A server cannot be measured; the others can."""


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.questions = Questions(folder, arguments.seed, arguments.names, arguments.zones, arguments.cold_zones)
        self.world = World(folder, self.questions.zones + self.questions.cold_zones)
        floor = Floor(folder, self.world)
        self.floor = processes.start(floor.prepare([]), processes.SERVER_CORE, floor.path("log"))
        self.marker = "marker." + self.questions.zones[0]

    def close(self):
        processes.stop(self.floor)
        self.world.stop()

    def measure(self, kind_of_server, row):
        """Measures all of one server. What was measured before something failed stays in the row."""
        arguments = self.arguments
        row["recurses"] = kind_of_server.recurses
        with self.running(kind_of_server, "first") as (server, process, started):
            row.update(started, memory_mb=processes.memory_mb(process.pid))
            if "cpu" in arguments.parts:
                row["cpu"] = {}
                for kind in arguments.kinds:
                    row["cpu"][kind] = self.cpu(server, process, kind, "udp")
                if server.tcp and "mixed" in arguments.kinds:
                    row["cpu"]["tcp"] = self.cpu(server, process, "mixed", "tcp")
            if "latency" in arguments.parts:
                row["latency"] = self.latency()
        if "reload" in arguments.parts and kind_of_server.reloads:
            # Caches that the other runs have filled would hide what a reload takes.
            with self.running(kind_of_server, "reload") as (server, process, _):
                row["reload"] = self.reload(server, process)
        if "idle" in arguments.parts and kind_of_server.tcp:
            row["idle"] = self.idle(kind_of_server)

    @contextlib.contextmanager
    def running(self, kind_of_server, part):
        """One server, started afresh in a folder for this part, that knows the popular names."""
        self.questions.restart()
        server = kind_of_server(os.path.join(self.folder, part), self.world)
        process = processes.start(server.prepare(self.questions.listed), processes.SERVER_CORE, server.path("log"))
        try:
            started = self.wait_for_answers(server, process, self.questions.listed[0])
            known = self.questions.all_known()
            for _ in range(2):
                dnsperf(known, *full_speed("udp", self.arguments.under_way), seconds=30)
            yield server, process, started
        finally:
            processes.stop(process)
            self.discard(server)

    def wait_for_answers(self, server, process, listed):
        """Seconds to the first answer, and to the first that obeys the list."""
        began, first = time.monotonic(), None
        while True:
            said = meaning(ask(listed))
            now = time.monotonic() - began
            if said != "failed" and first is None:
                first = now
            if said == "blocked":
                return {"start": now, "unfiltered": now - first}
            if process.poll() is not None or now > self.arguments.patience:
                with open(server.path("log"), encoding="utf-8", errors="replace") as log:
                    raise Failed(f"does not answer; the end of its log: {log.read()[-500:]}")
            time.sleep(0.001)

    def cpu(self, server, process, kind, transport):
        """Medians over the repeats: microseconds an answer, the same over the floor, answers a second."""
        right = {"blocked": {server.blocks_with}, "mixed": {"NOERROR", server.blocks_with}}.get(kind, {"NOERROR"})
        count = self.arguments.queries if kind in ("blocked", "cached", "mixed") else self.arguments.queries // 4
        runs = []
        for _ in range(self.arguments.repeats):
            path = self.questions.fresh(kind, count)
            floor, _ = self.run(self.floor, path, {"NOERROR"}, full_speed("udp", self.arguments.under_way), FLOOR_PORT)
            micros, rate = self.run(process, path, right, full_speed(transport, self.arguments.under_way), PORT)
            if floor and micros:
                self.check_sample(path, kind)
                runs.append((micros, micros / floor, rate, floor))
            os.remove(path)
        if len(runs) <= self.arguments.repeats // 2:
            return None
        micros, ratio, rate, floor = (statistics.median(figures) for figures in zip(*runs))
        return {"micros": micros, "ratio": ratio, "rate": rate, "floor": floor}

    def run(self, process, path, right, options, port):
        """Microseconds for each right answer, and right answers a second; nothing when the run is void."""
        before = processes.cpu_seconds(process.pid)
        run = dnsperf(path, *options, port=port)
        spent = processes.cpu_seconds(process.pid) - before
        if process.poll() is not None:
            raise Failed("ended by itself")
        answered = run.answered(right)
        if answered < 0.99 * run.sent:
            say(f"  void: of {run.sent:.0f} questions {answered} were answered rightly: {run.codes}")
            return None, None
        return spent * 1e6 / answered, run.rate * answered / sum(run.codes.values())

    def check_sample(self, path, kind):
        """The code alone does not tell a blocked answer from another: looks at some of them."""
        with open(path, encoding="ascii") as file:
            names = [line.split()[0] for line in file]
        for name in random.Random(7).sample(names, min(100, len(names))):
            want, said = self.questions.right_answer(name), meaning(ask(name, timeout=2))
            if said != want:
                raise Failed(f"{kind}: {name} should be {want} and is {said}")

    def latency(self):
        """Milliseconds at 10,000 mixed questions a second, as one client sees them."""
        path = self.questions.fresh("mixed", min(30_000, self.arguments.queries))
        run = dnsperf(path, "-c", "8", "-q", "1000", "-Q", "10000", "-v")
        os.remove(path)
        return {name: run.latency(share) * 1000 for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))}

    def reload(self, server, process):
        """Adds a name to the list under load."""
        server.stage([*self.questions.listed, self.marker])
        seen = Watch(self.questions, process).run(lambda: server.relist(process), self.marker, self.arguments.patience)
        time.sleep(1)
        return {**seen, "after_mb": processes.memory_mb(process.pid)}

    def idle(self, kind_of_server):
        """Memory with idle connections, and how many of them the server holds; with a short list."""
        wanted = self.arguments.connections
        limit = processes.allow_open_files(3 * wanted)
        server = kind_of_server(os.path.join(self.folder, "idle"), self.world, wanted)
        names = self.questions.listed[:1000]
        process = processes.start(server.prepare(names), processes.SERVER_CORE, server.path("log"))
        clients = []
        try:
            self.wait_for_answers(server, process, names[0])
            clients = hold_connections(min(wanted, limit - 100), names[0])
            time.sleep(1)
            return {"wanted": wanted, "held": still_open(clients), "memory_mb": processes.memory_mb(process.pid)}
        finally:
            for client in clients:
                client.close()
            processes.stop(process)
            self.discard(server)

    def discard(self, server):
        """Lists and databases of all servers together are large."""
        if not self.arguments.keep:
            shutil.rmtree(server.folder)


def say(text):
    print(text, file=sys.stderr, flush=True)


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
    parser.add_argument("--cold-zones", type=int, default=0, help="zones for the kind cold, eight runs of it at most")
    parser.add_argument("--connections", type=int, default=10_000, help="idle TCP connections")
    parser.add_argument("--patience", type=float, default=90, help="seconds for a start or a reload")
    parser.add_argument("--seed", type=int, default=1)
    known = ", ".join(server.slug() for server in SERVERS[1:])
    parser.add_argument("--servers", type=lambda text: text.lower().split(","), default=[""],
                        help=f"those whose names begin so: {known}")
    parser.add_argument("--kinds", type=names(KINDS), default=["blocked", "cached", "mixed", "miss"],
                        help=listing(KINDS))
    parser.add_argument("--only", type=names(PARTS), dest="parts", default=list(PARTS), help=listing(PARTS))
    parser.add_argument("--quick", action="store_true", help="small and short: does all work?")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--keep", metavar="FOLDER", help="work in this new folder and leave it behind")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.names, arguments.queries, arguments.repeats = 2000, 5000, 1
        arguments.zones, arguments.connections, arguments.patience = 500, 200, 20
    if "cold" in arguments.kinds and not arguments.cold_zones:
        arguments.cold_zones = 16_000
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
            try:
                bench.measure(server, rows.setdefault(server.name, {}))
            except (Failed, OSError, subprocess.SubprocessError) as error:
                failed = True
                say(f"{server.name}: {error}")
            say(f"{server.name}: {json.dumps(rows[server.name])}")
    finally:
        bench.close()
    return rows, failed


def main():
    arguments = arguments_of(argparse.ArgumentParser(description=__doc__,
                                                     formatter_class=argparse.RawDescriptionHelpFormatter))
    processes.enter_private_network()
    # A pause of ours would be taken for a silence of the server's.
    gc.disable()
    missing = [program for program in ("dnsperf", "nsd") if not processes.installed(program)]
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
    print(table.of(rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
