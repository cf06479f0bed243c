"""Which processes of a server are programs that somebody runs, beside kernels and idle shells."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nightingale_hub.instance.runs import RUNNER, Work

SHELLS = ("bash", "sh", "zsh", "fish", "dash", "tmux: server", "screen")


@dataclass(frozen=True)
class Program:
    """A process with its parent and what it is."""

    pid: int
    parent: int
    name: str
    command: tuple[str, ...]


def count_programs(server: int | None, pids: Collection[int]) -> int:
    """Return how many of *pids* are neither *server*, its kernels and their children, nor shells.

    What a kernel started is the kernel's business: while that works it is busy. A program that was
    left to run without a terminal counts like one in a terminal.
    """
    found = {pid: program for pid in pids if (program := _find(pid)) is not None}
    return sum(_is_program(each, found, server) for each in found.values())


def _is_program(one: Program, found: dict[int, Program], server: int | None) -> bool:
    if one.pid == server or one.name in SHELLS or not one.command:
        return False
    # What waits for the instance to be idle does not keep it from being so (runs.py).
    if RUNNER in one.command and Work.IDLE in one.command:
        return False
    above: Program | None = one
    while above is not None:
        if any(part.startswith("ipykernel") for part in above.command):
            return False
        above = found.get(above.parent)
    # A helper that the server itself started, such as a language server, is not anybody's program.
    parent = found.get(one.parent)
    return one.parent != server and (parent is None or parent.name in SHELLS)


def _find(pid: int) -> Program | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]
    if state == "Z":
        return None
    return Program(pid, int(parent), name, tuple(each.decode(errors="replace") for each in command))
