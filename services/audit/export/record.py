"""What is handed on, in the Elastic Common Schema: one event or one finding as a document.

Every target sends this document, in its own envelope. What researchers named is made inert here,
once: no control, bidi or invisible character, no formula's beginning, no byte that is not UTF-8.
`event.id` is the same whenever the same thing is sent, so a receiver can drop what comes twice.
ref: https://www.elastic.co/docs/reference/ecs/ecs-field-reference
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nightingale_hub.clock import to_datetime
from nightingale_hub.services.audit.event import Event
from nightingale_hub.text import csv_cell, visible

ECS_VERSION = "8.17.0"
MAX_PATH_CHARS = 8192
SEVERITY = {"low": 21, "medium": 47, "high": 73, "critical": 99}  # as Elastic's own rules have it


@dataclass(frozen=True)
class Record:
    """One document: *key* names it for ever, *at_us* is its own time."""

    key: str
    at_us: int
    body: dict[str, Any]


def format_us(at_us: int) -> str:
    """Return *at_us* as RFC 3339 with microseconds."""
    return f"{to_datetime(at_us):%Y-%m-%dT%H:%M:%S.%f}Z"


def inert(text: str) -> str:
    """Return *text* as neither a page, a terminal nor a spreadsheet takes it for more than text."""
    return csv_cell(text.encode("utf-8", "backslashreplace").decode())


def record_event(event: Event, stream_id: str, instance_id: str, received_us: int) -> Record:
    """Return *event* of a stream as a document."""
    key = f"{stream_id}:{event.seq}"
    # Absolute in the mount, so that no path begins a formula.
    path = f"/{visible(event.ds)}/{_shorten(visible(_encodable(event.path)))}"
    body = {
        "@timestamp": format_us(event.ts),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "id": key,
            "kind": "event",
            "category": ["file"],
            "type": ["access"],
            "action": f"file-{event.act}",
            "outcome": "failure" if event.rc or event.act == "denied" else "success",
            "sequence": event.seq,
            "duration": event.dur * 1000,
            "module": "nightingale",
            "dataset": "nightingale.audit",
            "ingested": format_us(received_us),
        },
        "user": {"id": str(event.uid), "name": inert(event.user)},
        "file": {"path": path, "name": inert(path.rpartition("/")[2]), "inode": str(event.ino)},
        "process": {
            "executable": inert(event.exe),
            "pid": event.pid,
            "parent": {"pid": event.ppid},
        },
        "host": {"id": instance_id},
        "nightingale": {
            "stream": stream_id,
            "dataset": inert(event.ds),
            "open": event.fid,
            "offset": event.off,
            "length": event.len,
            "flags": event.flags,
            "errno": event.rc,
            "policy": event.pol,
        },
    }
    return Record(key, event.ts, body)


def record_finding(row: Any, evidence: Mapping[str, Any]) -> Record:
    """Return the finding *row*, with its *evidence*, as an alert."""
    key = f"finding:{row.id}"
    owner = row.subject.removeprefix("user:") if row.subject.startswith("user:") else ""
    body: dict[str, Any] = {
        "@timestamp": format_us(row.at_us),
        "ecs": {"version": ECS_VERSION},
        "message": inert(str(evidence.get("reason", row.kind))),
        "event": {
            "id": key,
            "kind": "alert",
            "category": ["intrusion_detection"],
            "type": ["info"],
            "action": row.kind,
            "severity": SEVERITY[row.severity],
            "module": "nightingale",
            "dataset": "nightingale.finding",
        },
        "rule": {"id": row.kind, "name": row.kind, "version": str(evidence.get("version", 1))},
        "nightingale": {
            "finding": row.id,
            "severity": row.severity,
            "subject": inert(row.subject),
            "dataset": inert(str(evidence.get("dataset", ""))),
        },
    }
    if owner:
        body["user"] = {"name": inert(owner)}
    return Record(key, row.at_us, body)


def flatten(body: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf of *body* with its dotted name; lists stay lists."""
    for name, value in body.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_PATH_CHARS else f"{text[:MAX_PATH_CHARS]}…"
