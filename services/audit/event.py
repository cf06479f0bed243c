"""An event as an instance sends it: one line of JSON, strict to the last field.

The bytes of a line are what is stored, hashed and compared; they are never serialised anew.
A line that this module lets pass can be stored by every database that we support.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from nightingale_hub.errors import BadInput

ACTIONS = ("open", "read", "release", "denied", "egress")
LARGEST = 2**63 - 1
YEAR_10000_US = 253_402_300_800_000_000

Whole = Annotated[int, Meta(ge=0, le=LARGEST)]
Word32 = Annotated[int, Meta(ge=0, lt=2**32)]
# Each byte of a name that is not UTF-8 takes four characters.
Path = Annotated[str, Meta(max_length=64 << 10)]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What one open, read, release or refusal was, or what was sent; named as on the wire."""

    v: Literal[1]
    seq: Annotated[int, Meta(ge=1, le=LARGEST)]
    ts: Annotated[int, Meta(ge=0, lt=YEAR_10000_US)]  # µs
    act: Literal["open", "read", "release", "denied", "egress"]
    user: str
    uid: Word32
    pid: Word32  # the thread group
    ppid: Word32
    exe: Path
    ds: Annotated[str, Meta(max_length=255)]
    path: Path  # relative to the dataset
    fid: Whole  # joins open, reads and release
    ino: Annotated[int, Meta(ge=0)]
    off: Whole
    # A sum of half a million such lengths still is a 64-bit number.
    len: Annotated[int, Meta(ge=0, le=2**44)]  # bytes served
    dur: Whole  # µs
    flags: Word32
    rc: Annotated[int, Meta(ge=0, lt=4096)]  # errno, or 0
    pol: Literal["strict", "ranges", "opens"]
    cmd: Annotated[str, Meta(max_length=64)] = ""  # SHA-256 of the command line
    cg: Path = ""  # cgroup
    kid: Annotated[str, Meta(max_length=36)] = ""  # Jupyter kernel
    ouid: Word32 | None = None  # whoever opened what another reads
    opid: Word32 | None = None


_decoder = msgspec.json.Decoder(Event)


def parse_lines(lines: bytes) -> list[Event]:
    """Return the events of *lines* that were checked when they came."""
    return _decoder.decode_lines(lines)


def split_lines(lines: bytes) -> list[bytes]:
    """Return each line without its newline."""
    return lines[:-1].split(b"\n")


def check_lines(lines: bytes, owner: str, first_seq: int, last_seq: int) -> list[bytes]:
    """Return each line without its newline, once each is known to be *owner*'s and next.

    Raises `BadInput` with the number of the first line that is not.
    """
    if not lines.endswith(b"\n"):
        raise BadInput("the last line of the batch does not end; send whole lines")
    found = split_lines(lines)
    if len(found) != last_seq - first_seq + 1:
        raise BadInput(
            f"the batch has {len(found)} lines, but its headers say seq {first_seq} to {last_seq}"
        )
    if not _are_sound(lines, len(found), owner, first_seq, last_seq):
        _refuse(found, owner, first_seq, may_hold_nul=rb"\u0000" in lines)
    return found


def _are_sound(lines: bytes, count: int, owner: str, first_seq: int, last_seq: int) -> bool:
    """Tell whether all of *lines* are right, at a third of what it takes to name the wrong one."""
    # An event holds no object, and a string no newline: with a brace at the end of each line and
    # as many events as lines, each line is one event.
    if lines.count(b"}\n") != count or rb"\u0000" in lines:
        return False
    try:
        events = _decoder.decode_lines(lines)
    except ValueError:
        return False
    return (
        [event.seq for event in events] == list(range(first_seq, last_seq + 1))
        and {event.user for event in events} == {owner}
        and max(event.ino for event in events) < 2**64
    )


def _refuse(lines: list[bytes], owner: str, first_seq: int, may_hold_nul: bool) -> None:
    """Raise `BadInput` with the number of the first of *lines* that is wrong, if one is."""
    decode = _decoder.decode
    for number, line in enumerate(lines, 1):
        try:
            event = decode(line)
        except ValueError as error:  # msgspec's errors, and text that is not UTF-8
            raise BadInput(f"line {number}: {str(error)[:200]}") from error
        if event.seq != first_seq + number - 1:
            raise BadInput(f"line {number}: seq is {event.seq}, not {first_seq + number - 1}")
        if event.user != owner:
            raise BadInput(f"line {number}: user is not the owner of this stream")
        if event.ino >= 2**64:
            raise BadInput(f"line {number}: ino is no inode number")
        if may_hold_nul and "\0" in event.ds + event.path + event.exe + event.cg:
            raise BadInput(f"line {number}: a name holds NUL, which no file name can")
