"""Processes on this machine: where they run, what CPU time and memory they take, how they end, and a network of
their own.

Linux only. A figure of a process takes in its children, since some servers work in several.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import typing

CORES = sorted(os.sched_getaffinity(0))
# The server under test has one core for itself; load and name servers share the others.
SERVER_CORE, OTHER_CORES = {CORES[0]}, set(CORES[1:]) or {CORES[0]}
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def enter_private_network():
    """Starts this program again in a network namespace of its own, where every port is free and nobody else talks.

    Goes on without one where the kernel does not allow that; what needs port 53 then needs rights to it.
    """
    if os.environ.get("PEERS_NETWORK") == "private":
        set_up_loopback()
        return
    for options in (["--net"], ["--user", "--map-root-user", "--net"]):
        with contextlib.suppress(OSError):
            if subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL).returncode == 0:
                os.environ["PEERS_NETWORK"] = "private"
                os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])
    print("no network namespace to be had; ports of this machine are used", file=sys.stderr)


def set_up_loopback():
    """`ip link set lo up`, without iproute2 (netdevice(7))."""
    SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1] | IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def allow_open_files(count):
    """Raises the limit as far as we may; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((max(count, soft), max(count, hard)), (hard, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def start(command, cores, log):
    """Starts a server on `cores`, which ends with us; what it says goes to the file `log`."""

    def place():
        os.sched_setaffinity(0, cores)
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    with open(log, "ab") as file:
        return subprocess.Popen(command, preexec_fn=place, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                cwd=os.path.dirname(log))


def stop(process, patience=10):
    """Asks it to end; returns the seconds that it took, or nothing when it had to be killed."""
    began = time.monotonic()
    process.terminate()
    try:
        process.wait(patience)
        return time.monotonic() - began
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None


def installed(program):
    # Servers live in sbin, which is not in everybody's PATH.
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def family(pid):
    """The process and its descendants."""
    pids = [pid]
    for known in pids:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{known}/task"):
                with open(f"/proc/{known}/task/{thread}/children", encoding="ascii") as file:
                    pids.extend(int(child) for child in file.read().split())
    return pids


class Usage(typing.NamedTuple):
    """What a process has used since it was started."""

    # User and system time, in seconds.
    cpu: float
    # How often its threads gave up a core, and how often one was taken from them.
    voluntary: int
    involuntary: int

    def since(self, before):
        return Usage(*(now - then for now, then in zip(self, before)))


def usage(pid):
    """What a process and its descendants have used; to the nanosecond, but to the tick for those that have ended."""
    cpu, switches = 0.0, [0, 0]
    for member in family(pid):
        with contextlib.suppress(OSError):
            # The CPU clock of another process (clock_getcpuclockid(3), as Linux numbers it).
            cpu += time.clock_gettime(~member << 3 | 2)
            with open(f"/proc/{member}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            cpu += (int(fields[13]) + int(fields[14])) / TICK
            for thread in os.listdir(f"/proc/{member}/task"):
                lines = fields_of(f"/proc/{member}/task/{thread}/status")
                switches[0] += lines["voluntary_ctxt_switches"]
                switches[1] += lines["nonvoluntary_ctxt_switches"]
    return Usage(cpu, *switches)


def fields_of(path):
    """The lines "name: number" of a file in /proc."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = (line.split(":", 1) for line in file if ":" in line)
        words = ((name, value.split()) for name, value in lines)
        return {name: int(value[0]) for name, value in words if value and value[0].isdigit()}


def memory_mb(pid):
    """Resident memory; pages of mapped files count, since they must be there for answers to be quick."""
    pages = 0
    for member in family(pid):
        with contextlib.suppress(OSError, IndexError):
            with open(f"/proc/{member}/statm", encoding="ascii") as file:
                pages += int(file.read().split()[1])
    return pages * PAGE / 2**20


def memory(pid):
    """Resident memory, and the process's share of it where each page is divided by those who map it."""
    shares = 0
    for member in family(pid):
        with contextlib.suppress(OSError, KeyError):
            shares += fields_of(f"/proc/{member}/smaps_rollup")["Pss"]
    return {"rss": memory_mb(pid), "pss": shares / 1024}
