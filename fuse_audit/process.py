"""Who is calling: from the thread id that the kernel gives to the program that runs.

A thread id alone proves nothing: it may be used again by another process, and a process may run
another program in the same thread. So a known caller is held by its open directory in /proc,
which answers for that one thread or not at all, and its program is read again at every use.
Nothing here reads a file that waits for a lock of the caller's memory: it may be in a page fault
that this daemon is serving.
"""

import os
import threading
from dataclasses import dataclass

from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.record import encode_process

_KNOWN = 512
_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs: `fields` are those of its records."""

    pid: int
    ppid: int
    executable: bytes
    fields: bytes


def restore_process(fields: bytes) -> Process:
    """Return the process that *fields* once said; it may be gone, and is not looked at."""
    return Process(pid=0, ppid=0, executable=b"", fields=fields)


def _make_unknown(tid: int) -> Process:
    return Process(pid=tid, ppid=0, executable=b"", fields=encode_process(tid, 0, b""))


class Processes:
    """The callers of a mount, by thread id."""

    def __init__(self) -> None:
        """Know nobody yet."""
        self._known: dict[int, tuple[Descriptor, Process]] = {}
        self._lock = threading.Lock()

    def find(self, tid: int) -> Process:
        """Return the process of thread *tid* as it is now; a nameless one when it is gone."""
        known = self._known.get(tid)
        if known is not None:
            directory, process = known
            try:
                if os.readlink(b"exe", dir_fd=directory.fd) == process.executable:
                    return process
            except OSError:
                pass  # That thread has ended, or it may not be looked at: it is asked anew.
        return self._resolve(tid)

    def _resolve(self, tid: int) -> Process:
        if tid == 0:  # The caller is in a pid namespace that this one does not see.
            return _make_unknown(tid)
        try:
            directory = Descriptor(os.open(f"/proc/{tid}", _DIRECTORY_FLAGS))
            executable = _read_executable(directory)
            pid, ppid = _read_ids(directory)
        except OSError:
            return _make_unknown(tid)
        process = Process(pid, ppid, executable, encode_process(pid, ppid, executable))
        with self._lock:
            self._known[tid] = (directory, process)
            if len(self._known) > _KNOWN:
                del self._known[next(iter(self._known))]
        return process


def _read_executable(directory: Descriptor) -> bytes:
    try:
        return os.readlink(b"exe", dir_fd=directory.fd)
    except OSError:
        return b""  # A kernel thread has none, and an unprivileged daemon may not see others'.


def _read_ids(directory: Descriptor) -> tuple[int, int]:
    """Return (thread group, parent) out of a process's status."""
    status = Descriptor(os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.fd))
    text = os.read(status.fd, 4096)
    return _get_field(text, b"\nTgid:"), _get_field(text, b"\nPPid:")


def _get_field(text: bytes, name: bytes) -> int:
    start = text.index(name) + len(name)
    return int(text[start : text.index(b"\n", start)])
