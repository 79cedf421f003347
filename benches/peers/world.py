"""A small internet behind the servers under test, served by NSD: a root, top-level domains, and a zone for each name.

Every zone has an address for every name, so a fresh name is a miss that has an
answer. The port of a name server cannot be told in root hints, so all are at
port 53 of loopback addresses.
"""

import os
import time

import processes
import questions
from load import ask

ROOT, TOP, ZONES = "127.53.0.1", "127.53.0.2", "127.53.0.3"
# For servers that can only forward: an address for every name there is.
FORWARDER = "127.53.0.4"
TTL = 86400
HEAD = f"$TTL {TTL}\n@ SOA ns nobody 1 3600 1200 604800 60\n"


class World:
    def __init__(self, folder, zones):
        self.folder, self.servers = os.path.join(folder, "world"), []
        os.makedirs(self.folder)
        self.hints = self.file("root.hints", f". {TTL} NS ns.\nns. {TTL} A {ROOT}\n")

        below = {ending: [] for ending in questions.WORLD_ENDINGS}
        for zone in zones:
            below[zone.rsplit(".", 1)[1]].append(zone)
        root = f"$TTL {TTL}\n. SOA ns. nobody. 1 3600 1200 604800 60\n. NS ns.\nns. A {ROOT}\n"
        root += "".join(f"{ending}. NS ns.{ending}.\nns.{ending}. A {TOP}\n" for ending in below)
        tops = {}
        for ending, names in below.items():
            cuts = "".join(f"{name}. NS ns.{name}.\nns.{name}. A {ZONES}\n" for name in names)
            tops[ending] = self.file(f"{ending}.zone", f"{HEAD}@ NS ns\nns A {TOP}\n{cuts}")
        # One file serves all zones: its names are relative.
        zone = self.file("any.zone", f"{HEAD}@ NS ns\nns A {ZONES}\n* A {questions.ADDRESS}\n")
        everything = self.file("everything.zone", f"{HEAD}@ NS ns\n* A {questions.ADDRESS}\n")

        self.start(ROOT, {".": self.file("root.zone", root)})
        self.start(TOP, tops)
        self.start(ZONES, {name: zone for name in zones})
        self.start(FORWARDER, {".": everything})
        self.wait("www." + zones[0])

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def start(self, address, zones):
        own = os.path.join(self.folder, address)
        clauses = "".join(f'zone:\n  name: "{name}"\n  zonefile: "{path}"\n' for name, path in zones.items())
        config = self.file(f"{address}.conf", f"""server:
  ip-address: {address}@53
  username: ""
  chroot: ""
  zonesdir: "{self.folder}"
  pidfile: ""
  database: ""
  xfrdfile: "{own}.xfrd"
  zonelistfile: "{own}.list"
  xfrdir: "{self.folder}"
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
{clauses}""")
        self.servers.append(processes.start(["nsd", "-d", "-c", config], processes.OTHER_CORES, own + ".log"))

    def wait(self, name):
        until = time.monotonic() + 60
        for address in (ROOT, TOP, ZONES, FORWARDER):
            while ask(name, address, 53) is None:
                if time.monotonic() > until or any(server.poll() is not None for server in self.servers):
                    raise RuntimeError(f"the name servers of the world do not start; see {self.folder}/*.log")
                time.sleep(0.05)

    def stop(self):
        for server in self.servers:
            processes.stop(server)
