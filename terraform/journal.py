"""What a run said: Terraform's machine-readable lines, as a person may read them.

Lines that are no JSON are passed over: a provider, a provisioner or a crash may print anything.
ref: https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEPS = {
    "apply_start",
    "apply_progress",
    "apply_complete",
    "apply_errored",
    "change_summary",
}
MESSAGE_LIMIT = 600


@dataclass(frozen=True)
class Event:
    """One line of a journal that Terraform itself wrote."""

    kind: str
    message: str
    data: dict[str, Any]

    @property
    def is_step(self) -> bool:
        """Whether it tells a person how far the run is."""
        return self.kind in STEPS

    @property
    def error(self) -> str | None:
        """What went wrong, when this event says so: Terraform's summary and detail."""
        diagnostic = self.data.get("diagnostic")
        if not isinstance(diagnostic, dict) or diagnostic.get("severity") != "error":
            return None
        parts = [diagnostic.get("summary"), diagnostic.get("detail")]
        text = ": ".join(" ".join(part.split()) for part in parts if isinstance(part, str) and part)
        return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}…"


class Journal:
    """A journal file, read as it grows."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Read *path* from byte *offset* on; it need not exist yet."""
        self.path = path
        self.offset = offset

    def read_events(self) -> list[Event]:
        """Return the events of the lines that were completed since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        events = (_parse_event(line) for line in whole.splitlines())
        return [event for event in events if event is not None]


def _parse_event(line: bytes) -> Event | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    return Event(str(data.get("type", "")), str(data.get("@message", "")), data)
