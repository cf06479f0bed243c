"""What is mapped, told by the kernel: the part of policy `ranges` that no page tells.

A huge page may be mapped into a process without a tracepoint, and a mapping may grow later
(mremap). So each mapping of a file counts from where it begins to the file's end, for the process
that made it. The kernel tells of every mapping on the machine, in a ring per processor; what a
ring was too full for is counted as lost.
"""

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit.descriptor import Descriptor

_PAGES = 256
# ref: https://man7.org/linux/man-pages/man2/perf_event_open.2.html
_SYSCALL = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTES = struct.Struct("<IIQQQQQ80x")
_SOFTWARE, _DUMMY = 1, 9
_MMAP, _MMAP_DATA, _MMAP2 = 1 << 8, 1 << 17, 1 << 23
_CLOEXEC = 8
_HEAD_AT, _TAIL_AT = 1024, 1032
_WORD = struct.Struct("<Q")
_HEADER = struct.Struct("<IHH")
_RECORD_LOST, _RECORD_MMAP2 = 2, 10
_MAPPED = struct.Struct("<IIQQQIIQ")

_libc = ctypes.CDLL(None, use_errno=True)


class Mapping(NamedTuple):
    """That *pid* has mapped file *ino* of *device*, from byte *offset* on."""

    device: int
    ino: int
    pid: int
    offset: int


class Mappings:
    """Every mapping that is made on this machine from now on."""

    def __init__(self) -> None:
        """Begin; raises `MountRefused` where the kernel does not tell."""
        number = _SYSCALL.get(os.uname().machine)
        if number is None:
            raise MountRefused(f"mappings are not known how to be seen on {os.uname().machine}")
        attributes = _ATTRIBUTES.pack(
            _SOFTWARE, _ATTRIBUTES.size, _DUMMY, 0, 0, 0, _MMAP | _MMAP_DATA | _MMAP2
        )
        self._rings: list[tuple[Descriptor, mmap.mmap]] = []
        for processor in range(os.sysconf("SC_NPROCESSORS_CONF")):
            fd = _libc.syscall(number, attributes, -1, processor, -1, _CLOEXEC)
            if fd < 0:
                reason = os.strerror(ctypes.get_errno())
                raise MountRefused(f"the kernel does not tell what is mapped: {reason}")
            owned = Descriptor(fd)
            self._rings.append((owned, mmap.mmap(fd, (1 + _PAGES) * mmap.PAGESIZE)))

    def take(self) -> tuple[list[Mapping], bool]:
        """Return what was mapped since the last time, and whether some of it is lost."""
        found: list[Mapping] = []
        is_lossy = False
        for _, ring in self._rings:
            for kind, body in _take_records(ring):
                if kind == _RECORD_LOST:
                    is_lossy = True
                elif kind == _RECORD_MMAP2:
                    pid, _, _, _, offset, major, minor, ino = _MAPPED.unpack_from(body)
                    found.append(Mapping(os.makedev(major, minor), ino, pid, offset))
        return found, is_lossy


def _take_records(ring: mmap.mmap) -> Iterator[tuple[int, bytes]]:
    (head,) = _WORD.unpack_from(ring, _HEAD_AT)
    (tail,) = _WORD.unpack_from(ring, _TAIL_AT)
    data = _copy(ring, tail, head)
    _WORD.pack_into(ring, _TAIL_AT, head)
    at = 0
    while at < len(data):
        kind, _, length = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += length


def _copy(ring: mmap.mmap, tail: int, head: int) -> bytes:
    """Return what stands from *tail* to *head*, maybe around the ring's end."""
    size = _PAGES * mmap.PAGESIZE
    start, end = tail % size, tail % size + head - tail
    first = ring[mmap.PAGESIZE + start : mmap.PAGESIZE + min(end, size)]
    return first + ring[mmap.PAGESIZE : mmap.PAGESIZE + max(0, end - size)]
