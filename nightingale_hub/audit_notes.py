"""What the agent tells a running audit mount: datasets that were withdrawn, bytes that were sent.

The agent writes `notes.json` in the spool, the guard reads it. It is a state, not a message: a
mount that starts anew finds it there. Everything in it only ever closes the gate further.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from nightingale_hub.durable import save_json

_NAME = "notes.json"


class Notes(NamedTuple):
    """The newest notes.

    `sent` is how many bytes have left so far, by class of destination; `counted_s` is when the
    rules that count them were last seen to be in force, on the clock of `read_clock`.
    """

    withdrawn: frozenset[str] = frozenset()
    sent: tuple[tuple[str, int], ...] = ()
    counted_s: float | None = None


def read_clock() -> float:
    """Return seconds since the machine's boot, which no step of a clock and no sleep distorts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def save_notes(spool: Path, notes: Notes) -> None:
    """Tell the mount whose spool is at *spool*."""
    data: dict[str, Any] = {
        "withdrawn": sorted(notes.withdrawn),
        "sent": dict(notes.sent),
        "counted_s": notes.counted_s,
    }
    save_json(spool / _NAME, data)


def load_notes(spool: Path) -> Notes:
    """Return the notes in *spool*; none that are there, or none that are whole, say nothing."""
    try:
        data = json.loads((spool / _NAME).read_bytes())
        sent = tuple((str(name), int(count)) for name, count in sorted(data["sent"].items()))
        counted = data["counted_s"]
        withdrawn = frozenset(str(name) for name in data["withdrawn"])
        return Notes(withdrawn, sent, None if counted is None else float(counted))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Notes()
