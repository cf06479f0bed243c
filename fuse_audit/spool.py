"""The spool: where an event is written before its reader gets a byte, and kept until shipped.

The law: `append` returns once the line is handed to the operating system, so it outlives any
kill of this process; a group commit puts it on disk at most `COMMIT_WITHIN_S` later. Numbers go
up by one, over restarts too. A line that cannot be written whole is cut off again and its number
is not used; when even that fails, or the disk reports an error, the spool is failed and takes
nothing more. Only this module writes spool files and only the shipper deletes them, never the
newest: so the newest always tells the next number. frames.py has the format of a file.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.frames import frame, list_files, name_file, parse_frames

COMMIT_WITHIN_S = 0.1
ROTATE_BYTES = 1 << 20
ROTATE_AFTER_S = 60.0
# Reads of files that are open already may go past the limit by this part of it: a reader is
# refused a new file before it is refused the rest of an old one.
_READ_ROOM = 4
_DIES_WITHIN_S = 0.5

_log = logging.getLogger(__name__)


class Spool:
    """The spool in one directory, which one daemon at a time holds."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        """Open or make the spool, cut a torn tail, and start the group commit.

        Raises `MountRefused` when another daemon holds it or it cannot be written.
        """
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.chmod(directory, 0o700)
            self._directory = Descriptor(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
            _lock(self._directory)
        except BlockingIOError as error:
            raise MountRefused(f"spool {directory} is held by a running audit mount") from error
        except OSError as error:
            raise MountRefused(f"spool {directory} cannot be used: {error.strerror}") from error
        self._path = directory
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._is_dirty = threading.Event()
        self._is_closing = threading.Event()
        self._failure: str | None = None
        self._measured_s = 0.0
        try:
            self._recover()
        except OSError as error:
            raise MountRefused(f"spool {directory} cannot be written: {error.strerror}") from error
        self._committer = threading.Thread(target=self._commit_for_ever, daemon=True)
        self._committer.start()

    @property
    def next_seq(self) -> int:
        """The number that the next line gets."""
        return self._next_seq

    def append(
        self,
        event: bytes,
        *,
        may_pass_limit: bool,
        about_to: Callable[[int], None] | None = None,
    ) -> int:
        """Number *event* (a JSON object without its head), write it, and return the number.

        Raises `OSError`.

        With *may_pass_limit* a full spool takes the line as long as the room kept for reads
        lasts. *about_to* is told the line's number, before a byte of it is written.
        """
        with self._lock:
            if self._failure is not None:
                raise OSError(errno.EIO, self._failure)
            data = frame(b'{"v":1,"seq":%d,%b' % (self._next_seq, event))
            self._check_room(len(data), may_pass_limit)
            if self._size >= ROTATE_BYTES:
                self._rotate()
            if about_to is not None:
                about_to(self._next_seq)
            try:
                written = os.write(self._file.fd, data)
            except OSError:
                written = 0
            if written != len(data):
                self._cut(written)
                raise OSError(errno.EIO, "the spool's disk takes no more")
            self._size += written
            self._used += written
            seq = self._next_seq
            self._next_seq += 1
        if not self._is_dirty.is_set():
            self._is_dirty.set()
        return seq

    def measure_percent(self) -> float:
        """Return how full the spool is, of its limit."""
        with self._lock:
            self._measure()
            return 100 * self._used / self._limit_bytes

    def close(self) -> None:
        """Put everything on disk and take nothing more. The lock is gone with this object."""
        self._is_closing.set()
        self._is_dirty.set()
        self._committer.join()
        with self._lock:
            self._failure = self._failure or "the audit mount is closed"
            os.fdatasync(self._file.fd)

    def _recover(self) -> None:
        """Continue the newest file behind its last whole line, or begin the first one."""
        files = list_files(self._path)
        self._used = sum(os.stat(file.name, dir_fd=self._directory.fd).st_size for file in files)
        if not files:
            self._begin(1)
            return
        newest = files[-1]
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = Descriptor(os.open(newest.name, flags, dir_fd=self._directory.fd))
        size = os.fstat(self._file.fd).st_size
        lines, self._size = parse_frames(os.pread(self._file.fd, size, 0))
        if self._size < size:
            _log.warning("%s: cut %d bytes of a torn line", newest.name, size - self._size)
            os.ftruncate(self._file.fd, self._size)
            os.fdatasync(self._file.fd)
        self._used -= size - self._size
        self._next_seq = newest.first_seq + len(lines)
        self._begun_s = time.monotonic()

    def _begin(self, first_seq: int) -> None:
        """Begin the file of *first_seq*, durably, and write there from now on."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = Descriptor(os.open(name_file(first_seq), flags, 0o600, dir_fd=self._directory.fd))
        os.fsync(self._directory.fd)
        self._file, self._size, self._next_seq = file, 0, first_seq
        self._begun_s = time.monotonic()

    def _rotate(self) -> None:
        """Finish the file and begin the next; one that cannot be begun now is tried again."""
        if not self._sync(self._file):
            raise OSError(errno.EIO, "the spool failed")
        try:
            self._begin(self._next_seq)
        except OSError as error:
            _log.warning("the next spool file waits: %s", error.strerror)

    def _cut(self, written: int) -> None:
        """Take back the part of a line that was written."""
        if written:
            try:
                os.ftruncate(self._file.fd, self._size)
            except OSError as error:
                self._fail(f"a torn line could not be cut: {error.strerror}")

    def _check_room(self, size: int, may_pass_limit: bool) -> None:
        limit = self._limit_bytes
        if may_pass_limit:
            limit += limit // _READ_ROOM
        if self._used + size <= limit:
            return
        # The shipper may have deleted files since; a flood of refusals does not ask each time.
        if time.monotonic() - self._measured_s > COMMIT_WITHIN_S:
            self._measure()
        if self._used + size > limit:
            raise OSError(errno.ENOSPC, "the spool has reached its limit")

    def _measure(self) -> None:
        self._measured_s = time.monotonic()
        names = [file.name for file in list_files(self._path)]
        self._used = sum(_get_size(name, self._directory.fd) for name in names)

    def _sync(self, file: Descriptor) -> bool:
        try:
            os.fdatasync(file.fd)
        except OSError as error:
            # After one failed sync the kernel calls lost pages clean: nothing is to be trusted.
            self._fail(f"the spool could not be put on disk: {error.strerror}")
            return False
        return True

    def _fail(self, reason: str) -> None:
        self._failure = reason
        _log.error("spool %s takes nothing more: %s", self._path, reason)

    def _commit_for_ever(self) -> None:
        while not self._is_closing.is_set():
            if self._is_dirty.wait(timeout=ROTATE_AFTER_S / 4):
                # Half of the bound gathers lines; the other half is for the disk.
                self._is_closing.wait(COMMIT_WITHIN_S / 2)
                self._is_dirty.clear()
                self._sync(self._file)
            with self._lock:
                is_old = time.monotonic() - self._begun_s > ROTATE_AFTER_S
                if is_old and self._size and self._failure is None:
                    self._rotate()


def _lock(directory: Descriptor) -> None:
    """Lock *directory*; a daemon that has just been killed holds it for a moment yet."""
    deadline = time.monotonic() + _DIES_WITHIN_S
    while True:
        try:
            fcntl.flock(directory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _get_size(name: str, directory_fd: int) -> int:
    try:
        return os.stat(name, dir_fd=directory_fd).st_size
    except FileNotFoundError:
        return 0  # The shipper has just deleted it.
