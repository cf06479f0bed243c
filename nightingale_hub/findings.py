"""Raises findings: what someone must look at, each once, each in the tamper-evident log."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from nightingale_hub.errors import NotFound
from nightingale_hub.log_leaf import append_leaf, format_payload, hash_text
from nightingale_hub.tables.log import finding


class Severity(StrEnum):
    """How soon someone must look."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class FindingState(StrEnum):
    """How far the looking has come."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


def raise_finding(
    conn: Connection,
    *,
    key: str,
    kind: str,
    severity: Severity,
    subject: str,
    evidence: Mapping[str, object],
    at_us: int,
) -> int:
    """Record a finding with its leaf and return its id; the caller commits.

    *key* names what was found: raised again under the same key it stays as it is. *kind* is one
    word, *subject* whom or what it is about (`user:alice`, `stream:i-1:b-1`).
    """
    found = find_by_key(conn, key)
    if found is not None:
        return int(found.id)
    text = format_payload(evidence)
    values = {
        "key": key,
        "kind": kind,
        "severity": Severity(severity).value,
        "subject": subject,
        "evidence": text,
        "at_us": at_us,
        "state": FindingState.OPEN.value,
    }
    try:
        # Of two that find the same at once the second waits here, then finds it raised.
        with conn.begin_nested():
            row = conn.execute(insert(finding).values(**values))
    except IntegrityError:
        found = find_by_key(conn, key)
        assert found is not None
        return int(found.id)
    assert row.inserted_primary_key is not None
    finding_id = int(row.inserted_primary_key[0])
    said = {name: values[name] for name in ("key", "kind", "severity", "subject")}
    payload = {"finding": finding_id, "evidence_sha256": hash_text(text), **said}
    append_leaf(conn, "finding", payload, at_us)
    return finding_id


def change_state(
    conn: Connection, finding_id: int, state: FindingState, by: str, reason: str, at_us: int
) -> None:
    """Set the state of a finding, with a leaf that says who did and why; the caller commits.

    Raises `NotFound` for a number that no finding has.
    """
    changed = conn.execute(
        update(finding).where(finding.c.id == finding_id).values(state=FindingState(state).value)
    ).rowcount
    if changed != 1:
        raise NotFound(f"no finding {finding_id}")
    payload = {"finding": finding_id, "state": state.value, "by": by, "reason": reason}
    append_leaf(conn, "finding_state", payload, at_us)


def find_by_key(conn: Connection, key: str) -> Row[Any] | None:
    """Return the finding that was raised under *key*, or None."""
    return conn.execute(select(finding).where(finding.c.key == key)).one_or_none()


def parse_evidence(row: Row[Any]) -> dict[str, Any]:
    """Return what the finding *row* was raised on."""
    evidence: dict[str, Any] = json.loads(row.evidence)
    return evidence
