"""Linux processes, named so that a number used again is never taken for the one it was.

A pid alone proves nothing. A pid, the tick at which it started and the kernel's boot id name one
process for ever; signals go through a pidfd, so they reach that one or nobody. A zombie counts
as gone: it runs nothing.
"""

import ctypes
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """One process, for ever."""

    pid: int
    start_ticks: int  # field 22 of /proc/<pid>/stat
    boot_id: str

    def to_dict(self) -> dict[str, Any]:
        """Return it fit for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Entry:
    """A process as /proc shows it now."""

    pid: int
    parent: int
    session: int
    is_zombie: bool
    start_ticks: int


def parse_identity(data: dict[str, Any]) -> Identity:
    """Return the identity that `to_dict` gave; raises `ValueError` for anything else."""
    try:
        return Identity(int(data["pid"]), int(data["start_ticks"]), str(data["boot_id"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no process identity: {data!r}") from error


def read_boot_id() -> str:
    """Return the kernel's boot id, new at each boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def find_identity(pid: int) -> Identity | None:
    """Return who *pid* is now, or None when nothing runs under it."""
    entry = _find_entry(pid)
    if entry is None or entry.is_zombie:
        return None
    return Identity(pid, entry.start_ticks, read_boot_id())


def is_alive(identity: Identity) -> bool:
    """Tell whether that very process still runs."""
    return find_identity(identity.pid) == identity


def send_signal(identity: Identity, number: signal.Signals) -> bool:
    """Signal that very process; return False when it is gone."""
    descriptor = _open_alive(identity)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_gone(identity: Identity, timeout_s: float) -> bool:
    """Wait until that very process is gone, at most *timeout_s*; return whether it is."""
    descriptor = _open_alive(identity)
    if descriptor is None:
        return True
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    try:
        return bool(poller.poll(max(0, timeout_s) * 1000))
    finally:
        os.close(descriptor)


def list_processes() -> list[Entry]:
    """Return every process that /proc shows, zombies too."""
    found = (_find_entry(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [entry for entry in found if entry is not None]


def list_descendants(pid: int) -> list[Identity]:
    """Return who runs below *pid*: children, their children and so on."""
    children: dict[int, list[Entry]] = {}
    for entry in list_processes():
        children.setdefault(entry.parent, []).append(entry)
    below: list[Entry] = []
    todo = [pid]
    while todo:
        found = children.get(todo.pop(), [])
        below += found
        todo += [entry.pid for entry in found]
    return _to_identities(below)


def list_session(session: int) -> list[Identity]:
    """Return who runs in *session*, its leader included."""
    return _to_identities([e for e in list_processes() if e.session == session])


def list_marked(name: str, value: str) -> list[Identity]:
    """Return who was started with *name*=*value* in the environment and may be looked at.

    A process that wipes its environment is not found: this is the last net, not the first.
    """
    mark = f"{name}={value}".encode()
    found = []
    for entry in list_processes():
        try:
            environment = Path(f"/proc/{entry.pid}/environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0"):
            found.append(entry)
    return _to_identities(found)


def end_all(victims: list[Identity], timeout_s: float) -> list[Identity]:
    """SIGKILL *victims* and return those that still run after *timeout_s*."""
    for victim in victims:
        send_signal(victim, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    return [v for v in victims if not wait_gone(v, deadline - time.monotonic())]


def wait_listening(pid: int, number: signal.Signals, timeout_s: float) -> None:
    """Wait until *pid* handles that signal itself or is gone, at most *timeout_s*.

    A program that is still starting would not hear the signal but die of it.
    """
    deadline = time.monotonic() + timeout_s
    while not _catches(pid, number) and time.monotonic() < deadline:
        time.sleep(0.02)


def become_subreaper() -> None:
    """Make this process the one that orphans below it fall to, in place of init."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER failed")


def _find_entry(pid: int) -> Entry | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in brackets and may hold anything, brackets too.
    fields = text.rpartition(")")[2].split()
    return Entry(pid, int(fields[1]), int(fields[3]), fields[0] in "ZX", int(fields[19]))


def _catches(pid: int, number: signal.Signals) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    caught = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    # A zombie shows no such line.
    return not caught or bool(int(caught[0], 16) >> (number - 1) & 1)


def _to_identities(entries: list[Entry]) -> list[Identity]:
    boot_id = read_boot_id()
    return [Identity(e.pid, e.start_ticks, boot_id) for e in entries if not e.is_zombie]


def _open_alive(identity: Identity) -> int | None:
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    # Looked at after the pidfd is held: from here on the number cannot change its meaning.
    if is_alive(identity):
        return descriptor
    os.close(descriptor)
    return None
