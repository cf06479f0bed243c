"""The review queue: each open finding waits for the sign-off of who answers for its dataset.

The data's owner, named in the setting `data_owners`, signs off; for a dataset without one, and for
what is about no dataset, an admin. Nobody signs off what is about themself. A sign-off is a leaf of
the log, and the last one of a finding holds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from nightingale_hub.datasets import may_report
from nightingale_hub.errors import BadInput, NotAllowed, NotFound
from nightingale_hub.findings import FindingState, change_state, parse_evidence
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.tables.incidents import incident, incident_finding, review
from nightingale_hub.tables.log import finding

VERDICTS = ("justified", "false alert", "breach")
LEAST_NOTE_CHARS, MOST_NOTE_CHARS = 10, 1000
SHOWN = 200

Owners = Mapping[str, Sequence[str]]


def list_queue(
    conn: Connection, owners: Owners, reviewer: str, is_admin: bool
) -> list[dict[str, Any]]:
    """Return what waits for *reviewer*: the gravest first, then the oldest."""
    query = (
        select(finding, incident.c.id.label("incident"), incident.c.rung)
        .outerjoin(incident_finding, incident_finding.c.finding_id == finding.c.id)
        .outerjoin(incident, incident.c.id == incident_finding.c.incident_id)
        .where(finding.c.state != FindingState.CLOSED.value)
        .order_by(finding.c.at_us)
    )
    waiting = [
        _describe(row, parse_evidence(row))
        for row in conn.execute(query)
        if _may_review(row, parse_evidence(row), owners, reviewer, is_admin)
    ]
    grave = ("critical", "high", "medium", "low")
    return sorted(waiting, key=lambda each: grave.index(each["severity"]))[:SHOWN]


def sign_off(
    conn: Connection,
    owners: Owners,
    finding_id: int,
    reviewer: str,
    is_admin: bool,
    verdict: str,
    note: str,
    at_us: int,
) -> None:
    """Close a finding with *reviewer*'s verdict and note; the caller commits.

    Raises `NotFound` for one that is not theirs to see, `NotAllowed` for one about themself,
    `BadInput` for a verdict that there is not or a note that says nothing.
    """
    row = conn.execute(select(finding).where(finding.c.id == finding_id)).one_or_none()
    if row is not None and row.subject == f"user:{reviewer}":
        raise NotAllowed("nobody signs off what is about themself; ask another reviewer")
    if row is None or not _may_review(row, parse_evidence(row), owners, reviewer, is_admin):
        raise NotFound(f"no finding {finding_id} waits for you")
    if verdict not in VERDICTS:
        raise BadInput(f"a verdict is one of: {', '.join(VERDICTS)}")
    if not LEAST_NOTE_CHARS <= len(note.strip()) <= MOST_NOTE_CHARS:
        raise BadInput(f"say why, in {LEAST_NOTE_CHARS} to {MOST_NOTE_CHARS} characters")
    values = {
        "finding_id": finding_id,
        "reviewer": reviewer,
        "verdict": verdict,
        "note": note.strip(),
        "at_us": at_us,
    }
    conn.execute(insert(review).values(**values))
    append_leaf(conn, "review", values, at_us)
    change_state(conn, finding_id, FindingState.CLOSED, reviewer, verdict, at_us)


def _may_review(
    row: Row[Any], evidence: Mapping[str, Any], owners: Owners, reviewer: str, is_admin: bool
) -> bool:
    if row.subject == f"user:{reviewer}":
        return False
    return may_report(owners, str(evidence.get("dataset", "")), reviewer, is_admin)


def _describe(row: Row[Any], evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "finding": row.id,
        "rule": row.kind,
        "severity": row.severity,
        "subject": row.subject,
        "dataset": evidence.get("dataset", ""),
        "reason": evidence.get("reason", ""),
        "at_us": row.at_us,
        "incident": row.incident,
        "rung": row.rung,
    }
