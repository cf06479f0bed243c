"""OTLP/HTTP logs in its JSON encoding, to any OpenTelemetry collector.

ref: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from collections.abc import Sequence
from typing import Any

import httpx

from nightingale_hub.services.audit.export.record import Record, flatten
from nightingale_hub.services.audit.export.target import (
    HttpTarget,
    Refusal,
    parse_object,
    to_json,
)

MOST = 1000
MOST_BYTES = 4 << 20
INFO, WARN = 9, 13  # severity numbers of the data model
SENT_ELSEWHERE = ("@timestamp", "message", "host.id", "ecs.version")


class Otlp(HttpTarget):
    """One collector, by its `/v1/logs`."""

    def __init__(self, url: str, token: str | None, ca_file: str | None) -> None:
        """Send to *url*, the collector's base."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__(f"{url.rstrip('/')}/v1/logs", headers, ca_file)

    async def send(self, records: Sequence[Record]) -> list[Refusal]:
        """Deliver *records*."""
        pairs = [(each, to_json(to_log_record(each))) for each in records]
        return await self.post_parts(pairs, MOST, MOST_BYTES)

    def wrap(self, texts: Sequence[str]) -> tuple[bytes, str]:
        """Return one request with one resource: this service."""
        resource = {"attributes": [to_attribute("service.name", "nightingale-audit")]}
        head = f'{{"resourceLogs":[{{"resource":{to_json(resource)},"scopeLogs":[{{"scope":'
        body = f'{head}{{"name":"nightingale.audit"}},"logRecords":[{",".join(texts)}]}}]}}]}}'
        return body.encode(), "application/json"

    def judge(self, answer: httpx.Response, records: Sequence[Record]) -> list[Refusal]:
        """Look for a partial success, which the client must not send again.

        The receiver does not say which records it refused, only how many: all of the group are
        told as refused, for some of them were.
        """
        if not answer.content:
            return []
        partial = parse_object(answer).get("partialSuccess") or {}
        if int(partial.get("rejectedLogRecords", 0)) == 0:
            return []
        why = f"{partial['rejectedLogRecords']} of {len(records)}: {partial.get('errorMessage')}"
        return [Refusal(record, why[:300]) for record in records]


def to_log_record(record: Record) -> dict[str, Any]:
    """Return *record* as a LogRecord; 64-bit numbers are decimal strings there."""
    event = record.body["event"]
    is_alert = event["kind"] == "alert"
    name = "nightingale.finding" if is_alert else f"nightingale.{event['action'].replace('-', '.')}"
    return {
        "timeUnixNano": str(record.at_us * 1000),
        "observedTimeUnixNano": str(record.at_us * 1000),
        "severityNumber": WARN if is_alert or event.get("outcome") == "failure" else INFO,
        "severityText": "WARN" if is_alert or event.get("outcome") == "failure" else "INFO",
        "eventName": name,
        "body": {"stringValue": record.body.get("message", name)},
        "attributes": [
            to_attribute(key, value)
            for key, value in flatten(record.body)
            if key not in SENT_ELSEWHERE
        ]
        + ([to_attribute("host.id", record.body["host"]["id"])] if "host" in record.body else []),
    }


def to_attribute(key: str, value: Any) -> dict[str, Any]:
    """Return one attribute."""
    return {"key": key, "value": to_value(value)}


def to_value(value: Any) -> dict[str, Any]:
    """Return *value* as an AnyValue."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [to_value(each) for each in value]}}
    return {"stringValue": str(value)}
