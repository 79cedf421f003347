"""The list and the questions, all from one seed; and what a right answer to each is.

Names that are not listed lie in zones of [`world`](world.py), one name a zone.
"""

import copy
import os
import random
import struct

WORDS = """track ads cdn click metrics promo shop login secure static media news
game bet pixel img api cloud mail web best top free my""".split()
ENDINGS = "com com com net org ru kz info xyz top co.uk online".split()
# Top-level domains that the world serves.
WORLD_ENDINGS = "com net org info xyz".split()
# The one with signed zones below it.
SIGNED_ENDING = "dev"
SIGNED_ZONES, SILENT_ZONES = 100, 2000

SINKHOLE = "192.0.2.53"
ADDRESS = "198.51.100.7"
NOERROR, NXDOMAIN = 0, 3
# The AD bit, in the fourth octet of a message.
AUTHENTIC = 0x20
KINDS = {
    "blocked": "a listed name or one below it, picked at random",
    "cached": "one of the popular names, by Zipf's law",
    "mixed": "20 % listed names, 80 % others, the popular ones of both by Zipf's law",
    "miss": "a fresh name in a zone that is known",
    "cold": "a name in a zone that nobody has asked for yet",
    "signed": "a fresh name in a signed zone that is known, with validation",
}


class Questions:
    """What is listed, what there is beside it, and questions for both.

    Of cold zones and signed names there are so many; `runs` share them.
    """

    def __init__(self, seed, names, zones, cold_zones, signed_names, runs):
        rng = random.Random(seed)
        self.seed, self.files, self.runs = seed, 0, runs
        self.listed = [listed_name(rng, index) for index in range(names)]
        self.listed_set = frozenset(self.listed)
        self.zones = [zone_name(rng, index) for index in range(zones)]
        self.cold_zones = [zone_name(rng, zones + index) for index in range(cold_zones)]
        self.silent_zones = [f"silent-{index:x}.{rng.choice(WORLD_ENDINGS)}" for index in range(SILENT_ZONES)]
        signed_zones = SIGNED_ZONES if signed_names else 0
        self.signed_zones = [f"signed-{index:x}.{SIGNED_ENDING}" for index in range(signed_zones)]
        # Wildcards would do for these too, but not make each a question to a name server (RFC 8198).
        self.signed_names = [f"h{index}.{rng.choice(self.signed_zones)}" for index in range(signed_names)]
        self.scarce = {"cold": ["www." + zone for zone in self.cold_zones], "signed": self.signed_names}

    def for_a_server(self, names, folder):
        """Questions for a server that was just started and has the first `names` of the list: all are fresh again."""
        fresh = copy.copy(self)
        fresh.folder, fresh.listed = folder, self.listed[:names]
        fresh.listed_set = self.listed_set if names is None else frozenset(fresh.listed)
        fresh.left = {kind: iter(names) for kind, names in self.scarce.items()}
        return fresh

    def all_known(self):
        """Questions that fill a cache with all that will be asked again, and with what leads to fresh names."""
        return self.write("known", ("www." + zone for zone in self.zones + self.signed_zones))

    def fresh(self, kind, count):
        """A file of questions that were not asked before: the same ones again would flatter caches of answers."""
        self.files += 1
        rng = random.Random(f"{self.seed}/{kind}/{self.files}")

        def blocked():
            return rng.choice(("", "www.")) + rng.choice(self.listed)

        def popular(names):
            # Zipf's law, near enough: the rank is exponential in a uniform number.
            return names[int(len(names) ** rng.random()) - 1]

        def cached():
            return "www." + popular(self.zones)

        def mixed():
            return popular(self.listed) if rng.random() < 0.2 else cached()

        def miss():
            return f"{rng.getrandbits(64):x}." + rng.choice(self.zones)

        def silent():
            return f"{rng.getrandbits(64):x}." + rng.choice(self.silent_zones)

        if kind in self.scarce:
            count = min(count, len(self.scarce[kind]) // self.runs)
            pick = self.left[kind].__next__
        else:
            pick = {"blocked": blocked, "cached": cached, "mixed": mixed, "miss": miss, "silent": silent}[kind]
        return self.write(f"{kind}-{self.files}", (pick() for _ in range(count)))

    def right_answer(self, name):
        """What `meaning` should say of the reply to a question of ours."""
        return "blocked" if name in self.listed_set or name.removeprefix("www.") in self.listed_set else "passed"

    def write(self, name, names):
        path = os.path.join(self.folder, name + ".txt")
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{name} A\n" for name in names)
        return path


def listed_name(rng, index):
    """A name of the shape that public lists have; `index` makes it the only one."""
    host = rng.choice(WORDS) + "." if rng.random() < 1 / 3 else ""
    return f"{host}{rng.choice(WORDS)}-{rng.choice(WORDS)}{index:x}.{rng.choice(ENDINGS)}"


def zone_name(rng, index):
    return f"{rng.choice(WORDS)}{rng.choice(WORDS)}-{index:x}.{rng.choice(WORLD_ENDINGS)}"


def to_wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def query(name, number):
    """A question for an IPv4 address, recursion desired; AD asks whether the answer was validated (RFC 6840, 5.7)."""
    return struct.pack(">HHHHHH", number, 0x0120, 1, 0, 0, 0) + to_wire(name) + b"\0\x01\0\x01"


def meaning(reply):
    """What a reply to `query` says: "blocked", "passed" or "failed"."""
    if reply is None or len(reply) < 12:
        return "failed"
    rcode, answers = reply[3] & 15, struct.unpack(">H", reply[6:8])[0]
    if rcode == NXDOMAIN:
        return "blocked"
    addresses = list(addresses_of(reply)) if rcode == NOERROR and answers else []
    if addresses == [ADDRESS]:
        return "passed"
    return "blocked" if addresses in ([SINKHOLE], ["0.0.0.0"]) else "failed"


def addresses_of(reply):
    """The data of A records in the answer section; nothing more is understood, nor sent by servers under test."""
    at = reply.index(b"\0", 12) + 5
    for _ in range(struct.unpack(">H", reply[6:8])[0]):
        at = at + 2 if reply[at] >= 192 else reply.index(b"\0", at) + 1
        kind, _, _, length = struct.unpack(">HHIH", reply[at : at + 10])
        at += 10
        if kind == 1:
            yield ".".join(str(octet) for octet in reply[at : at + 4])
        at += length
