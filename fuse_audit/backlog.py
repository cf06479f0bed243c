"""The backlog: what stands in a spool and is not acknowledged yet, as the shipper sees it.

The law: what is given out is on disk, so no line was ever sent that a power failure can take
back; and a file is deleted whole, once each of its lines is acknowledged and a newer file is
there. The daemon may write while this reads: an unfinished line at the end is just not there yet.
"""

import itertools
import os

from nightingale_hub.errors import Conflict
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.frames import FRAME_BYTES, SpoolFile, list_files, parse_frames

_READ_BYTES = 2 << 20


class Backlog:
    """The lines of the spool in one directory, from a position on."""

    def __init__(self, directory: str) -> None:
        """Begin at the oldest line that is kept; the spool may come to be later."""
        self._directory = directory
        self._next_seq = 0
        self._file: SpoolFile | None = None
        self._opened: Descriptor | None = None
        self._offset = 0

    @property
    def next_seq(self) -> int:
        """The number of the first line that is not acknowledged; 0 before any file is there."""
        return self._next_seq

    def peek(self, most: int) -> list[bytes]:
        """Return up to *most* lines from the position on, durable, all of one file.

        Raises `Conflict` when the spool contradicts itself.
        """
        while True:
            # Listed before it is read: a file that has a successor by now is finished.
            files = list_files(self._directory) if os.path.isdir(self._directory) else []
            if not files:
                return []
            if self._file is None or self._opened is None:
                self._begin(files[0])
                continue
            data = os.pread(self._opened.fd, _READ_BYTES, self._offset)
            lines, used = parse_frames(data)
            if lines:
                os.fdatasync(self._opened.fd)
                self._check_number(lines[0])
                return lines[:most]
            later = [file for file in files if file.first_seq > self._file.first_seq]
            if not later:
                return []
            if used < len(data) or later[0].first_seq != self._next_seq:
                raise Conflict(
                    f"spool file {self._file.name} is damaged at byte {self._offset}: line "
                    f"{self._next_seq} is missing; keep the file and tell the operator"
                )
            self._begin(later[0])

    def move_to(self, seq: int) -> None:
        """Go to line *seq*, or to the end when it comes next; raises `Conflict` if it is gone."""
        files = [file for file in list_files(self._directory) if file.first_seq <= seq]
        if not files:
            raise Conflict(f"line {seq} is asked for, but the spool has it no more")
        self._begin(files[-1])
        assert self._opened is not None
        size = os.fstat(self._opened.fd).st_size
        lines, _ = parse_frames(os.pread(self._opened.fd, size, 0))
        ahead = seq - files[-1].first_seq
        if ahead > len(lines):
            raise Conflict(f"line {seq} is asked for, but the spool ends before it")
        self._next_seq = seq
        self._offset = sum(len(line) + FRAME_BYTES for line in lines[:ahead])

    def acknowledge(self, seq: int) -> None:
        """Go behind line *seq*, and delete each file that holds nothing after it."""
        self.move_to(seq + 1)
        files = list_files(self._directory)
        for file, successor in itertools.pairwise(files):
            if successor.first_seq <= seq + 1:
                os.unlink(os.path.join(self._directory, file.name))

    def _begin(self, file: SpoolFile) -> None:
        path = os.path.join(self._directory, file.name)
        self._opened = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        self._file, self._offset, self._next_seq = file, 0, file.first_seq

    def _check_number(self, line: bytes) -> None:
        if not line.startswith(b'{"v":1,"seq":%d,' % self._next_seq):
            assert self._file is not None
            raise Conflict(
                f"spool file {self._file.name} is damaged: line {self._next_seq} has another number"
            )
