"""The servers under test, each in the best configuration known to us for this list.

For all of them: one thread for queries and no validation unless a part asks for
more, no query log, room for every answer in the cache, and for thousands of
questions that wait for the world. Those that recurse get root hints that lead
to the [`world`](world.py); the others forward to a server that has an answer
for everything.
"""

import functools
import glob
import grp
import os
import pwd
import re
import struct
import subprocess

import processes
import world
from load import ADDRESS, PORT
from questions import SINKHOLE, to_wire

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONTROL_PORT = 5392
FLOOR_PORT = 5391


class Server:
    """How one server is configured and started, and how it learns of a new list."""

    name = program = None
    # The code of its blocked answers, as dnsperf prints it.
    blocks_with = "NXDOMAIN"
    recurses = True
    tcp = True
    # Whether it takes a new list without a restart.
    reloads = True
    # Whether it can be told how many threads take queries, and to validate.
    has_workers = validates = True
    version_option = "--version"
    # The file that the list is in, in the form that `write_list` gives it.
    list_file = "rpz.zone"

    def __init__(self, folder, world_, connections=1000, workers=1, validate=False):
        self.folder = os.path.join(folder, self.slug())
        self.world, self.connections, self.workers, self.validate = world_, connections, workers, validate
        os.makedirs(self.folder, exist_ok=True)

    @classmethod
    def slug(cls):
        """The name as one word, for folders and the command line."""
        return cls.name.lower().replace(",", "").replace(" ", "-")

    @classmethod
    def path_of_program(cls):
        return processes.installed(cls.program)

    @classmethod
    def title(cls):
        """The name with the version that is installed: "Unbound 1.17, RPZ"."""
        output = subprocess.run([cls.path_of_program(), cls.version_option], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False).stdout
        version = re.search(r"\b\d+\.\d+", output)
        server, comma, how = cls.name.partition(",")
        return f"{server} {version[0]}{comma}{how}" if version else cls.name

    def anchor_data(self):
        """Key tag, algorithm, digest type and digest of what to trust."""
        return self.world.anchor.split(None, 3)[3].strip()

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, text):
        with open(self.path(name), "w", encoding="ascii") as file:
            file.write(text)
        return self.path(name)

    def prepare(self, names):
        """Writes list and configuration; returns the command."""
        self.write_list(self.path(self.list_file), names)
        return [self.path_of_program(), *self.configure()]

    def configure(self):
        """Writes the configuration; returns what the program is told."""
        raise NotImplementedError

    def write_list(self, path, names):
        """A response policy zone, unless a server has something better."""
        with open(path, "w", encoding="ascii") as file:
            # BIND looks at the serial.
            file.write(f"$TTL 60\n@ SOA localhost. nobody.invalid. {len(names)} 3600 1200 604800 60\n@ NS localhost.\n")
            file.writelines(f"{name} CNAME .\n*.{name} CNAME .\n" for name in names)

    def stage(self, names):
        """Writes a new list beside the one in force."""
        self.write_list(self.path("next"), names)

    def relist(self, process):
        """Puts the staged list in the place of the old one and lets the server know."""
        # Some look at the time of the file, in whole seconds.
        os.utime(self.path("next"))
        os.replace(self.path("next"), self.path(self.list_file))
        self.notify(process)

    def notify(self, process):
        """Some watch the file."""

    def control(self, *command):
        """Calls the server's own tool and does not wait for it."""
        program = processes.installed(command[0])
        processes.start([program, *command[1:]], processes.OTHER_CORES, self.path("control.log"))


class Floor(Server):
    """A batched echo: what the system calls cost alone."""

    name = "floor"
    tcp = recurses = False

    @classmethod
    def path_of_program(cls):
        found = glob.glob(os.path.join(PROJECT, "target/release/deps/floor-*"))
        programs = [path for path in found if os.access(path, os.X_OK) and not path.endswith(".d")]
        return max(programs, key=os.path.getmtime, default=None)

    def configure(self):
        return [f"{ADDRESS}:{FLOOR_PORT}"]

    def write_list(self, path, names):
        pass


