"""A small internet behind the servers under test, served by NSD: a root, top-level domains, and a zone for each name.

Every zone has an address for every name, so a fresh name is a miss that has an
answer. Some zones are signed, with all above them, and some have name servers
that never answer. The port of a name server cannot be told in root hints, so
all are at port 53 of loopback addresses.
"""

import os
import socket
import subprocess
import time

import processes
import questions
from load import ask

ROOT, TOP, ZONES = "127.53.0.1", "127.53.0.2", "127.53.0.3"
# For servers that can only forward: an address for every name there is.
FORWARDER = "127.53.0.4"
SILENT = [f"127.53.1.{number}" for number in range(1, 251)]
TTL = 86400
HEAD = f"$TTL {TTL}\n@ SOA ns nobody 1 3600 1200 604800 60\n"


class World:
    def __init__(self, folder, asked):
        self.folder, self.servers = os.path.join(folder, "world"), []
        os.makedirs(self.folder)
        self.hints = self.file("root.hints", f". {TTL} NS ns.\nns. {TTL} A {ROOT}\n")
        self.silence = [hold_without_reading(address) for address in SILENT]

        # One file serves all zones that are not signed: its names are relative.
        zone = self.file("any.zone", f"{HEAD}@ NS ns\nns A {ZONES}\n* A {questions.ADDRESS}\n")
        zones = {name: zone for name in asked.zones + asked.cold_zones}
        endings = [*questions.WORLD_ENDINGS, questions.SIGNED_ENDING]
        tops = {ending: [f"{HEAD}@ NS ns\nns A {TOP}\n"] for ending in endings}
        for name in zones:
            tops[top_of(name)].append(delegation(name, ZONES))
        for at, name in enumerate(asked.silent_zones):
            addresses = SILENT[at % len(SILENT)], SILENT[(7 * at + 1) % len(SILENT)]
            tops[top_of(name)] += [delegation(name, where, f"ns{order}") for order, where in enumerate(addresses)]
        root = [f"$TTL {TTL}\n. SOA ns. nobody. 1 3600 1200 604800 60\n. NS ns.\nns. A {ROOT}\n"]
        root += [delegation(ending, TOP) for ending in tops]

        signed = {name: [] for name in asked.signed_zones}
        for name in asked.signed_names:
            host, zone = name.split(".", 1)
            signed[zone].append(host)
        for name, hosts in signed.items():
            addresses = "".join(f"{host} A {questions.ADDRESS}\n" for host in ("www", *hosts))
            zones[name], anchor = self.sign(name, f"{HEAD}@ NS ns\nns A {ZONES}\n{addresses}")
            tops[questions.SIGNED_ENDING].append(delegation(name, ZONES) + anchor)
        top_files = {ending: self.file(f"{ending}.zone", "".join(lines)) for ending, lines in tops.items()}
        # What to trust: a DS record, in zone-file form.
        self.anchor = None
        if signed:
            ending = questions.SIGNED_ENDING
            top_files[ending], anchor = self.sign(ending, "".join(tops[ending]))
            root_file, self.anchor = self.sign(".", "".join([*root, anchor]))
            self.anchor_file = self.file("root.anchor", self.anchor)
        else:
            root_file = self.file("root.zone", "".join(root))
        everything = self.file("everything.zone", f"{HEAD}@ NS ns\n* A {questions.ADDRESS}\n")

        self.start(ROOT, {".": root_file})
        self.start(TOP, top_files)
        self.start(ZONES, zones)
        self.start(FORWARDER, {".": everything})
        self.wait("www." + asked.zones[0])

    def sign(self, name, text):
        """The file of the zone, signed, and the DS record for the zone above."""
        origin = name.rstrip(".") + "."
        file = self.file(f"{origin}zone", text)
        keygen = ["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", origin]
        key = subprocess.run(keygen, cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        subprocess.run(["ldns-signzone", "-o", origin, file, key], cwd=self.folder, check=True)
        with open(os.path.join(self.folder, key + ".ds"), encoding="ascii") as ds:
            return file + ".signed", ds.read()

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
        for held in self.silence:
            held.close()


def top_of(name):
    return name.rsplit(".", 1)[1]


def delegation(name, address, server="ns"):
    return f"{name}. NS {server}.{name}.\n{server}.{name}. A {address}\n"


def hold_without_reading(address):
    """To ask a port that nobody has is to be refused; here nothing comes back at all."""
    held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Nobody reads what waits.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    held.bind((address, 53))
    return held
