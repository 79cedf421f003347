"""What is measured of a server, a function for each part.

Each starts the server as it needs it and returns what it adds to the server's
row: nothing when the server cannot do what is measured.
"""

import contextlib
import statistics
import time

import processes
from bench import Cost
from load import PORT, Run, Watch, dnsperf, dnsperf_beside, hold_connections, still_open
from servers import FLOOR_PORT

# Enough where it does not matter how long the list is.
SHORT_LIST = 1000
# What a client asks who is no load.
MODERATELY = ("-c", "8", "-q", "1000", "-v")


def speed(bench, kind_of_server):
    """start, memory, CPU of each answer, answers a second, latency at a moderate rate, and how long it takes to end"""
    kinds = bench.arguments.kinds
    with bench.running(kind_of_server) as running:
        start, unfiltered, memory = running.start, running.unfiltered, processes.memory(running.process.pid)
        cpu = {kind: bench.beside_the_floor(running, kind) for kind in kinds if kind != "signed"}
        if kind_of_server.tcp and "mixed" in kinds:
            cpu["tcp"] = bench.beside_the_floor(running, "mixed", "tcp")
        path = running.questions.fresh("mixed", min(30_000, bench.arguments.queries))
        latency = {who: latencies(dnsperf(path, "-Q", "10000", *MODERATELY, port=port))
                   for who, port in (("floor", FLOOR_PORT), ("server", PORT))}
        ends = processes.stop(running.process)
    if kind_of_server.validates and "signed" in kinds:
        with bench.running(kind_of_server, SHORT_LIST, validate=True) as running:
            cpu["signed"] = bench.beside_the_floor(running, "signed")
    return {"start": start, "unfiltered": unfiltered, "memory": memory, "cpu": cpu, "latency": latency, "ends": ends}


def latencies(run):
    return {name: run.milliseconds(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))}


def empty(bench, kind_of_server):
    """memory with a list of one name, to be compared"""
    with bench.running(kind_of_server, 1) as running:
        return {"empty": processes.memory(running.process.pid)}


def reload(bench, kind_of_server):
    """silence, losses and memory while the list is read again, with one name more"""
    if not kind_of_server.reloads:
        return {}
    # Caches that the other runs have filled would hide what a reload takes.
    with bench.running(kind_of_server) as (server, process, questions, *_):
        marker = "marker." + questions.zones[0]
        server.stage([*questions.listed, marker])
        # What the machine itself keeps everybody waiting.
        calm = Watch(questions, process).run(lambda: None, marker, 3)
        seen = Watch(questions, process).run(lambda: server.relist(process), marker, bench.arguments.patience)
        time.sleep(1)
        return {"reload": {**seen, "calm": calm["silence"], "after": processes.memory(process.pid)}}


def connections(bench, kind_of_server):
    """memory with idle TCP connections, and how many of them the server holds; with a short list"""
    if not kind_of_server.tcp:
        return {}
    wanted = bench.arguments.connections
    limit = processes.allow_open_files(3 * wanted)
    with bench.running(kind_of_server, SHORT_LIST, warm=False, connections=wanted) as running:
        clients = hold_connections(min(wanted, limit - 500), running.questions.listed[0])
        time.sleep(1)
        row = {"wanted": wanted, "held": still_open(clients), "memory": processes.memory(running.process.pid)}
        for client in clients:
            client.close()
    return {"connections": row}


def flood(bench, kind_of_server):
    """latency and losses of known names, alone and while fresh ones flood in that have an answer or a silent server"""
    figures = {}
    # Who only forwards does not wait for the silent ones.
    for unknown in (None, "miss", "silent") if kind_of_server.recurses else (None, "miss"):
        with bench.running(kind_of_server, SHORT_LIST) as running:
            figures[unknown or "alone"] = hits_beside(bench, running, unknown)
    return {"flood": figures}


def hits_beside(bench, running, unknown):
    """What becomes of 2,000 known names a second, alone or after a second of flood."""
    seconds, rate = bench.arguments.seconds / 2, bench.arguments.flood
    figures = {}
    with contextlib.ExitStack() as stack:
        if unknown:
            path = running.questions.fresh(unknown, int(rate * (seconds + 3)))
            options = ("-c", "8", "-q", "40000", "-Q", str(rate), "-t", "2")
            other = stack.enter_context(dnsperf_beside(path, *options, seconds=seconds + 2, yields=True))
            time.sleep(1)
        path = running.questions.fresh("mixed", int(2000 * seconds))
        run = dnsperf(path, "-Q", "2000", "-t", "1", *MODERATELY)
        if unknown:
            figures["asked"] = Run(other.communicate()[0]).asked
    lost = 1 - run.answered({"NOERROR", running.server.blocks_with}) / run.sent
    return {**figures, **latencies(run), "lost": lost}


def scaling(bench, kind_of_server):
    """CPU and switches of threads for each answer, and answers a second, with 1, 2 and 4 threads on all cores"""
    if not kind_of_server.has_workers:
        return {}
    figures = {}
    for workers in (1, 2, 4):
        with bench.running(kind_of_server, SHORT_LIST, cores=processes.CORES, workers=workers) as running:
            costs = [bench.cost(running.process, running.questions.fresh("mixed", bench.arguments.queries),
                                {"NOERROR", running.server.blocks_with}, "-c", "16", "-T", "2", "-q", "300",
                                cores=processes.CORES) for _ in range(bench.arguments.repeats)]
        costs = [cost for cost in costs if cost]
        if costs:
            figures[workers] = Cost(*map(statistics.median, zip(*costs)))._asdict()
    return {"scaling": figures}


def rest(bench, kind_of_server):
    """what the server does while nobody asks, and how long it takes to end under load"""
    with bench.running(kind_of_server) as running:
        # Some are not done with the list when they answer.
        time.sleep(bench.arguments.seconds / 2)
        before = processes.usage(running.process.pid)
        time.sleep(bench.arguments.seconds)
        used = processes.usage(running.process.pid).since(before)
        path = running.questions.fresh("mixed", 100_000)
        with dnsperf_beside(path, "-Q", "10000", *MODERATELY):
            time.sleep(1)
            ends = processes.stop(running.process)
    return {"rest": {"seconds": bench.arguments.seconds, **used._asdict(), "ends_under_load": ends}}


PARTS = {part.__name__: part for part in (speed, empty, reload, connections, flood, scaling, rest)}
