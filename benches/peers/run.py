#!/usr/bin/env python3
"""Measures Qalqan beside its peers and prints the README's table.

Every server runs alone, pinned to the first core, in the best configuration
known to us, with the same list; dnsperf and the name server behind it run on
the other cores. A figure is the server's CPU time (user and system, children
included) for each answered query. Quote ratios: absolute figures drift with the
machine's mood. Standard library only; peers that are not installed are left out.

    cargo build --release && cargo build --release --bench floor
    benches/peers/run.py --names 1000000 --queries 200000 --servers floor,qalqan,unbound
"""

import argparse
import glob
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PORT = 5390
AUTHORITY_PORT = 5391
CONTROL_PORT = 5392
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICK = os.sysconf("SC_CLK_TCK")
SINKHOLE = "192.0.2.53"

WORDS = """track ads cdn click metrics promo shop login secure static media news
game bet pixel img api cloud mail web best top free my""".split()
ENDINGS = "com com com net org ru kz info xyz top co.uk online".split()


def make_name(rng, index):
    """A name of the shape that public lists have; `index` makes it the only one."""
    host = rng.choice(WORDS) + "." if rng.random() < 1 / 3 else ""
    return f"{host}{rng.choice(WORDS)}-{rng.choice(WORDS)}{index:x}.{rng.choice(ENDINGS)}"


class Work:
    """The list and the questions, all from one seed."""

    def __init__(self, folder, seed, names, queries):
        rng = random.Random(seed)
        self.folder, self.seed, self.queries, self.files = folder, seed, queries, 0
        self.listed = [make_name(rng, index) for index in range(names)]
        self.known = ["www." + make_name(rng, (1 << 30) + index) for index in range(20000)]

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, lines):
        path = self.path(name)
        with open(path, "w", encoding="ascii") as file:
            file.writelines(line + "\n" for line in lines)
        return path

    def questions(self, kind):
        """A fresh file of questions: asking the same names again would flatter caches of answers."""
        self.files += 1
        rng = random.Random(f"{self.seed}/{kind}/{self.files}")
        listed = lambda: rng.choice(("", "www.")) + rng.choice(self.listed)
        # Zipf over the known names, near enough: the rank is exponential in a uniform number.
        popular = lambda: self.known[int(len(self.known) ** rng.random()) - 1]
        cold = lambda: f"{rng.getrandbits(64):x}.example"
        pick = {
            "blocked": listed,
            "cached": popular,
            "mixed": lambda: listed() if rng.random() < 0.2 else popular(),
            "miss": cold,
        }[kind]
        count = self.queries // 10 if kind == "miss" else self.queries
        return self.write(f"{kind}{self.files}.txt", (pick() + " A" for _ in range(count)))


class Server:
    """One server under test: how it is configured, started and told to reload."""

    name = None
    program = None

    def __init__(self, work):
        self.work = work
        self.folder = work.path(self.name)
        os.makedirs(self.folder, exist_ok=True)

    def installed(self):
        return shutil.which(self.program) is not None

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def lines(self, name, lines):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.writelines(line + "\n" for line in lines)
        return path

    def prepare(self):
        """Writes the configuration; returns the command."""
        raise NotImplementedError

    def reload(self, process):
        process.send_signal(signal.SIGHUP)

    def rpz(self):
        head = ["$TTL 60", "@ SOA localhost. nobody.invalid. 1 3600 1200 604800 60", "@ NS localhost."]
        body = (line for name in self.work.listed for line in (f"{name} CNAME .", f"*.{name} CNAME ."))
        return self.lines("rpz.zone", [*head, *body])


class Floor(Server):
    """A batched echo: what the system calls cost alone."""

    name = "floor"

    def installed(self):
        return bool(self.programs())

    def programs(self):
        found = glob.glob(os.path.join(ROOT, "target/release/deps/floor-*"))
        return sorted((path for path in found if os.access(path, os.X_OK) and "." not in os.path.basename(path)), key=os.path.getmtime)

    def prepare(self):
        return [self.programs()[-1], f"127.0.0.1:{PORT}"]

    reload = None


