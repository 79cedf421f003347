"""Load on a server: dnsperf for what it costs, our own loop for what a client sees while the list changes."""

import collections
import concurrent.futures
import contextlib
import os
import random
import re
import select
import socket
import struct
import subprocess
import time

import processes
from questions import meaning, query

ADDRESS, PORT = "127.0.0.1", 5390
# Longer than this no client waits.
PATIENCE = 2.0


def ask(name, address=ADDRESS, port=PORT, timeout=0.25):
    """The reply to one question, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        with contextlib.suppress(OSError):
            client.connect((address, port))
            client.send(query(name, 7))
            return client.recv(4096)
    return None


class Run:
    """What dnsperf says about one run."""

    def __init__(self, output):
        def figure(label):
            found = re.search(rf"{label}:\s+([\d.]+)", output)
            return float(found[1]) if found else 0.0

        self.sent, self.rate = figure("Queries sent"), figure("Queries per second")
        # How many a second were asked, and above, were answered.
        self.asked = self.sent / max(figure(r"Run time \(s\)"), 0.001)
        codes = re.search(r"Response codes:\s+(.*)", output)
        self.codes = {code: int(count) for code, count in re.findall(r"(\w+) (\d+)", codes[1])} if codes else {}
        # "> NOERROR www.example. A 0.000123" for each, with -v.
        self.latencies = sorted(float(time) for time in re.findall(r"^> \w+ \S+ \w+ ([\d.]+)$", output, re.M))

    def answered(self, codes):
        return sum(self.codes.get(code, 0) for code in codes)

    def milliseconds(self, share):
        """The latency that such a share of the answers had at most."""
        return self.latencies[int(share * (len(self.latencies) - 1))] * 1000 if self.latencies else None


def dnsperf(path, *options, **settings):
    """Asks what is in the file, once, for at most `seconds`."""
    with dnsperf_beside(path, *options, **settings) as process:
        output, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
    return Run(output)


@contextlib.contextmanager
def dnsperf_beside(path, *options, port=PORT, seconds=10, cores=None, yields=False):
    """The same in the background for as long as the context lasts; `yields` lets everybody else go first."""
    def place():
        os.sched_setaffinity(0, cores or processes.OTHER_CORES)
        os.nice(10 if yields else 0)

    command = ["dnsperf", "-s", ADDRESS, "-p", str(port), "-d", path, "-n", "1", "-l", str(seconds), "-t", "5", "-e",
               *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=place)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def full_speed(transport, under_way):
    """Options of dnsperf: as fast as answers come, with so many questions under way."""
    # Over TCP 100 on each of 20 connections.
    return ("-c", "8", "-q", str(under_way)) if transport == "udp" else ("-m", "tcp", "-c", "20", "-q", "2000")


class Watch:
    """Asks 2,000 questions a second, as clients do who know nothing of reloads, and keeps account of the answers.

    Half of the names are listed, half are not.
    """

    RATE = 2000
    # Every n-th question is for a name below the one that the new list adds.
    MARKER_EVERY = 20

    def __init__(self, questions, process):
        self.process, self.rng = process, random.Random(5)
        self.listed, self.passed = questions.listed, ["www." + zone for zone in questions.zones]
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        self.client.connect((ADDRESS, PORT))
        self.client.setblocking(False)
        self.waiting = collections.OrderedDict()
        self.number = self.sent = self.lost = self.leaked = self.failed = 0
        self.silence = self.peak_mb = 0.0
        self.last_reply = self.enforced = None

    def run(self, act, marker, limit):
        """Calls `act` after a second of quiet; ends a second after `marker` is blocked."""
        # To swap a list of millions of names keeps whoever does it for milliseconds.
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            return self.watch(lambda: beside.submit(act), marker, limit)

    def watch(self, act, marker, limit):
        began = time.monotonic()
        acted, next_look = None, began
        while True:
            now = time.monotonic()
            if acted is None and now > began + 1:
                action = act()
                acted = now
            done = self.enforced is not None and now > self.enforced + 1
            if acted is not None and (done or now > acted + limit):
                break
            if now >= began + self.number / self.RATE:
                self.send(now, marker)
            else:
                select.select([self.client], [], [], began + self.number / self.RATE - now)
            self.receive()
            if now > next_look:
                self.peak_mb = max(self.peak_mb, processes.memory_mb(self.process.pid))
                next_look = now + 0.02
        until = time.monotonic() + PATIENCE
        while self.waiting and time.monotonic() < until:
            select.select([self.client], [], [], 0.05)
            self.receive()
        self.lost += len(self.waiting)
        self.client.close()
        action.result()
        return {"silence": self.silence, "lost": self.lost, "leaked": self.leaked, "failed": self.failed,
                "peak_mb": self.peak_mb, "enforced": self.enforced and self.enforced - acted}

    def send(self, now, marker):
        number, self.number = self.number & 0xFFFF, self.number + 1
        if self.number % self.MARKER_EVERY == 0:
            # Fresh each time, so that nobody's cache has a say.
            name, want = f"x{self.number}.{marker}", "marker"
        elif self.number % 2:
            name, want = self.rng.choice(self.listed), "blocked"
        else:
            name, want = self.rng.choice(self.passed), "passed"
        if self.waiting.pop(number, None):
            self.lost += 1
        self.waiting[number] = (now, want)
        with contextlib.suppress(OSError):
            self.client.send(query(name, number))

    def receive(self):
        while True:
            try:
                reply = self.client.recv(4096)
            except OSError:
                return
            now = time.monotonic()
            asked, want = self.waiting.pop(struct.unpack(">H", reply[:2])[0], (None, None))
            if asked is None:
                continue
            if self.last_reply is not None:
                self.silence = max(self.silence, now - self.last_reply)
            self.last_reply = now
            said = meaning(reply)
            if now - asked > PATIENCE:
                self.lost += 1
            elif want == "marker":
                if said == "blocked" and self.enforced is None:
                    self.enforced = now
            elif want == "blocked" and said == "passed":
                self.leaked += 1
            elif said != want:
                self.failed += 1


def hold_connections(count, name):
    """Opens connections that ask once and then say nothing; they live as long as what is returned."""
    frame = query(name, 7)
    frame = struct.pack(">H", len(frame)) + frame
    clients = []
    with contextlib.suppress(OSError):
        for _ in range(count):
            client = socket.create_connection((ADDRESS, PORT), timeout=2)
            client.sendall(frame)
            if not client.recv(4096):
                break
            clients.append(client)
    return clients


def still_open(clients):
    """How many the server has not closed."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLIN | select.POLLRDHUP)
    return len(clients) - len(poll.poll(0))
