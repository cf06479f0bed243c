"""Why a server ended, as far as the machine tells: out of memory, disk full, or its own status."""

import os
import signal
from pathlib import Path

FULL_BYTES = 1 << 20
VMSTAT = Path("/proc/vmstat")


def count_oom_kills() -> int:
    """Return how often the kernel has killed a process for lack of memory since it booted."""
    for line in VMSTAT.read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


def explain_end(status: int, oom_kills_before: int, home: Path) -> str:
    """Return why a server that ended with *status* (negative: by a signal) ended."""
    if status == -signal.SIGKILL and count_oom_kills() > oom_kills_before:
        return "out of memory; choose a larger size, or load less at a time"
    disk = os.statvfs(home)
    if disk.f_bavail * disk.f_frsize < FULL_BYTES:
        return "its disk is full; delete what you do not need, or choose a larger disk"
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    return f"it ended with status {status}; see its log"
