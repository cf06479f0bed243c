"""The use of instances as the record knows it: reports come in, decisions go out."""

import json
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub.errors import BadInput
from nightingale_hub.idle import Decision, Policy, Use, Verdict, decide, find_use
from nightingale_hub.instances import SERVES, Cause, add_progress, find_current, get, want_stopped
from nightingale_hub.notices import Kind, add_notice
from nightingale_hub.tables.supervision import activity

FIELDS = {
    "busy_kernels": int,
    "programs": int,
    "gpu_percent": float,
    "read_us": int,
    "asked_us": int,
}
MAX_FAULTS = 20
MAX_CHARS = 300


def parse_report(body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the report and the faults that *body* holds; raises `BadInput`."""
    if set(body) != {*FIELDS, "unknown", "faults"}:
        raise BadInput(f"a report has exactly {', '.join([*FIELDS, 'unknown', 'faults'])}")
    for name, kind in FIELDS.items():
        value = body[name]
        fits = type(value) is int or (kind is float and type(value) is float)
        if value is not None and not (fits and 0 <= value < 2**53):
            raise BadInput(f"{name} must be a number that is not negative, or null")
    for name in ("unknown", "faults"):
        texts = body[name]
        if not isinstance(texts, list) or len(texts) > MAX_FAULTS:
            raise BadInput(f"{name} must be a list of at most {MAX_FAULTS} texts")
        if not all(isinstance(text, str) and len(text) <= MAX_CHARS for text in texts):
            raise BadInput(f"{name} has texts of at most {MAX_CHARS} characters")
    report = {name: body[name] for name in (*FIELDS, "unknown")}
    return report, list(body["faults"])


def take_report(
    conn: Connection, instance_id: str, report: dict[str, Any], faults: list[str], at_us: int
) -> None:
    """Note what an agent reports, tell the owner of *faults*, and act on a server that is lost."""
    row = _ensure(conn, instance_id)
    last = json.loads(row.report) if row.told_us is not None else None
    used = find_use(report, last)
    values: dict[str, Any] = {"told_us": at_us, "report": json.dumps(report)}
    if used:
        values |= {"active_us": at_us, "why": used, "warned": 0, "warned_us": None}
    _change(conn, instance_id, **values)
    for fault in faults:
        add_progress(conn, instance_id, at_us, _describe(fault))
        if fault.startswith("server_") and not fault.startswith("server_lost"):  # told below
            _tell(conn, instance_id, Kind.ERROR, _describe(fault), f"fault:{fault}", at_us)
        if fault.startswith("server_lost"):
            why = fault.partition(": ")[2] or "its server ended again and again"
            want_stopped(conn, instance_id, at_us, f"crashed: {why}", Cause.CRASHED)


def lease(conn: Connection, instance_id: str, for_us: int, at_us: int) -> int:
    """Keep an instance at least *for_us* for a program that asks again and again; tell nobody.

    What its owner asked for stands where that is longer. Return until when it is kept.
    """
    until_us = max(_ensure(conn, instance_id).keep_until_us or 0, at_us + for_us)
    _change(conn, instance_id, keep_until_us=until_us, warned=0, warned_us=None)
    return until_us


def keep(conn: Connection, instance_id: str, for_us: int, at_us: int) -> int:
    """Keep an instance from being stopped as idle for *for_us*; return until when."""
    _ensure(conn, instance_id)
    until_us = at_us + for_us
    _change(conn, instance_id, keep_until_us=until_us, warned=0, warned_us=None)
    add_progress(conn, instance_id, at_us, "Its owner keeps it from being stopped as idle")
    return until_us


def find_activity(conn: Connection, instance_id: str) -> Row[Any] | None:
    """Return what is known of an instance's use, or None before the first report."""
    return conn.execute(select(activity).where(activity.c.instance_id == instance_id)).one_or_none()


def describe_use(conn: Connection, instance_id: str) -> dict[str, Any] | None:
    """Return the agent's last word on an instance's use as its owner reads it; None before one."""
    row = find_activity(conn, instance_id)
    if row is None or row.told_us is None:
        return None
    report = json.loads(row.report)
    names = ("busy_kernels", "programs", "gpu_percent", "unknown")
    return {
        "told_us": row.told_us,
        "active_us": row.active_us,
        "why": row.why,
        "keep_until_us": row.keep_until_us,
        **{name: report.get(name) for name in names},
    }


def judge(
    conn: Connection, owner: str, server_name: str, pages_us: int, policy: Policy, at_us: int
) -> Decision:
    """Decide about a server's instance at *at_us*, warn its owner, or accept its stop.

    *pages_us* is when the hub last saw its owner, which counts while nothing better is known.
    """
    row = find_current(conn, owner, server_name)
    if row is None or row.actual not in SERVES or row.wanted != "running":
        return Decision(Verdict.KEEP, "it does not run")
    known = _ensure(conn, row.id)
    use = Use(
        ready_us=row.ready_us,
        report=None if known.told_us is None else json.loads(known.report),
        told_us=known.told_us,
        active_us=known.active_us,
        why=known.why,
        pages_us=pages_us if known.told_us is None else None,
        keep_until_us=known.keep_until_us,
        warned=known.warned,
        warned_us=known.warned_us,
    )
    decision = decide(use, policy, at_us)
    if decision.verdict == Verdict.WARN:
        _change(conn, row.id, warned=known.warned + 1, warned_us=at_us)
        said = f"It will be stopped soon: {decision.reason}. Use it, or `nightingale extend 2h`"
        add_progress(conn, row.id, at_us, said)
        _tell(conn, row.id, Kind.IDLE, said, "idle", at_us)
    elif decision.verdict == Verdict.STOP:
        want_stopped(conn, row.id, at_us, f"idle: {decision.reason}", Cause.IDLE)
    return decision


def _tell(conn: Connection, instance_id: str, kind: Kind, said: str, what: str, at_us: int) -> None:
    row = get(conn, instance_id)
    named = f"server {row.server_name}" if row.server_name else "your server"
    key = f"{what}:{instance_id}:{at_us}"
    add_notice(conn, row.owner, kind, f"{instance_id}, {named}", said, key, at_us)


def _describe(fault: str) -> str:
    name, _, why = fault.partition(": ")
    said = {
        "server_exited": "The server ended and is started again",
        "server_hung": "The server did not answer and is started again",
        "server_lost": "The server ended too often and is not started again",
    }.get(name.partition(" ")[0], name)
    return f"{said}: {why}" if why else said


def _ensure(conn: Connection, instance_id: str) -> Row[Any]:
    row = find_activity(conn, instance_id)
    if row is None:
        conn.execute(insert(activity).values(instance_id=instance_id))
        row = find_activity(conn, instance_id)
        assert row is not None
    return row


def _change(conn: Connection, instance_id: str, **values: Any) -> None:
    conn.execute(update(activity).where(activity.c.instance_id == instance_id).values(**values))
