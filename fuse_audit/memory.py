"""What outlives a daemon: a page and two tables, which its supervisor has open.

The law: nothing here is a record. The spool says what happened; this says what the kernel still
knows by a number (nodes, open files), and which request each worker was about to record when its
process ended, so that the next one records it neither never nor twice. When the supervisor dies
too the mount is lost, and the next one finds here what was open in it.

It lies in files that nobody syncs: they need to outlive a process, not the machine. A table has
framed entries, appended to; when most of it is garbage it is written anew into the other file,
and one word in the page says which of the two counts.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterable

from nightingale_hub.fuse_audit.descriptor import Descriptor

WORKERS = 64
_FRAME = struct.Struct("<II")
_NAMES = ("kept-page", "kept-0", "kept-1")
_WORD = struct.Struct("<Q")
_ACTIVE_AT, _LEFT_AT, _SLOTS_AT = 0, _WORD.size, 2 * _WORD.size
# The sequence number that a record gets, its request, and the open file that it is about.
_SLOT = struct.Struct("<QQQ")
_REQUEST = struct.Struct("<QQ")
_NO_RECORD = (1 << 64) - 1


class Memory:
    """Shared by the supervisor and every daemon that it forks, one after the other."""

    def __init__(self, directory: str) -> None:
        """Open it in *directory*, or make it there, before a daemon is forked."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        names = [os.path.join(directory, name) for name in _NAMES]
        page, *self._files = (Descriptor(os.open(name, flags, 0o600)) for name in names)
        # A full disk must refuse the mount now: behind a mapping it would kill the daemon.
        os.posix_fallocate(page.fd, 0, mmap.PAGESIZE)
        self._page = mmap.mmap(page.fd, mmap.PAGESIZE)
        self._size = 0
        # Whoever appends has loaded, or written all anew: it alone moves the word in the page.
        self._active = self._read_active()
        _WORD.pack_into(self._page, _LEFT_AT, 1)

    @property
    def is_left(self) -> bool:
        """Whether what stands here is of a mount before this one."""
        return bool(_WORD.unpack_from(self._page, _LEFT_AT)[0])

    def clear(self) -> None:
        """Forget everything: what is kept from now on is of this mount."""
        for worker in range(WORKERS):
            self.note(worker, 0, 0, 0)
        self.rewrite([])
        _WORD.pack_into(self._page, _LEFT_AT, 0)

    def load(self) -> list[bytes]:
        """Return every whole entry, and go on behind the last one: a torn one is cut."""
        self._active = self._read_active()
        file = self._files[self._active].fd
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
        os.pwrite(self._files[self._active].fd, data, self._size)
        self._size += len(data)
        return self._size

    def rewrite(self, entries: Iterable[bytes]) -> int:
        """Keep *entries* and nothing else, and return how many bytes they take."""
        active = self._read_active()
        other = self._files[1 - active]
        data = b"".join(_frame(entry) for entry in entries)
        os.ftruncate(other.fd, 0)
        at = 0
        while at < len(data):
            at += os.pwrite(other.fd, data[at:], at)
        self._active = 1 - active
        _WORD.pack_into(self._page, _ACTIVE_AT, self._active)
        os.ftruncate(self._files[active].fd, 0)
        self._size = len(data)
        return self._size

    def note(self, worker: int, unique: int, seq: int, fid: int) -> None:
        """Say that *worker* is about to write record *seq* for request *unique*.

        It may be killed between two bytes: so the number is no record's until the rest is there.
        """
        at = _SLOTS_AT + worker * _SLOT.size
        _WORD.pack_into(self._page, at, _NO_RECORD)
        _REQUEST.pack_into(self._page, at + _WORD.size, unique, fid)
        _WORD.pack_into(self._page, at, seq)

    def list_recorded(self, next_seq: int) -> dict[int, int]:
        """Return request → open file of what was recorded, and maybe not answered any more.

        *next_seq* is what the spool would number next: a record that was noted and is not below
        it was never written.
        """
        slots = (
            _SLOT.unpack_from(self._page, _SLOTS_AT + worker * _SLOT.size)
            for worker in range(WORKERS)
        )
        return {unique: fid for seq, unique, fid in slots if unique and seq < next_seq}

    def _read_active(self) -> int:
        return int(_WORD.unpack_from(self._page, _ACTIVE_AT)[0]) & 1


def _frame(entry: bytes) -> bytes:
    return _FRAME.pack(len(entry), zlib.crc32(entry)) + entry
