"""Who is calling: from the thread id that the kernel gives to the program that runs.

A thread id alone proves nothing: it may be used again by another process, and a process may run
another program in the same thread. So a known caller is held by its open directory in /proc,
which answers for that one thread or not at all; its program is read again at every use, and all
the rest at an open, once what is known is a second old.

Whoever serves a caller reads nothing that waits for a lock of that caller's memory: it may be in a
page fault that is being served. The command line is such a thing, so another thread reads it and
is not waited for long.
"""

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass

from nightingale_hub.fuse_audit.aside import Aside
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.record import encode_origin, encode_process

_KNOWN = 512
_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FRESH_S = 1.0
_COMMAND_WITHIN_S = 0.05
_COMMAND_BYTES = 64 << 10
# How far up a notebook's kernel is looked for: from a pipeline in a script in a cell.
_ANCESTORS = 8
# Jupyter names the file by which a kernel is reached after the kernel.
_KERNEL = re.compile(rb"/kernel-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.json")


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs: `fields` stand in each of its records, `origin` in those of opens."""

    pid: int
    ppid: int
    executable: bytes
    fields: bytes
    origin: bytes = b""
    seen_s: float = 0.0


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
        self._commands = Aside(_read_command)

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

    def find_opener(self, tid: int) -> Process:
        """Return what `find` does, with its origin, at most a second old."""
        process = self.find(tid)
        if process.pid and time.monotonic() - process.seen_s > _FRESH_S:
            process = self._resolve(tid)
        return process

    def _resolve(self, tid: int) -> Process:
        if tid == 0:  # The caller is in a pid namespace that this one does not see.
            return _make_unknown(tid)
        try:
            directory = Descriptor(os.open(f"/proc/{tid}", _DIRECTORY_FLAGS))
            executable = _read_executable(directory)
            pid, ppid = _read_ids(directory)
            cgroup = _read_cgroup(directory)
        except OSError:
            return _make_unknown(tid)
        command = self._commands.ask(directory, _COMMAND_WITHIN_S) or b""
        digest = hashlib.sha256(command).hexdigest() if command else ""
        process = Process(
            pid, ppid, executable,
            fields=encode_process(pid, ppid, executable),
            origin=encode_origin(digest, cgroup, self._find_kernel(command, ppid)),
            seen_s=time.monotonic(),
        )  # fmt: skip
        with self._lock:
            self._known[tid] = (directory, process)
            if len(self._known) > _KNOWN:
                del self._known[next(iter(self._known))]
        return process

    def _find_kernel(self, command: bytes, ppid: int) -> str:
        """Return the id of the notebook's kernel that this is, or that started it, else nothing."""
        for _ in range(_ANCESTORS):
            found = _KERNEL.search(command)
            if found is not None:
                return found[1].decode()
            if ppid <= 1:
                return ""
            try:
                parent = Descriptor(os.open(f"/proc/{ppid}", _DIRECTORY_FLAGS))
                _, ppid = _read_ids(parent)
            except OSError:
                return ""
            command = self._commands.ask(parent, _COMMAND_WITHIN_S) or b""
        return ""


def _read_command(directory: Descriptor) -> bytes:
    """Return a process's arguments, each ended by NUL; waits for its memory's lock."""
    try:
        file = Descriptor(os.open("cmdline", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.fd))
        return os.read(file.fd, _COMMAND_BYTES)
    except OSError:
        return b""


def _read_executable(directory: Descriptor) -> bytes:
    try:
        return os.readlink(b"exe", dir_fd=directory.fd)
    except OSError:
        return b""  # A kernel thread has none, and an unprivileged daemon may not see others'.


def _read_cgroup(directory: Descriptor) -> bytes:
    """Return the path of a process's cgroup: the unified one, else the first that is not root's."""
    try:
        file = Descriptor(os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.fd))
        lines = os.read(file.fd, 4096).splitlines()
    except OSError:
        return b""
    paths = [line.split(b":", 2)[2] for line in reversed(lines) if line.count(b":") >= 2]
    return next((path for path in paths if path != b"/"), b"/")


def _read_ids(directory: Descriptor) -> tuple[int, int]:
    """Return (thread group, parent) out of a process's status."""
    status = Descriptor(os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory.fd))
    text = os.read(status.fd, 4096)
    return _get_field(text, b"\nTgid:"), _get_field(text, b"\nPPid:")


def _get_field(text: bytes, name: bytes) -> int:
    start = text.index(name) + len(name)
    return int(text[start : text.index(b"\n", start)])
