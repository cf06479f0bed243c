"""The record's progress lines as the hub's progress events."""

from typing import Any

from sqlalchemy import Row

AT_EDGE = {
    "requested_to_launching": 10,
    "launching_to_booting": 50,
    "booting_to_running": 95,
}
ENDS = {
    "requested_to_stopped",
    "launching_to_stopping",
    "booting_to_stopping",
    "booting_to_running",
    "running_to_stopping",
}
STEP = 6


class Bar:
    """A progress bar that never goes back: edges have their place, lines between move it a bit."""

    def __init__(self) -> None:
        """Start at zero."""
        self._percent = 0

    def to_event(self, line: Row[Any]) -> dict[str, Any]:
        """Return the event for the next *line*."""
        before_next = min((each for each in AT_EDGE.values() if each > self._percent), default=96)
        moved = AT_EDGE.get(line.edge, min(self._percent + STEP, before_next - 1))
        self._percent = max(self._percent, moved)
        return {"progress": self._percent, "message": line.message}
