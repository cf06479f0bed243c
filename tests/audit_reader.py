"""A reader under strace: which bytes of which files below a mount it was given.

The trace is a second witness: it is taken at the system calls, and knows nothing of the mount.
"""

import re
import subprocess
from collections import defaultdict
from pathlib import Path

CALLS = "openat,read,pread64,preadv,preadv2,mmap,copy_file_range,sendfile,lseek"

_LINE = re.compile(
    r"^(?P<pid>\d+)\s+(?P<call>\w+)\((?P<args>.*)\)\s+= (?P<result>-?\w+)(?P<rest>.*)$"
)
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. \w+ resumed>(.*)$")
_FILE = re.compile(r"^(?:\d+)<(?P<path>[^>]*)>")


class Trace:
    """What one traced command opened and got, by path relative to the top it was traced at."""

    def __init__(self) -> None:
        self.opens: list[str] = []
        self.asked: dict[str, set[tuple[int, int]]] = defaultdict(set)


class Tracer:
    """Follows the positions of the descriptors of one trace."""

    def __init__(self, top: Path) -> None:
        self._top = f"{top}/"
        self._positions: dict[tuple[str, str], int] = {}
        self.trace = Trace()

    def follow(self, pid: str, call: str, args: str, result: str, rest: str) -> None:
        if result.startswith("-"):
            return
        if call == "openat":
            # With -y the result reads `= 3</path>`.
            path = self._relative(f"{result}{rest}")
            if path is not None:
                self.trace.opens.append(path)
                self._positions[pid, result] = 0
            return
        fields = _split(args)
        source = {"sendfile": 1, "mmap": 4}.get(call, 0)
        path = self._relative(fields[source]) if len(fields) > source else None
        if path is None:
            return
        key = pid, fields[source].partition("<")[0]
        if call == "lseek":
            self._positions[key] = int(result, 0)
        elif call in ("read", "pread64", "preadv", "preadv2", "sendfile", "copy_file_range"):
            self._take(key, path, call, fields, int(result, 0))
        elif call == "mmap":
            # What of a mapping is touched is not seen: all of it counts, as far as the file goes.
            offset = int(fields[5], 0)
            self._add(path, offset, offset + int(fields[1], 0))

    def _take(
        self, key: tuple[str, str], path: str, call: str, fields: list[str], count: int
    ) -> None:
        given = {"pread64": 3, "preadv": 3, "preadv2": 3, "sendfile": 2, "copy_file_range": 1}.get(
            call
        )
        if given is not None and fields[given] != "NULL":
            # sendfile and copy_file_range print the offset as `[before] => [after]`.
            offset = int(re.findall(r"\d+", fields[given])[0])
        else:
            offset = self._positions.get(key, 0)
            self._positions[key] = offset + count
        self._add(path, offset, offset + count)

    def _add(self, path: str, start: int, end: int) -> None:
        if start < end:
            self.trace.asked[path].add((start, end))

    def _relative(self, text: str) -> str | None:
        found = _FILE.match(text)
        if not found or not found["path"].startswith(self._top):
            return None
        # A name that was looked up again while it was open reads as deleted.
        return found["path"].removeprefix(self._top).removesuffix(" (deleted)")


def traced(command: list[str], top: Path, output: Path) -> Trace:
    """Run *command* under strace and return what it got from files below *top*."""
    strace = ["strace", "-f", "-y", "-s", "0", "-e", f"trace={CALLS}", "-o", str(output)]
    subprocess.run([*strace, *command], check=True, stdout=subprocess.DEVNULL, timeout=60)
    tracer = Tracer(top)
    begun: dict[str, str] = {}
    for line in output.read_text().splitlines():
        if line.endswith("<unfinished ...>"):
            begun[line.split()[0]] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = _RESUMED.match(line)
        whole = begun.pop(resumed[1]) + resumed[2] if resumed else line
        found = _LINE.match(whole)
        if found:
            tracer.follow(*found.group("pid", "call", "args", "result", "rest"))
    return tracer.trace


def _split(args: str) -> list[str]:
    """Split a call's arguments at commas that stand outside every bracket and quote."""
    fields, depth, quoted, current = [], 0, False, ""
    for char in args:
        if char == '"':
            quoted = not quoted
        elif not quoted and char in "[{<(":
            depth += 1
        elif not quoted and char in "]}>)" and depth:
            depth -= 1
        if char == "," and not depth and not quoted:
            fields.append(current.strip())
            current = ""
        else:
            current += char
    return [*fields, current.strip()]
