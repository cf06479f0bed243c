"""Incidents: findings about one person within 90 minutes of each other, and what follows.

Rungs, each with the reason that the person is shown: `note` (recorded, nothing follows), `notify`,
`suspend` (their datasets are closed for a time), `stop` (their instances stop), `disable` (they
start none until an admin releases them). How many incidents they had in 30 days and how grave this
one is decide the rung; an incident may climb while it goes on, and never comes down.
"""

from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from nightingale_hub import notices
from nightingale_hub.clock import format_time
from nightingale_hub.findings import Severity, raise_finding
from nightingale_hub.instances import Cause, State, add_progress
from nightingale_hub.log_leaf import append_leaf
from nightingale_hub.notices import add_notice
from nightingale_hub.requests import Kind, Request, ask
from nightingale_hub.services.audit.detect.finding import SEVERITIES, Finding
from nightingale_hub.services.audit.respond.bypass import is_passed
from nightingale_hub.tables.incidents import incident, incident_finding, suspension
from nightingale_hub.tables.instances import instance

MINUTE_US = 60_000_000
MERGE_US = 90 * MINUTE_US
COUNTED_US = 30 * 24 * 60 * MINUTE_US
SUSPEND_US = {"high": 10 * MINUTE_US, "critical": 24 * 60 * MINUTE_US}
RUNGS = ("note", "notify", "suspend", "stop", "disable")
# By severity, the rung of the first, second, … incident within 30 days; the last one stays.
LADDER = {
    "low": ("notify",),
    "medium": ("notify",),
    "high": ("notify", "suspend", "stop", "disable"),
    "critical": ("suspend", "disable"),
}
ACTOR = "audit"


def take_in(conn: Connection, found: Finding, at_us: int) -> int:
    """Record *found* with its incident and all that follows from it; return the finding's number.

    The same finding again changes nothing. The caller commits.
    """
    evidence: dict[str, object] = {
        "reason": found.reason,
        "dataset": found.dataset,
        "version": found.version,
        "since_us": found.since_us,
        "until_us": found.until_us,
        **{f"fact_{name}": value for name, value in found.facts.items()},
    }
    finding_id = raise_finding(
        conn,
        key=found.key,
        kind=found.rule,
        severity=Severity(found.severity),
        subject=f"user:{found.owner}",
        evidence=evidence,
        at_us=at_us,
    )
    known = select(incident_finding).where(incident_finding.c.finding_id == finding_id)
    if conn.execute(known).one_or_none() is None:
        _join(conn, found, finding_id, at_us)
    return finding_id


def _join(conn: Connection, found: Finding, finding_id: int, at_us: int) -> None:
    passed = is_passed(conn, found.owner, found.rule, found.since_us, at_us)
    row = _find_open(conn, found.owner, at_us)
    earlier = _count_earlier(conn, found.owner, at_us, row)
    # What was allowed makes an incident no graver.
    told = [found.severity] if not passed or row is None else []
    told += [row.severity] if row is not None else []
    severity = max(told, key=SEVERITIES.index)
    ladder = LADDER[found.severity]
    rung = "note" if passed else ladder[min(earlier, len(ladder) - 1)]
    if row is not None and RUNGS.index(row.rung) >= RUNGS.index(rung):
        rung = row.rung
    if row is None:
        values = {
            "owner": found.owner,
            "opened_us": at_us,
            "last_us": at_us,
            "severity": severity,
            "rung": rung,
            "reason": found.reason,
        }
        inserted = conn.execute(insert(incident).values(**values)).inserted_primary_key
        assert inserted is not None
        number = int(inserted[0])
    else:
        number = int(row.id)
        values = {"last_us": at_us, "severity": severity, "rung": rung}
        conn.execute(update(incident).where(incident.c.id == number).values(**values))
    conn.execute(insert(incident_finding).values(finding_id=finding_id, incident_id=number))
    if row is None or rung != row.rung:
        said = {"incident": number, "owner": found.owner, "rung": rung, "finding": finding_id}
        append_leaf(conn, "incident", said, at_us)
        _climb(conn, number, found, rung, severity, at_us)


def _climb(
    conn: Connection, number: int, found: Finding, rung: str, severity: str, at_us: int
) -> None:
    """Do what *rung* says, in this transaction, with the reason for the person."""
    owner = found.owner
    running = list(
        conn.execute(
            select(instance).where(instance.c.owner == owner, instance.c.actual != State.STOPPED)
        )
    )
    reason = f"Incident {number}: {found.reason}"[:500]
    if rung != "note":
        subject = f"Nightingale: incident {number}, {rung}"
        key = f"incident:{number}:{rung}"
        add_notice(conn, owner, notices.Kind.SECURITY, subject, reason, key, at_us)
    if rung == "notify":
        _tell(conn, running, f"{reason} Nothing follows yet; explain it to your admin.", at_us)
    if rung == "suspend":
        until_us = at_us + SUSPEND_US[severity]
        conn.execute(
            insert(suspension).values(
                incident_id=number,
                owner=owner,
                since_us=at_us,
                until_us=until_us,
                reason=reason,
            )
        )
        until = format_time(until_us)
        _tell(conn, running, f"{reason} Your datasets are closed until {until}.", at_us)
    if rung == "stop":
        for row in running:
            key = f"incident:{number}:stop:{row.id}"
            wish = Request(row.id, Kind.STOP, ACTOR, reason, key, Cause.QUARANTINE)
            ask(conn, wish, at_us)
    if rung == "disable":
        last = running[:1] or list(
            conn.execute(
                select(instance)
                .where(instance.c.owner == owner)
                .order_by(instance.c.created_us.desc())
                .limit(1)
            )
        )
        for row in last:  # who never had an instance has read nothing
            key = f"incident:{number}:disable"
            ask(conn, Request(row.id, Kind.QUARANTINE, ACTOR, reason, key), at_us)


def _tell(conn: Connection, running: list[Row[Any]], message: str, at_us: int) -> None:
    for row in running:
        add_progress(conn, row.id, at_us, message)


def _find_open(conn: Connection, owner: str, at_us: int) -> Row[Any] | None:
    query = (
        select(incident)
        .where(incident.c.owner == owner, incident.c.last_us >= at_us - MERGE_US)
        .order_by(incident.c.last_us.desc(), incident.c.id.desc())
        .limit(1)
    )
    return conn.execute(query).one_or_none()


def _count_earlier(conn: Connection, owner: str, at_us: int, but: Row[Any] | None) -> int:
    """Count the incidents of 30 days that led to something and were more than a notice's worth."""
    query = select(func.count()).where(
        incident.c.owner == owner,
        incident.c.last_us >= at_us - COUNTED_US,
        incident.c.rung != "note",
        incident.c.severity.in_(("high", "critical")),
    )
    if but is not None:
        query = query.where(incident.c.id != but.id)
    return int(conn.execute(query).scalar_one())
