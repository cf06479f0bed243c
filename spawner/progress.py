"""The record's progress lines as the hub's progress events, and the time between them."""

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
# Past its estimate a launch may take long; the bar must not say that it is over.
MOST_BY_TIME = 90


class Bar:
    """A progress bar that never goes back: edges have their place, lines and time move it a bit."""

    def __init__(self, estimate_s: float | None = None) -> None:
        """Start at zero; *estimate_s* is how long such a launch takes, where that is known."""
        self._percent = 0
        self._estimate_s = estimate_s

    def to_event(self, line: Row[Any], elapsed_s: float = 0.0) -> dict[str, Any]:
        """Return the event for the next *line*, *elapsed_s* after it was asked for."""
        before_next = min((each for each in AT_EDGE.values() if each > self._percent), default=96)
        moved = AT_EDGE.get(line.edge, min(self._percent + STEP, before_next - 1))
        self._percent = max(self._percent, moved, self._by_time(elapsed_s))
        return {"progress": self._percent, "message": line.message}

    def tick(self, elapsed_s: float) -> dict[str, Any] | None:
        """Return an event that moves the bar alone, or None where time does not move it."""
        moved = self._by_time(elapsed_s)
        if moved <= self._percent:
            return None
        self._percent = moved
        return {"progress": moved}

    def _by_time(self, elapsed_s: float) -> int:
        if not self._estimate_s:
            return 0
        return min(MOST_BY_TIME, int(100 * elapsed_s / self._estimate_s))
