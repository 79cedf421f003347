"""One server, started with a list and asked: what every part of the measurement is made of."""

import contextlib
import os
import random
import shutil
import statistics
import sys
import time
import typing

import processes
from load import ask, dnsperf, full_speed
from questions import AUTHENTIC, Questions, meaning
from servers import FLOOR_PORT, Floor
from world import World


class Failed(Exception):
    """A server cannot be measured; the others can."""


class Running(typing.NamedTuple):
    """A server that answers, by the list."""

    server: typing.Any
    process: typing.Any
    questions: Questions
    # Seconds to the first answer that obeys the list, and how many of them it answered without obeying.
    start: float
    unfiltered: float


class Cost(typing.NamedTuple):
    """What a right answer took."""

    micros: float
    # How often threads of the server gave up a core, or lost it, for each answer.
    voluntary: float
    involuntary: float
    # Answers a second.
    rate: float


class Bench:
    def __init__(self, arguments, folder):
        self.arguments, self.folder, self.started = arguments, folder, 0
        self.questions = Questions(arguments.seed, arguments.names, arguments.zones, arguments.cold_zones,
                                   arguments.signed_names, arguments.repeats)
        self.world = World(folder, self.questions)
        floor = Floor(folder, self.world)
        self.floor = processes.start(floor.prepare([]), processes.SERVER_CORE, floor.path("log"))

    def close(self):
        processes.stop(self.floor)
        self.world.stop()

    @contextlib.contextmanager
    def running(self, kind_of_server, names=None, cores=None, warm=True, **settings):
        """One server, started afresh in a folder of its own, with a cache that is `warm` with the popular names.

        It has the whole list, or the first `names` of it, and the first core, or those that are said.
        """
        self.started += 1
        server = kind_of_server(os.path.join(self.folder, str(self.started)), self.world, **settings)
        questions = self.questions.for_a_server(names, server.folder)
        command = server.prepare(questions.listed)
        process = processes.start(command, cores or processes.SERVER_CORE, server.path("log"))
        try:
            start, unfiltered = self.wait_for_answers(server, process, questions.listed[0])
            known = questions.all_known()
            for _ in range(2 if warm else 0):
                dnsperf(known, *full_speed("udp", self.arguments.under_way), seconds=30)
            yield Running(server, process, questions, start, unfiltered)
        finally:
            processes.stop(process)
            if not self.arguments.keep:
                # Lists and databases of all servers together are large.
                shutil.rmtree(server.folder)

    def wait_for_answers(self, server, process, listed):
        """Seconds to the first answer that obeys the list, and how long others came before it."""
        began, first = time.monotonic(), None
        while True:
            said = meaning(ask(listed))
            now = time.monotonic() - began
            if said != "failed" and first is None:
                first = now
            if said == "blocked":
                return now, now - first
            if process.poll() is not None or now > self.arguments.patience:
                with open(server.path("log"), encoding="utf-8", errors="replace") as log:
                    raise Failed(f"does not answer; the end of its log: {log.read()[-500:]}")
            time.sleep(0.001)

    def beside_the_floor(self, running, kind, transport="udp"):
        """Medians over the repeats: microseconds an answer, the same over the floor, answers a second."""
        right = {"blocked": {running.server.blocks_with}, "mixed": {"NOERROR", running.server.blocks_with}}
        count = self.arguments.queries if kind in ("blocked", "cached", "mixed") else self.arguments.queries // 4
        at_full_speed = full_speed("udp", self.arguments.under_way)
        runs = []
        for _ in range(self.arguments.repeats):
            path = running.questions.fresh(kind, count)
            floor = self.cost(self.floor, path, {"NOERROR"}, *at_full_speed, port=FLOOR_PORT)
            options = full_speed(transport, self.arguments.under_way)
            cost = self.cost(running.process, path, right.get(kind, {"NOERROR"}), *options)
            if floor and cost:
                self.check_sample(running.questions, path, kind)
                runs.append((cost.micros, cost.micros / floor.micros, cost.rate, floor.micros))
        if len(runs) <= self.arguments.repeats // 2:
            return None
        return dict(zip(("micros", "ratio", "rate", "floor"), map(statistics.median, zip(*runs))))

    def cost(self, process, path, right, *options, **settings):
        """What each right answer took; nothing when the run is void."""
        before = processes.usage(process.pid)
        run = dnsperf(path, *options, **settings)
        used = processes.usage(process.pid).since(before)
        if process.poll() is not None:
            raise Failed("ended by itself")
        answered = run.answered(right)
        if not answered or answered < 0.99 * run.sent:
            say(f"  void: of {run.sent:.0f} questions {answered} were answered rightly: {run.codes}")
            return None
        return Cost(used.cpu * 1e6 / answered, used.voluntary / answered, used.involuntary / answered,
                    run.rate * answered / sum(run.codes.values()))

    def check_sample(self, questions, path, kind):
        """The code alone does not tell a blocked answer from another: looks at some of them."""
        with open(path, encoding="ascii") as file:
            names = [line.split()[0] for line in file]
        for name in random.Random(7).sample(names, min(100, len(names))):
            reply = ask(name, timeout=2)
            want, said = questions.right_answer(name), meaning(reply)
            if said != want:
                raise Failed(f"{kind}: {name} should be {want} and is {said}")
            if kind == "signed" and not reply[3] & AUTHENTIC:
                raise Failed(f"{kind}: {name} was not validated")


def say(text):
    print(text, file=sys.stderr, flush=True)