class Qalqan(Server):
    name = "qalqan"
    program = os.path.join(ROOT, "target/release/qalqan")

    def installed(self):
        return os.access(self.program, os.X_OK)

    def prepare(self):
        self.lines("list.txt", self.work.listed)
        config = self.file("qalqan.toml", f"""
[server]
listen = ["127.0.0.1:{PORT}"]
workers = 1
state-dir = "{self.folder}/state"
[resolver]
mode = "forward"
dnssec = "off"
allow-upstream = ["127.0.0.0/8"]
[[resolver.forward]]
zone = "."
to = ["127.0.0.1:{AUTHORITY_PORT}"]
[sinkhole]
ipv4 = "{SINKHOLE}"
[[list]]
name = "bench"
source = "list.txt"
format = "domains"
match = "subdomains"
[control]
listen = "127.0.0.1:{CONTROL_PORT}"
""")
        # Lists are compiled when they change, not when the server starts.
        subprocess.run([self.program, "compile", "-c", config], check=True, stdout=subprocess.DEVNULL)
        return [self.program, "serve", "-c", config]


UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  num-threads: 1
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  verbosity: 0
  module-config: "{modules}"
  msg-cache-size: 128m
  rrset-cache-size: 256m
  so-rcvbuf: 4m
  do-not-query-localhost: no
  minimal-responses: yes
  outgoing-range: 4096
  num-queries-per-thread: 2048
{more}
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{authority}
"""


class UnboundZones(Server):
    name = "unbound, local-zone"
    program = "unbound"

    def prepare(self):
        zones = self.lines("zones.conf", (f'local-zone: "{name}" always_null' for name in self.work.listed))
        config = UNBOUND.format(port=PORT, authority=AUTHORITY_PORT, folder=self.folder, modules="iterator",
                                more=f'  include: "{zones}"')
        return [self.program, "-d", "-c", self.file("unbound.conf", config)]


class UnboundRpz(Server):
    name = "unbound, rpz"
    program = "unbound"

    def prepare(self):
        config = UNBOUND.format(port=PORT, authority=AUTHORITY_PORT, folder=self.folder,
                                modules="respip iterator", more="")
        config += f'rpz:\n  name: "rpz.bench"\n  zonefile: "{self.rpz()}"\n'
        return [self.program, "-d", "-c", self.file("unbound.conf", config)]


class Knot(Server):
    name = "knot resolver, rpz"
    program = "kresd"

    def prepare(self):
        config = self.file("kresd.conf", f"""
net.listen('127.0.0.1', {PORT}, {{ kind = 'dns' }})
modules = {{ 'policy' }}
trust_anchors.remove('.')
cache.size = 256 * MB
policy.add(policy.rpz(policy.DENY, '{self.rpz()}', true))
policy.add(policy.all(policy.FORWARD({{'127.0.0.1@{AUTHORITY_PORT}'}})))
""")
        return [self.program, "-n", "-q", "-c", config, self.folder]

    reload = None


class PowerDns(Server):
    name = "powerdns recursor, rpz"
    program = "pdns_recursor"

    def prepare(self):
        lua = self.file("rpz.lua", f'rpzFile("{self.rpz()}", {{policyName="bench", defpol=Policy.NXDOMAIN}})\n')
        self.file("recursor.conf", f"""
local-address=127.0.0.1
local-port={PORT}
socket-dir={self.folder}
forward-zones-recurse=.=127.0.0.1:{AUTHORITY_PORT}
dnssec=off
threads=1
pdns-distributes-queries=no
lua-config-file={lua}
quiet=yes
loglevel=3
max-cache-entries=2000000
max-packetcache-entries=1000000
dont-query=
""")
        return [self.program, f"--config-dir={self.folder}", "--daemon=no", "--write-pid=no"]

    def reload(self, _):
        command = ["rec_control", f"--socket-dir={self.folder}", "reload-lua-config"]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)


class Dnsdist(Server):
    """With the list in a constant database, its best form, and the cache of packets."""

    name = "dnsdist, cdb"
    program = "dnsdist"

    def prepare(self):
        database = os.path.join(self.folder, "list.cdb")
        write_cdb(database, (wire(name) for name in self.work.listed))
        config = self.file("dnsdist.conf", f"""
setLocal('127.0.0.1:{PORT}')
setACL({{'127.0.0.0/8'}})
newServer({{address='127.0.0.1:{AUTHORITY_PORT}', checkInterval=60, useClientSubnet=false}})
kvs = newCDBKVStore('{database}', 1)
addAction(KeyValueStoreLookupRule(kvs, KeyValueLookupKeySuffix(2, true)), SpoofAction({{'{SINKHOLE}'}}))
getPool(''):setCache(newPacketCache(200000, {{maxTTL=86400}}))
setSecurityPollSuffix('')
""")
        return [self.program, "--supervised", "--disable-syslog", "-C", config]

    reload = None


class Bind(Server):
    name = "bind, rpz"
    program = "named"

    def prepare(self):
        self.rpz()
        config = self.file("named.conf", f"""
