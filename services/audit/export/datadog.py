"""Datadog's log intake.

Limits: 1000 entries and 5 MB a request, 1 MB an entry, and nothing older than 18 hours: what is
older is sent under the time of sending, with its own time in an attribute.
ref: https://docs.datadoghq.com/api/latest/logs/#send-logs
"""

from collections.abc import Callable, Sequence
from typing import Any

from nightingale_hub.clock import now_us
from nightingale_hub.services.audit.export.record import Record
from nightingale_hub.services.audit.export.target import HttpTarget, Refusal, to_json

MOST = 1000
MOST_BYTES = 4_500_000
MOST_ENTRY_BYTES = 1_000_000
OLDEST_US = 18 * 3600 * 1_000_000


class Datadog(HttpTarget):
    """One Datadog site."""

    def __init__(
        self, url: str, api_key: str, ca_file: str | None, clock: Callable[[], int] = now_us
    ) -> None:
        """Send to the intake at *url*; *clock* gives the time in µs."""
        super().__init__(f"{url.rstrip('/')}/api/v2/logs", {"DD-API-KEY": api_key}, ca_file)
        self._clock = clock

    async def send(self, records: Sequence[Record]) -> list[Refusal]:
        """Deliver *records*."""
        now = self._clock()
        pairs = [(each, to_json(to_entry(each, now))) for each in records]
        refused = [
            Refusal(each, "larger than Datadog takes")
            for each, text in pairs
            if len(text) > MOST_ENTRY_BYTES
        ]
        fit = [pair for pair in pairs if len(pair[1]) <= MOST_ENTRY_BYTES]
        return refused + await self.post_parts(fit, MOST, MOST_BYTES)

    def wrap(self, texts: Sequence[str]) -> tuple[bytes, str]:
        """Return the array of entries."""
        return f"[{','.join(texts)}]".encode(), "application/json"


def to_entry(record: Record, sent_us: int) -> dict[str, Any]:
    """Return *record* as an entry that is sent at *sent_us*."""
    body = dict(record.body)
    is_alert = body["event"]["kind"] == "alert"
    entry: dict[str, Any] = {
        "ddsource": "nightingale",
        "ddtags": f"source_kind:{'finding' if is_alert else 'read'}",
        "service": "nightingale-audit",
        "hostname": body.get("host", {}).get("id", "hub"),
        "status": "warn" if is_alert else "info",
        "message": body.pop("message", f"{body['event']['action']} {body['event']['id']}"),
    }
    time = body.pop("@timestamp")
    if sent_us - record.at_us < OLDEST_US:
        entry["timestamp"] = time
    return {**entry, **body, "occurred": time}