class Qalqan(Server):
    name = "Qalqan"
    program = os.path.join(PROJECT, "target/release/qalqan")
    blocks_with = "NOERROR"
    list_file = "list.txt"

    def configure(self):
        config = self.file("qalqan.toml", f"""
[server]
listen = ["{ADDRESS}:{PORT}"]
workers = {self.workers}
state-dir = "{self.folder}/state"
[limits]
connections = {self.connections}
connections-per-client = {self.connections}
idle-timeout = 120
[resolver]
{f'trust-anchors = ["{self.world.anchor_file}"]' if self.validate else 'dnssec = "off"'}
root-hints = "{self.world.hints}"
allow-upstream = ["127.0.0.0/8"]
[sinkhole]
ipv4 = "{SINKHOLE}"
[[list]]
name = "bench"
source = "list.txt"
format = "domains"
match = "subdomains"
[control]
listen = "{ADDRESS}:{CONTROL_PORT}"
""")
        # Lists are compiled when they change, not when the server starts.
        subprocess.run([self.program, "compile", "-c", config], check=True, stdout=subprocess.DEVNULL)
        return ["serve", "-c", config]

    def write_list(self, path, names):
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{name}\n" for name in names)


class Unbound(Server):
    program = "unbound"
    version_option = "-V"
    modules, blocking = None, None

    def configure(self):
        return ["-d", "-c", self.file("unbound.conf", f"""
server:
  interface: {ADDRESS}@{PORT}
  num-threads: {self.workers}
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{self.folder}"
  pidfile: ""
  use-syslog: no
  verbosity: 0
  module-config: "{self.modules.format(validator="validator " * self.validate)}"
  {f'trust-anchor-file: "{self.world.anchor_file}"' if self.validate else ""}
  root-hints: "{self.world.hints}"
  do-not-query-localhost: no
  msg-cache-size: 128m
  rrset-cache-size: 256m
  so-rcvbuf: 4m
  so-sndbuf: 4m
  minimal-responses: yes
  outgoing-range: 8192
  num-queries-per-thread: 4096
  # The more of these are taken, the sooner idle ones are closed: after a 500th of the time at two thirds.
  incoming-num-tcp: {3 * self.connections // 2}
  tcp-idle-timeout: 3600000
remote-control:
  control-enable: yes
  control-interface: "{self.folder}/control"
  control-use-cert: no
{self.blocking}""")]


class UnboundZones(Unbound):
    name = "Unbound, local-zone"
    modules = "{validator}iterator"
    list_file = "zones.conf"
    blocking = 'server:\n  include: "zones.conf"\n'

    def write_list(self, path, names):
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f'local-zone: "{name}" always_nxdomain\n' for name in names)

    def notify(self, process):
        self.control("unbound-control", "-c", "unbound.conf", "reload_keep_cache")


class UnboundRpz(Unbound):
    name = "Unbound, RPZ"
    modules = "respip {validator}iterator"
    blocking = 'rpz:\n  name: "rpz.bench"\n  zonefile: "rpz.zone"\n'

    def notify(self, process):
        self.control("unbound-control", "-c", "unbound.conf", "auth_zone_reload", "rpz.bench")


class Knot(Server):
    name = "Knot Resolver, RPZ"
    program = "kresd"
    # It is started as often as there are cores.
    has_workers = False

    def configure(self):
        config = self.file("kresd.conf", f"""
net.ipv6 = false
net.listen('{ADDRESS}', {PORT}, {{ kind = 'dns' }})
modules = {{ 'policy', 'hints > iterate' }}
modules.unload('detect_time_skew')
hints.root_file('{self.world.hints}')
option('ALLOW_LOCAL', true)
trust_anchors.remove('.')
{f"trust_anchors.add([[{self.world.anchor}]])" if self.validate else ""}
cache.size = 256 * MB
-- It watches the file for changes, if it can: Debian has what it needs in lua-cqueues.
local watches = pcall(require, 'cqueues')
policy.add(policy.rpz(policy.DENY, '{self.path("rpz.zone")}', watches))
""")
        return ["-n", "-q", "-c", config, self.folder]