options {{
  directory "{self.folder}";
  pid-file none;
  session-keyfile none;
  listen-on port {PORT} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  forward only;
  forwarders {{ 127.0.0.1 port {AUTHORITY_PORT}; }};
  dnssec-validation no;
  minimal-responses yes;
  max-cache-size 512m;
  response-policy {{ zone "rpz.bench"; }} qname-wait-recurse no;
}};
controls {{ }};
zone "rpz.bench" {{ type primary; file "rpz.zone"; masterfile-format text; notify no; }};
""")
        return [self.program, "-f", "-n", "1", "-c", config]


SERVERS = [Floor, Qalqan, Dnsdist, PowerDns, UnboundZones, UnboundRpz, Knot, Bind]


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def write_cdb(path, keys):
    """A constant database (D. J. Bernstein's format) with the value `1` for each key."""
    tables, at = [[] for _ in range(256)], 2048
    with open(path, "wb") as file:
        file.seek(at)
        for key in keys:
            digest = 5381
            for octet in key:
                digest = ((digest << 5) + digest ^ octet) & 0xFFFFFFFF
            file.write(struct.pack("<II", len(key), 1) + key + b"1")
            tables[digest & 255].append((digest, at))
            at += 8 + len(key) + 1
        heads = []
        for table in tables:
            size = 2 * len(table)
            slots = [(0, 0)] * size
            for digest, place in table:
                slot = (digest >> 8) % size
                while slots[slot] != (0, 0):
                    slot = (slot + 1) % size
                slots[slot] = (digest, place)
            heads.append(struct.pack("<II", at, size))
            file.write(b"".join(struct.pack("<II", *slot) for slot in slots))
            at += 8 * size
        file.seek(0)
        file.write(b"".join(heads))


def start_authority(work):
    """A name server that has an address for every name, on the other cores."""
    zone = work.write("root.zone", [
        "$TTL 86400", ". SOA localhost. nobody.invalid. 1 3600 1200 604800 60", ". NS localhost.", "*. A 198.51.100.7",
    ])
    config = work.write("nsd.conf", f"""server:
  ip-address: 127.0.0.1@{AUTHORITY_PORT}
  username: ""
  chroot: ""
  zonesdir: "{work.folder}"
  pidfile: ""
  database: ""
  xfrdfile: "{work.path('xfrd')}"
  zonelistfile: "{work.path('zonelist')}"
  server-count: 1
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "{zone}"
""".splitlines())
    return subprocess.Popen(["nsd", "-d", "-c", config], preexec_fn=lambda: pin(OTHERS),
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


CORES = sorted(os.sched_getaffinity(0))
FIRST, OTHERS = {CORES[0]}, set(CORES[1:]) or {CORES[0]}


def pin(cores):
    os.sched_setaffinity(0, cores)


def ask(name, timeout=0.2):
    """The rcode and whether there is an answer, or nothing."""
    query = struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + wire(name) + b"\0\x01\0\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(("127.0.0.1", PORT))
            client.send(query)
            reply = client.recv(4096)
        except OSError:
            return None
    return reply[3] & 15, struct.unpack(">H", reply[6:8])[0] > 0, reply


def is_blocked(answer):
    if answer is None:
        return False
    rcode, _, reply = answer
    return rcode == 3 or reply.endswith(bytes([192, 0, 2, 53])) or b"\0\x04\0\0\0\0" in reply


def family(pid):
    """The process and its children."""
    pids = [pid]
    for known in pids:
        try:
            with open(f"/proc/{known}/task/{known}/children", encoding="ascii") as file:
                pids.extend(int(child) for child in file.read().split())
        except OSError:
            pass
    return pids


def cpu_seconds(pid):
    ticks = 0
    for member in family(pid):
        with open(f"/proc/{member}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def memory(pid, field="Pss"):
    total = 0
    for member in family(pid):
        with open(f"/proc/{member}/smaps_rollup", encoding="ascii") as file:
            total += int(re.search(rf"^{field}:\s+(\d+)", file.read(), re.M)[1])
    return total / 1024


def dnsperf(questions, *options):
    """Queries answered, and queries a second."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(PORT), "-d", questions, "-n", "1", "-c", "8", "-q", "250",
               "-e", "-t", "5", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: pin(OTHERS))
    figure = lambda label: float(re.search(rf"{label}:\s+([\d.]+)", result.stdout)[1])
    return figure("Queries completed"), figure("Queries per second")


def measure(server, process, work, kind, repeats):
    """The median of CPU microseconds a query, and of queries a second."""
    runs = []
    for _ in range(repeats):
        questions = work.questions(kind)
        before = cpu_seconds(process.pid)
        answered, rate = dnsperf(questions)
        runs.append(((cpu_seconds(process.pid) - before) * 1e6 / max(answered, 1), rate))
        os.remove(questions)
    return sorted(runs)[len(runs) // 2]


def measure_reload(server, process, work):
    """The longest silence and the queries lost while the list is read again, at 2,000 queries a second."""
    replies, sent, stop = {}, {}, threading.Event()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.1", PORT))
    client.settimeout(0.2)

    def listen():
        while not stop.is_set():
            try:
                reply = client.recv(4096)
                replies.setdefault(struct.unpack(">H", reply[:2])[0], time.monotonic())
            except OSError:
                pass

    listener = threading.Thread(target=listen)
    listener.start()
    rng, begin, reloaded = random.Random(5), time.monotonic(), False
    for number in range(24000):
        at = begin + number / 2000
        time.sleep(max(0, at - time.monotonic()))
        if number == 2000 and not reloaded:
            server.reload(process)
            reloaded = True
        query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + wire(rng.choice(work.listed)) + b"\0\x01\0\x01"
        sent[number] = time.monotonic()
        try:
            client.send(query)
        except OSError:
            pass
    time.sleep(1)
    stop.set()
    listener.join()
    times = sorted(replies.values())
    silence = max((later - earlier for earlier, later in zip(times, times[1:])), default=float("inf"))
    return silence, len(sent) - len(replies)


def bench(server, work, arguments):
    command = server.prepare()
    log = open(os.path.join(server.folder, "log"), "wb")
    began = time.monotonic()
    process = subprocess.Popen(command, preexec_fn=lambda: pin(FIRST), stdout=log, stderr=log)
    try:
        while not (is_blocked(ask(work.listed[0])) or isinstance(server, Floor) and ask(work.listed[0])):
            if process.poll() is not None or time.monotonic() - began > 180:
                raise RuntimeError(f"does not answer; see {log.name}")
            time.sleep(0.005)
        row = {"start": time.monotonic() - began}
        warm = work.write("warm.txt", (name + " A" for name in work.known))
        dnsperf(warm)
        dnsperf(warm)
        row["memory"] = memory(process.pid)
        for kind in arguments.kinds:
            if kind == "miss" and isinstance(server, Floor):
                continue
            row[kind], row[kind + " rate"] = measure(server, process, work, kind, arguments.repeats)
        if arguments.reload and server.reload:
            row["silence"], row["lost"] = measure_reload(server, process, work)
            row["memory after"] = memory(process.pid)
        return row
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def table(rows, kinds):
    """The README's table; ratios are to the floor."""
    floor = rows.get("floor", {})
    head = ["", *(f"{kind} µs" for kind in kinds), "start s", "memory MB", "reload: silence s / lost"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        cells = [name]
        for kind in kinds:
            ratio = f" (× {row[kind] / floor[kind]:.2f})" if kind in row and floor.get(kind) else ""
            cells.append(f"{row[kind]:.2f}{ratio}" if kind in row else "–")
        cells += [f"{row['start']:.2f}", f"{row['memory']:.0f}"]
        cells.append(f"{row['silence']:.3f} / {row['lost']}" if "silence" in row else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000, help="names in the list")
    parser.add_argument("--queries", type=int, default=200_000, help="queries in a run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind; the median counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", type=lambda text: text.split(","), help="only those whose name begins so")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["blocked", "cached", "mixed", "miss"])
    parser.add_argument("--reload", action="store_true", help="measure reloads too")
    parser.add_argument("--keep", action="store_true", help="leave configurations and logs behind")
    arguments = parser.parse_args()
    if len(CORES) < 2:
        print("only one core here: server and client will disturb each other", file=sys.stderr)

    folder = tempfile.mkdtemp(prefix="qalqan-peers-")
    work = Work(folder, arguments.seed, arguments.names, arguments.queries)
    authority = start_authority(work)
    rows = {}
    try:
        for kind in SERVERS:
            server = kind(work)
            wanted = not arguments.servers or any(server.name.startswith(name) for name in arguments.servers)
            if not wanted:
                continue
            if not server.installed():
                print(f"{server.name}: not installed, left out", file=sys.stderr)
                continue
            try:
                rows[server.name] = bench(server, work, arguments)
                print(f"{server.name}: {rows[server.name]}", file=sys.stderr)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{server.name}: {error}", file=sys.stderr)
    finally:
        authority.terminate()
        authority.wait()
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(table(rows, arguments.kinds))


if __name__ == "__main__":
    main()
