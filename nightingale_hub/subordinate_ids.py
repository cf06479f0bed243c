"""The user ids that /etc/subuid gives to an account, for its containers to map their own to."""

import pwd
from pathlib import Path
from typing import NamedTuple

FILE = Path("/etc/subuid")


class Span(NamedTuple):
    """*size* user ids from *first* on."""

    first: int
    size: int


def load_spans(file: Path, uid: int) -> list[Span]:
    """Return the subordinate ids that *file* gives to *uid*, by its name or its number.

    A line that is malformed gives nothing, and none gives root or the account of another user.
    """
    entries = pwd.getpwall()
    names = {str(uid)} | {entry.pw_name for entry in entries if entry.pw_uid == uid}
    taken = {0} | {entry.pw_uid for entry in entries}
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    spans = []
    for line in lines:
        name, _, numbers = line.partition(":")
        first, _, size = numbers.partition(":")
        if name in names and first.isdecimal() and size.isdecimal():
            span = Span(int(first), int(size))
            if span.size and not any(span.first <= each < span.first + span.size for each in taken):
                spans.append(span)
    return spans
