"""What the guard of the audit mount says, brought to the researcher and to the hub.

It is the agent's eye on the mount: each change goes into the status and into the beats; and a
mount that has been dark too long, or does not even say how it is, ends the instance.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightingale_hub.audit_notes import read_clock

GUARD_FILE = "guard.json"
SAYS_WITHIN_S = 30.0
SILENT = {
    "state": "silent",
    "says": "the audit mount does not say how it is",
    "why": "its daemon hangs or is being started again; what is read waits for it",
}

# What only the hub and the mount can bring about: a researcher can fill a spool, or stop a server.
FAILURES = {"silent": "mount", "reads_refused": "records", "stopping": "records"}


class Vigil:
    """Looks at the guard of the mount with one spool."""

    def __init__(
        self,
        spool: Path,
        stop_after_s: float,
        tell: Callable[[dict[str, Any]], None],
        report: Callable[[str], None],
    ) -> None:
        """Watch the mount with *spool*; *tell* gets each new state, *report* what is amiss."""
        self._path = spool / GUARD_FILE
        self._stop_after_s = stop_after_s
        self._tell = tell
        self._report = report
        self._said: dict[str, Any] = {}
        self._last_s = read_clock()
        self.is_over = False
        self.failure: str | None = None  # what of the platform keeps data from being read

    def look(self) -> None:
        """Pass on what is new."""
        now_s = read_clock()
        said = self._read()
        if said is not None and float(said["looked_s"]) > self._last_s:
            self._last_s = float(said["looked_s"])
        if now_s - self._last_s > SAYS_WITHIN_S:
            said = SILENT
        if said is None:
            return
        self.failure = FAILURES.get(said["state"])
        self.is_over = said["state"] == "stopping" or now_s - self._last_s > self._stop_after_s
        is_new = said["state"] != self._said.get("state")
        if is_new or said["why"] != self._said.get("why"):
            self._tell({name: said[name] for name in ("state", "says", "why")})
        if is_new and (self._said or said["state"] != "served"):
            self._report(f"audit_{said['state']} {said['why'] or said['says']}")
        self._said = said

    def _read(self) -> dict[str, Any] | None:
        try:
            said: dict[str, Any] = json.loads(self._path.read_bytes())
            return said if {"state", "says", "why", "looked_s"} <= set(said) else None
        except (OSError, ValueError, TypeError):
            return None
