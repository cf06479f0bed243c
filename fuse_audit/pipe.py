"""A pipe of one worker: a file's pages go through it to the kernel, copied once instead of twice.

A buffer is copied from the page cache into the daemon and from there to the reader, and the kernel
pins its pages one by one; what is spliced is copied from the page cache to the reader at once.
Nothing reaches the reader before `send`: so what is taken can be recorded first, or thrown away.
"""

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.protocol import MAX_READ_BYTES, PAGE_BYTES, REPLY

# Below this a pipe costs more than the copy that it saves.
WORTH_BYTES = 64 << 10
# A pipe has a place for each page, whole or not: two at the ends of a read, one for its header.
_ENDS = 3
# Double of what the kernel allows by itself: a length is a power of two, and holds those ends too.
LENGTH_BYTES = 2 * MAX_READ_BYTES
_LIMIT_FILE = "/proc/sys/fs/pipe-max-size"

_log = logging.getLogger(__name__)


def allow_length() -> None:
    """Let this machine's pipes be as long as the longest read, if root may not make such ones.

    A root of few capabilities (a container's) may not. Where the limit cannot be raised either,
    long reads are copied.
    """
    try:
        _, write_end = (Descriptor(fd) for fd in os.pipe2(os.O_CLOEXEC))
        fcntl.fcntl(write_end.fd, fcntl.F_SETPIPE_SZ, LENGTH_BYTES)
    except PermissionError:
        try:
            Path(_LIMIT_FILE).write_text(str(LENGTH_BYTES))
        except OSError as error:
            _log.warning("long reads are copied: %s: %s", _LIMIT_FILE, error.strerror)


class Pipe:
    """Takes a part of a file, and sends it as the reply to one request."""

    def __init__(self) -> None:
        """Make it; as root, so that it holds the longest read."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._read_end, self._write_end = Descriptor(read_end), Descriptor(write_end)
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, LENGTH_BYTES)
        places = fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ) // PAGE_BYTES
        self._most_bytes = (places - _ENDS) * PAGE_BYTES
        self._unique = 0
        self._held = 0

    def __len__(self) -> int:
        """Return how many bytes of a file it holds, behind the header of the reply."""
        return max(0, self._held - REPLY.size)

    def begin(self, unique: int) -> None:
        """Take for the request *unique* from now on.

        What was taken before and not sent is thrown away: it could not be recorded.
        """
        if self._held:
            self.drain()
        self._unique = unique

    def take(self, file: int, buffer: memoryview, offset: int) -> int:
        """Take up to as much as *buffer* holds of the open *file* from *offset*; return how much.

        It is in the buffer, and nothing in the pipe, where the file does not give what it
        promises, or the pipe has no room for it.
        """
        length = min(len(buffer), os.fstat(file).st_size - offset)
        if WORTH_BYTES <= length <= self._most_bytes and self._fill(file, offset, length):
            return length
        return os.preadv(file, [buffer], offset)

    def send(self, device: int) -> None:
        """Send what it holds as the reply; raises `OSError`, and holds nothing afterwards."""
        held, self._held = self._held, 0
        try:
            os.splice(self._read_end.fd, device, held)
        except OSError:
            self.drain()
            raise

    def drain(self) -> None:
        """Throw away what it holds."""
        self._held = 0
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read_end.fd, MAX_READ_BYTES):
                pass

    def _fill(self, file: int, offset: int, length: int) -> bool:
        total = REPLY.size + length
        done = 0
        try:
            self._held = os.write(self._write_end.fd, REPLY.pack(total, 0, self._unique))
            while done < length:
                count = os.splice(file, self._write_end.fd, length - done, offset_src=offset + done)
                if not count:
                    break
                done += count
                self._held += count
        except OSError:
            pass  # A file that cannot be spliced, or read: whoever copies it hears what is wrong.
        if self._held == total:
            return True
        self.drain()
        return False
