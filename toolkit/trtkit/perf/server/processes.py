# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The server's processes on this machine, when it runs here and /proc shows them: memory and CPU time (Linux)."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from trtkit.perf.server.address import Address

_PROC = Path("/proc")
_LISTENING = "0A"
# a Python-backend model that is loaded or restarted brings a new process
_LOOK_FOR_CHILDREN_EVERY_S = 5.0

_Ip = IPv4Address | IPv6Address


class Usage(NamedTuple):
    """What the server and its children use.

    Attributes:
        rss_bytes: resident memory, a page that several of them share counted for each.
        cpu_ns: CPU time by process id since each began, in steps of a clock tick (10 ms).
    """

    rss_bytes: int
    cpu_ns: dict[int, int]


class ServerProcesses:
    """A server's process and its children, the stubs of Python models.

    Args:
        pid: the server's.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._family = [pid]
        self._looked_at = float("-inf")

    def usage(self) -> Usage | None:
        """What they use now; None when the server has ended."""
        if time.monotonic() - self._looked_at > _LOOK_FOR_CHILDREN_EVERY_S:
            self._looked_at = time.monotonic()
            self._family = family(self.pid)
        rss, cpu = 0, {}
        for pid in self._family:
            with suppress(OSError, ValueError):  # it ended in between
                fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
                cpu[pid] = (int(fields[11]) + int(fields[12])) * (10**9 // os.sysconf("SC_CLK_TCK"))
                rss += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        return Usage(rss, cpu) if self.pid in cpu else None

    def cores(self) -> int | None:
        """How many CPU cores the server may use; None when it has ended."""
        with suppress(OSError):
            return len(os.sched_getaffinity(self.pid))
        return None

    def pss_bytes(self) -> int | None:
        """Resident memory with shared pages counted once; None when it cannot be read. Takes milliseconds."""
        total = 0
        for pid in family(self.pid):
            with suppress(OSError, ValueError, IndexError):
                rollup = (_PROC / str(pid) / "smaps_rollup").read_bytes()
                total += int(rollup.partition(b"\nPss:")[2].split()[0]) * 1024
        return total or None


def family(pid: int) -> list[int]:
    """A process and its descendants, the process first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(_PROC):  # noqa: PTH208 - names only, without an object for each
        if entry.isdigit():
            with suppress(OSError, IndexError):
                stat = (_PROC / entry / "stat").read_bytes()
                children.setdefault(int(stat.rpartition(b")")[2].split()[1]), []).append(int(entry))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def server_processes(address: Address) -> ServerProcesses | None:
    """The Triton server that listens at an address.

    Returns:
        None when the host is another machine, the listener belongs to somebody else or to another namespace
        (a container), or is no Triton (a proxy, a forwarded port).
    """
    hosts = _own_addresses(address.host)
    inodes = {f"socket:[{inode}]" for inode in _listening(hosts, address.port)} if hosts else set()
    candidates = [pid for pid in _holders(inodes) if _is_triton(pid)] if inodes else []
    return ServerProcesses(min(candidates)) if candidates else None


def _own_addresses(host: str) -> set[_Ip]:
    """The host's addresses that are this machine's: those that a socket can be bound to."""
    own: set[_Ip] = set()
    with suppress(OSError, UnicodeError):
        for family_, _, _, _, where in socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM):
            with suppress(OSError), socket.socket(family_, socket.SOCK_DGRAM) as probe:
                probe.bind(where)
                own.add(ip_address(str(where[0]).partition("%")[0]))
    return own


def _listening(hosts: set[_Ip], port: int) -> Iterator[str]:
    """The inodes of the sockets that take connections to one of the addresses at the port."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                ip, _, hex_port = fields[1].partition(":")
                if fields[3] == _LISTENING and int(hex_port, 16) == port:
                    bound = _ip(ip)
                    if bound.is_unspecified or bound in hosts:
                        yield fields[9]


def _ip(text: str) -> _Ip:
    """An address of /proc/net/tcp: 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _holders(inodes: set[str]) -> Iterator[int]:
    """The processes that have one of the sockets open, of those that we may look at."""
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError), os.scandir(folder / "fd") as files:
            if any(_link(file) in inodes for file in files):
                yield int(folder.name)


def _link(file: os.DirEntry[str]) -> str:
    try:
        return os.readlink(file)  # noqa: PTH115 - it is no path, but "socket:[INODE]"
    except OSError:
        return ""


def _is_triton(pid: int) -> bool:
    with suppress(OSError):
        return b"libtritonserver" in (_PROC / str(pid) / "maps").read_bytes()
    return False