class PowerDns(Server):
    name = "PowerDNS Recursor, RPZ"
    program = "pdns_recursor"

    def configure(self):
        policy = '{policyName="bench", defpol=Policy.NXDOMAIN}'
        trust = f'clearTA()\naddTA(".", "{self.anchor_data()}")\n' if self.validate else ""
        lua = self.file("rpz.lua", f'{trust}rpzFile("{self.path("rpz.zone")}", {policy})\n')
        self.file("recursor.conf", f"""
local-address={ADDRESS}
local-port={PORT}
socket-dir={self.folder}
hint-file={self.world.hints}
dont-query=
dnssec={"validate" if self.validate else "off"}
threads={self.workers}
pdns-distributes-queries=no
reuseport=yes
max-mthreads=8192
lua-config-file={lua}
quiet=yes
loglevel=3
disable-syslog=yes
security-poll-suffix=
max-cache-entries=2000000
max-packetcache-entries=1000000
max-tcp-clients={self.connections}
max-concurrent-requests-per-tcp-connection=100
client-tcp-timeout=120
""")
        return [f"--config-dir={self.folder}", "--daemon=no", "--write-pid=no"]

    def notify(self, process):
        self.control("rec_control", f"--socket-dir={self.folder}", "reload-lua-config")


class Bind(Server):
    name = "BIND, RPZ"
    program = "named"
    version_option = "-v"

    def configure(self):
        if self.validate:
            tag, algorithm, digest_type, digest = self.anchor_data().split()
            trust = f'trust-anchors {{ . static-ds {tag} {algorithm} {digest_type} "{digest}"; }};'
        else:
            trust = ""
        return ["-f", "-n", str(self.workers), "-c", self.file("named.conf", f"""
options {{
  directory "{self.folder}";
  pid-file none;
  session-keyfile none;
  listen-on port {PORT} {{ {ADDRESS}; }};
  listen-on-v6 {{ none; }};
  dnssec-validation {"yes" if self.validate else "no"};
  minimal-responses yes;
  max-cache-size 512m;
  recursive-clients 10000;
  udp-receive-buffer 4194304;
  udp-send-buffer 4194304;
  tcp-clients {self.connections};
  tcp-idle-timeout 1200;
  response-policy {{ zone "rpz.bench"; }} qname-wait-recurse no min-update-interval 0;
}};
controls {{ }};
{trust}
logging {{
  channel faults {{ stderr; severity error; }};
  category default {{ faults; }};
}};
zone "." {{ type hint; file "{self.world.hints}"; }};
zone "rpz.bench" {{ type primary; file "rpz.zone"; masterfile-format text; notify no; }};
""")]

    def notify(self, process):
        process.send_signal(1)


class Hickory(Server):
    """From `cargo install hickory-dns --no-default-features --features recursor,blocklist,resolver`."""

    name = "hickory-dns, blocklist"
    program = "hickory-dns"
    blocks_with = "NOERROR"
    reloads = validates = False
    list_file = "list.txt"

    def configure(self):
        return ["-q", "--workers", str(self.workers), "-c", self.file("named.toml", f"""
listen_addrs_ipv4 = ["{ADDRESS}"]
listen_port = {PORT}
directory = "{self.folder}"
user = "{pwd.getpwuid(os.geteuid()).pw_name}"
group = "{grp.getgrgid(os.getegid()).gr_name}"
udp_socket = {{ sockets = {self.workers}, recv_buffer_size = 4194304, send_buffer_size = 4194304 }}

[[zones]]
zone = "."
zone_type = "External"

[[zones.stores]]
type = "blocklist"
lists = ["list.txt"]
sinkhole_ipv4 = "{SINKHOLE}"
log_clients = false
wildcard_match = true
min_wildcard_depth = 1

[[zones.stores]]
type = "recursor"
roots = "{self.world.hints}"
dnssec_policy = "SecurityUnaware"
allow_server = ["127.0.0.0/8"]
ns_cache_size = 100000
response_cache_size = 1000000
""")]

    def write_list(self, path, names):
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{name}\n*.{name}\n" for name in names)


