"""Whether a command ended for want of memory, and of which resource it wants more.

Pure but for two reads. A program that was killed says nothing; one that could not allocate says
so in the words of its library, at the end of its log.
"""

import re
import signal
from pathlib import Path

TAIL_BYTES = 32 << 10
GPU = re.compile(
    rb"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY"
    rb"|CUDNN_STATUS_ALLOC_FAILED|OOM when allocating tensor|RESOURCE_EXHAUSTED: Out of memory"
)
CPU = re.compile(
    rb"MemoryError|std::bad_alloc|Cannot allocate memory|DefaultCPUAllocator: can't allocate"
    rb"|java\.lang\.OutOfMemoryError"
)
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


def count_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """Return how many processes the kernel has killed here for want of memory; 0 if it can't."""
    try:
        found = re.search(r"^oom_kill (\d+)$", vmstat.read_text(), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def read_tail(log: Path, since: int) -> bytes:
    """Return the end of *log* that was written after byte *since*."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES)
    except OSError:
        return b""


def find_shortage(exit_code: int, tail: bytes, kills: int) -> str | None:
    """Return the resource whose memory ran out, `cpu` or `gpu`; None where it was something else.

    *kills* is by how many `count_kills` grew meanwhile.
    """
    if exit_code == 0:
        return None
    if GPU.search(tail):
        return "gpu"
    if CPU.search(tail) or (exit_code in KILLED and kills > 0):
        return "cpu"
    return None


def find_next_size(sizes: list[dict[str, object]], resource: str) -> str | None:
    """Return the next larger size of *resource* that can be had; None at the largest.

    *sizes* are the console's, smallest first.
    """
    own = [each for each in sizes if each["resource"] == resource]
    place = next((index for index, each in enumerate(own) if each["is_current"]), None)
    if place is None:
        return None
    larger = (each for each in own[place + 1 :] if not each["refusal"])
    return next((str(each["size"]) for each in larger), None)
