"""What was sent from the instance, as records in the stream that holds its reads.

A record says that bytes `off` to `off + len` of all that went to a class of destinations (its
`path`) have left. The sums come from the agent, which counts outside a researcher's control; the
highest `off + len` of a class is its sum, though a kill may have one part recorded twice.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from nightingale_hub.audit_notes import Notes
from nightingale_hub.fuse_audit import record
from nightingale_hub.fuse_audit.spool import Spool

_NAME = "egress.json"
_NOBODY = record.encode_process(0, 0, b"")
_POLICY = b"strict"

_log = logging.getLogger(__name__)


class Egress:
    """Records what the notes say was sent, once."""

    def __init__(
        self, spool: Spool, directory: str, owner: str, uid: int, clock: Callable[[], int]
    ) -> None:
        """Record into *spool* in *directory* what processes of *uid* sent; *clock* is in µs."""
        self._spool = spool
        self._path = Path(directory) / _NAME
        self._user = record.encode_text(owner)
        self._uid = uid
        self._clock = clock
        self._recorded = self._load()

    def take(self, notes: Notes) -> None:
        """Record what *notes* have more than was recorded."""
        is_new = False
        for name, total in notes.sent:
            before = self._recorded.get(name, 0)
            if total <= before:
                continue
            event = record.format_event(
                self._clock(), record.EGRESS, self._user, self._uid, _NOBODY,
                record.encode_file("", name.encode(), 0, 0),
                offset=before, length=total - before, policy=_POLICY,
            )  # fmt: skip
            try:
                self._spool.append(event, may_pass_limit=True)
            except OSError as error:
                _log.error("what was sent is not recorded: %s", error.strerror)
                return
            self._recorded[name] = total
            is_new = True
        if is_new:
            self._save()

    def _load(self) -> dict[str, int]:
        try:
            data = json.loads(self._path.read_bytes())
            return {str(name): int(total) for name, total in data.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # At worst a part is recorded again, from where it was before.

    def _save(self) -> None:
        draft = self._path.with_name(f".{_NAME}.new")
        draft.write_text(json.dumps(self._recorded))
        os.replace(draft, self._path)
