"""A handle: one open of one file, and the caller that asks for it or through it."""

import os
import resource
from collections.abc import Callable
from typing import NamedTuple

from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.process import Process
from nightingale_hub.fuse_audit.tree import Node

# Takes bytes of an open file, from an offset, into a buffer or where they wait to be sent.
Take = Callable[[int, memoryview, int], int]


# So many open files take about 100 MB; no loader has a part of them.
_MOST_OPEN = 1 << 16
# What the daemon itself opens: directories, callers, the next spool file.
_OWN_FILES = 4096


class Caller(NamedTuple):
    """Who sent a request: a user id and a thread id, as the kernel says them.

    `about_to` is told the sequence number and the handle's number of a record, before a byte of
    it is written.
    """

    uid: int
    tid: int
    about_to: Callable[[int, int], None] | None = None


class Handle(NamedTuple):
    """One open of one file; `fields` are those of its records, `fid` is its number."""

    fid: int
    node: Node
    file: Descriptor
    opener: Process
    uid: int
    fields: bytes
    flags: int
    policy: bytes


def read_into(file: int, buffer: memoryview, offset: int) -> int:
    """Read the open *file* from *offset* into *buffer*, and return how many bytes."""
    return os.preadv(file, [buffer], offset)


def find_most_open() -> int:
    """Return how many files may be open at once, so that the daemon never lacks one itself."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MOST_OPEN, soft - min(_OWN_FILES, soft // 2))
