"""What one person read of one dataset: the counts that the rules look at.

The law: each count is a sum over event time, so a late event falls into its own minute, and what
was read before counts as read again, however long ago. An epoch reads again; a copy does not.
"""

import msgspec

from nightingale_hub.services.audit.detect import counts
from nightingale_hub.services.audit.detect.counts import Minutes, add
from nightingale_hub.services.audit.detect.coverage import Intervals, cover
from nightingale_hub.services.audit.detect.rules import (
    MIN_PER_DAY,
    MIN_PER_HOUR,
    MIN_PER_WEEK,
    TOOLS,
)

KEPT_HOURS = 28 * 24
SHORT_MINUTES = 60
FULL_SHARE = 0.9
LEAST_DISTANCE = 8


class File(msgspec.Struct, gc=False):
    """One file as this person read it."""

    first: int  # minutes
    last: int
    turn: int  # how many other files had been opened when it was opened last
    covered: int = 0
    is_full: bool = False
    is_again: bool = False  # this pass over it is not the first
    intervals: Intervals = []


class Reader(msgspec.Struct):
    """One person's reading of one dataset."""

    files: dict[int, File] = {}
    turn: int = 0
    last_file: int = 0
    distance: int = LEAST_DISTANCE  # how many files lie between a pass and the next one
    newest: int = 0  # the latest minute seen
    cleared: int = 0  # up to this minute everything is explained as training
    seen: Minutes = {}  # files by the minute of their last open
    new: Minutes = {}  # files never opened before
    full: Minutes = {}  # files of which 90 % became read
    opens: Minutes = {}
    again: Minutes = {}  # opens of a file that comes round again
    fresh_bytes: Minutes = {}  # never read before
    again_bytes: Minutes = {}
    served_bytes: Minutes = {}
    steps: Minutes = {}  # from one file of a process to its next
    ascending: Minutes = {}  # such steps in the order of names
    tool_bytes: Minutes = {}
    tool_files: dict[int, set[int]] = {}
    tools: dict[int, str] = {}
    recent: dict[int, set[int]] = {}  # distinct files of a minute
    hours: dict[int, int] = {}  # fresh bytes, by hour
    active: dict[int, int] = {}  # opens, by hour
    places: dict[str, int] = {}  # first hour of each place
    previous: dict[int, str] = {}  # by process, the file that it opened last

    def open(self, minute: int, file_id: int, path: str, pid: int, tool: str) -> File:
        """Count an open of *path* in *minute* by process *pid*."""
        file = self._turn_to(minute, file_id)
        add(self.opens, minute, 1)
        add(self.active, minute // MIN_PER_HOUR, 1)
        previous = self.previous.get(pid)
        if previous is not None and previous != path:
            add(self.steps, minute, 1)
            if previous < path:
                add(self.ascending, minute, 1)
        self.previous[pid] = path
        if tool:
            self.tool_files.setdefault(minute, set()).add(file_id)
            self.tools[minute] = tool
        return file

    def read(
        self, minute: int, file_id: int, offset: int, length: int, size: int | None, tool: str
    ) -> None:
        """Count *length* bytes from *offset* of a file of *size*, which may be unknown."""
        file = self.files.get(file_id)
        if file is None:  # its open was before all that is known
            file = self._turn_to(minute, file_id)
        add(self.served_bytes, minute, length)
        if tool:
            add(self.tool_bytes, minute, length)
        fresh = 0
        if file.covered != size:
            fresh = cover(file.intervals, offset, offset + length)
        if fresh:
            file.covered += fresh
            add(self.fresh_bytes, minute, fresh)
            add(self.hours, minute // MIN_PER_HOUR, fresh)
            if file.covered == size:
                file.intervals = []
        if file.is_again:
            add(self.again_bytes, minute, length)
        # Of a file whose size nobody knows any read is taken for the whole.
        if not file.is_full and file.covered >= FULL_SHARE * (size or 0):
            file.is_full = True
            add(self.full, minute, 1)

    def _turn_to(self, minute: int, file_id: int) -> File:
        self.newest = max(self.newest, minute)
        self.recent.setdefault(minute, set()).add(file_id)
        if file_id != self.last_file:
            self.turn += 1
            self.last_file = file_id
        file = self.files.get(file_id)
        if file is None:
            file = self.files[file_id] = File(first=minute, last=minute, turn=self.turn)
            add(self.new, minute, 1)
            add(self.seen, minute, 1)
            return file
        if self.turn - file.turn >= self.distance:
            file.is_again = True
            add(self.again, minute, 1)
        if self.turn != file.turn:
            file.turn = self.turn
        if minute > file.last:
            add(self.seen, file.last, -1)
            add(self.seen, minute, 1)
            file.last = minute
        return file

    def note_place(self, place: str, minute: int) -> None:
        """Remember that *place* was read from, since when."""
        self.places.setdefault(place, minute // MIN_PER_HOUR)

    def settle(self) -> None:
        """Learn how far apart two passes are, and forget what no rule looks at any more."""
        last = self.newest
        day = counts.total(self.seen, last - MIN_PER_WEEK, last)
        self.distance = max(LEAST_DISTANCE, day // 4)
        if min(self.opens, default=last) < last - MIN_PER_WEEK - MIN_PER_DAY:
            self._forget(last)

    def _forget(self, last: int) -> None:
        old = last - MIN_PER_WEEK - 1
        for each in (
            self.seen, self.new, self.full, self.opens, self.again, self.fresh_bytes,
            self.again_bytes, self.served_bytes, self.steps, self.ascending, self.tool_bytes,
        ):  # fmt: skip
            counts.forget(each, old)
        for by_minute in (self.recent, self.tool_files, self.tools):
            for minute in [m for m in by_minute if m < last - SHORT_MINUTES * 3]:
                del by_minute[minute]
        for hours in (self.hours, self.active):
            counts.forget(hours, last // MIN_PER_HOUR - KEPT_HOURS)
        self.previous.clear()


def name_tool(executable: str) -> str:
    """Return the tool that *executable* is, by its file name, or an empty string."""
    name = executable.rpartition("/")[2].removesuffix(" (deleted)")
    if name in TOOLS:
        return name
    stem = name.rstrip("0123456789.-")  # tar-1.34, python is none
    return stem if stem in TOOLS else ""
