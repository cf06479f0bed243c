"""What outlives a daemon: a page and two tables in memory that its supervisor holds.

The law: nothing here is a record. The spool says what happened; this says what the kernel still
knows by a number (nodes, open files), and which request each worker was about to record when its
process ended, so that the next one records it neither never nor twice. It is all gone with the
supervisor, and so is then the mount.

A table is a memory file of framed entries, appended to; when most of it is garbage it is written
anew into the other file, and one word in the page says which of the two counts.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterable

from nightingale_hub.fuse_audit.descriptor import Descriptor

WORKERS = 64
_FRAME = struct.Struct("<II")
_ACTIVE = struct.Struct("<Q")
# The sequence number that a record gets, its request, and the open file that it is about.
_SLOT = struct.Struct("<QQQ")
_SEQ = struct.Struct("<Q")
_REQUEST = struct.Struct("<QQ")
_NO_RECORD = (1 << 64) - 1


class Memory:
    """Shared by the supervisor and every daemon that it forks, one after the other."""

    def __init__(self) -> None:
        """Make it, empty; before a daemon is forked."""
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._files = [Descriptor(os.memfd_create("nightingale-table")) for _ in range(2)]
        self._size = 0

    def load(self) -> list[bytes]:
        """Return every whole entry, and go on behind the last one: a torn one is cut."""
        file = self._get_file()
        data = os.pread(file, os.fstat(file).st_size, 0)
        entries = []
        at = 0
        while at + _FRAME.size <= len(data):
            size, crc = _FRAME.unpack_from(data, at)
            entry = data[at + _FRAME.size : at + _FRAME.size + size]
            if len(entry) != size or zlib.crc32(entry) != crc:
                break
            entries.append(entry)
            at += _FRAME.size + size
        os.ftruncate(file, at)
        self._size = at
        return entries

    def append(self, entry: bytes) -> int:
        """Keep *entry*, and return how many bytes the table has; whoever appends holds a lock."""
        data = _frame(entry)
        os.pwrite(self._get_file(), data, self._size)
        self._size += len(data)
        return self._size

    def rewrite(self, entries: Iterable[bytes]) -> int:
        """Keep *entries* and nothing else, and return how many bytes they take."""
        active = self._get_active()
        other = self._files[1 - active]
        data = b"".join(_frame(entry) for entry in entries)
        os.ftruncate(other.fd, 0)
        at = 0
        while at < len(data):
            at += os.pwrite(other.fd, data[at:], at)
        _ACTIVE.pack_into(self._page, 0, 1 - active)
        os.ftruncate(self._files[active].fd, 0)
        self._size = len(data)
        return self._size

    def note(self, worker: int, unique: int, seq: int, fid: int) -> None:
        """Say that *worker* is about to write record *seq* for request *unique*.

        It may be killed between two bytes: so the number is no record's until the rest is there.
        """
        at = _ACTIVE.size + worker * _SLOT.size
        _SEQ.pack_into(self._page, at, _NO_RECORD)
        _REQUEST.pack_into(self._page, at + _SEQ.size, unique, fid)
        _SEQ.pack_into(self._page, at, seq)

    def list_recorded(self, next_seq: int) -> dict[int, int]:
        """Return request → open file of what was recorded, and maybe not answered any more.

        *next_seq* is what the spool would number next: a record that was noted and is not below
        it was never written.
        """
        slots = (
            _SLOT.unpack_from(self._page, _ACTIVE.size + worker * _SLOT.size)
            for worker in range(WORKERS)
        )
        return {unique: fid for seq, unique, fid in slots if unique and seq < next_seq}

    def _get_active(self) -> int:
        return int(_ACTIVE.unpack_from(self._page)[0])

    def _get_file(self) -> int:
        return self._files[self._get_active()].fd


def _frame(entry: bytes) -> bytes:
    return _FRAME.pack(len(entry), zlib.crc32(entry)) + entry
