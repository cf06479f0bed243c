"""Whose a user id is: the account's that may read, by itself or by its subordinate ids.

A container maps the ids within to ranges that /etc/subuid gives to an account; what reads as
500999 is then that account's. An id that is nobody's reads nothing.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from nightingale_hub.subordinate_ids import FILE, Span, load_spans

_LOOK_EVERY_S = 1.0


class Reader:
    """The one account that may read a mount."""

    def __init__(self, uid: int, subuid_file: Path = FILE) -> None:
        """Let user *uid* read, and all that *subuid_file* gives to it."""
        self.uid = uid
        self._subuid_file = subuid_file
        self._spans: Sequence[Span] = ()
        self._looked_s = 0.0

    def owns(self, uid: int) -> bool:
        """Return whether *uid* is that account or one of its subordinate ids."""
        if uid == self.uid or self._is_within(uid):
            return True
        # The file may have got a range since; a flood of strangers does not ask each time.
        if time.monotonic() - self._looked_s < _LOOK_EVERY_S and self._looked_s:
            return False
        self._looked_s = time.monotonic()
        self._spans = load_spans(self._subuid_file, self.uid)
        return self._is_within(uid)

    def _is_within(self, uid: int) -> bool:
        return any(span.first <= uid < span.first + span.size for span in self._spans)