class Dnsdist(Server):
    """A load balancer with a cache of packets; what it does not know it forwards."""

    program = "dnsdist"
    blocks_with = "NOERROR"
    recurses = validates = False
    blocking = None

    def configure(self):
        listen = f"addLocal('{ADDRESS}:{PORT}', {{reusePort=true, maxInFlight=1000, tcpListenQueueSize=4096}})\n"
        return ["--supervised", "--disable-syslog", "-C", self.file("dnsdist.conf", f"""
-- A thread for each time that it listens.
{listen * self.workers}setACL({{'127.0.0.0/8'}})
setSecurityPollSuffix('')
setUDPMultipleMessagesVectorSize(64)
setUDPSocketBufferSizes(4194304, 4194304)
setMaxTCPClientThreads(1)
setMaxTCPConnectionsPerClient(0)
setTCPRecvTimeout(120)
newServer({{address='{world.FORWARDER}:53', checkInterval=60, sockets=4}})
getPool(''):setCache(newPacketCache(1000000, {{maxTTL=86400}}))
{self.blocking.format(folder=self.folder, sinkhole=SINKHOLE)}""")]


class DnsdistCdb(Dnsdist):
    """With the list in a constant database on disk."""

    name = "dnsdist, CDB"
    list_file = "list.cdb"
    blocking = """
kvs = newCDBKVStore('{folder}/list.cdb', 1)
addAction(KeyValueStoreLookupRule(kvs, KeyValueLookupKeySuffix(2, true)), SpoofAction('{sinkhole}'))
"""

    def write_list(self, path, names):
        write_cdb(path, (to_wire(name) for name in names))


class DnsdistTree(Dnsdist):
    """With the list in a suffix tree in memory."""

    name = "dnsdist, suffix tree"
    list_file = "list.txt"
    blocking = """
function load()
  local names = newSuffixMatchNode()
  for name in io.lines('{folder}/list.txt') do
    names:add(name)
  end
  setRules({{newRuleAction(SuffixMatchNodeRule(names, true), SpoofAction('{sinkhole}'))}})
end
load()

-- Called once a second, beside the threads that answer.
function maintenance()
  if os.remove('{folder}/reload') then
    load()
  end
end
"""

    def write_list(self, path, names):
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{name}\n" for name in names)

    def notify(self, process):
        self.file("reload", "")


class Dnsmasq(Server):
    name = "dnsmasq"
    program = "dnsmasq"
    recurses = has_workers = validates = False
    # It starts a process for each connection, twenty at most.
    tcp = False
    list_file = "list.conf"

    def configure(self):
        return ["--keep-in-foreground", "--conf-file=" + self.file("dnsmasq.conf", f"""
port={PORT}
listen-address={ADDRESS}
bind-interfaces
user=root
pid-file=
no-resolv
no-hosts
server={world.FORWARDER}
dns-forward-max=10000
cache-size=100000
servers-file={self.path("list.conf")}
""")]

    def write_list(self, path, names):
        # A server that is not one: the name and what is below it do not exist.
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"server=/{name}/\n" for name in names)

    def notify(self, process):
        process.send_signal(1)


SERVERS = [Floor, Qalqan, DnsdistCdb, DnsdistTree, PowerDns, UnboundZones, UnboundRpz, Knot, Bind, Hickory, Dnsmasq]


def write_cdb(path, keys):
    """A constant database with the value "1" for each key (https://cr.yp.to/cdb/cdb.txt)."""
    tables, at = [[] for _ in range(256)], 2048
    with open(path, "wb") as file:
        file.seek(at)
        for key in keys:
            # The hash, h = (h * 33) ^ octet, 32 bits wide.
            digest = functools.reduce(lambda digest, octet: (digest * 33 & 0xFFFFFFFF) ^ octet, key, 5381)
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
