r"""A spool file: lines in frames, so that what is whole can be told from what is torn.

A frame is `LLLLLLLL CCCCCCCC line\n`: the length of the line in bytes and its CRC-32, each as
eight lowercase hex digits. A line is a JSON object without a newline, and so the file reads as
text. A file is `<first_seq>.ndjson`, twenty digits: its lines are numbered from there, one by
one, and the next file goes on where it ends. Only the last file of a spool may end in a torn
frame.
"""

import os
import zlib
from typing import NamedTuple

_HEAD_BYTES = 18
# What a frame adds to its line: its head and a newline.
FRAME_BYTES = _HEAD_BYTES + 1
_SUFFIX = ".ndjson"


class SpoolFile(NamedTuple):
    """One file of a spool by the number of its first line."""

    first_seq: int
    name: str


def frame(line: bytes) -> bytes:
    """Return *line* in its frame."""
    return b"%08x %08x %b\n" % (len(line), zlib.crc32(line), line)


def parse_frames(data: bytes) -> tuple[list[bytes], int]:
    """Return the lines of the whole frames that *data* begins with, and how many bytes they take.

    What follows is torn, or not wholly written yet.
    """
    lines: list[bytes] = []
    at = 0
    while True:
        head = data[at : at + _HEAD_BYTES]
        if len(head) < _HEAD_BYTES:
            return lines, at
        try:
            size, crc = int(head[:8], 16), int(head[9:17], 16)
        except ValueError:
            return lines, at
        end = at + _HEAD_BYTES + size
        line = data[at + _HEAD_BYTES : end]
        if data[end : end + 1] != b"\n" or zlib.crc32(line) != crc:
            return lines, at
        lines.append(line)
        at = end + 1


def name_file(first_seq: int) -> str:
    """Return the name of the file whose first line is number *first_seq*."""
    return f"{first_seq:020d}{_SUFFIX}"


def list_files(directory: str) -> list[SpoolFile]:
    """Return the spool files in *directory*, oldest first."""
    files = []
    for name in os.listdir(directory):
        digits = name.removesuffix(_SUFFIX)
        if name != digits and digits.isdecimal():
            files.append(SpoolFile(int(digits), name))
    return sorted(files)
