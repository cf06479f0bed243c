"""An exporter: follows the log and the findings, and moves its cursor behind what was delivered.

What a receiver refuses for ever is kept in a file beside the log and raised as a finding, and the
rest goes on. A receiver that does not answer holds its own exporter up and no other.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nightingale_hub.clock import now_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.findings import Severity, parse_evidence, raise_finding
from nightingale_hub.service import Context
from nightingale_hub.services.audit.export.record import record_event, record_finding
from nightingale_hub.services.audit.export.target import Refusal, Target, to_json
from nightingale_hub.services.audit.reader import EventReader
from nightingale_hub.tables.exports import audit_export
from nightingale_hub.tables.log import finding

log = logging.getLogger("nightingale")
RECORDS_AT_ONCE = 1000
FINDINGS_AT_ONCE = 200
LEAST_PAUSE_S, MOST_PAUSE_S = 0.5, 60.0
COMMITTED_AFTER_US = 20 * 1_000_000  # no transaction takes as long
STUCK_AFTER_US = 15 * 60 * 1_000_000
DAY_US = 86_400_000_000


class Exporter:
    """Delivers to one target."""

    def __init__(
        self,
        context: Context,
        reader: EventReader,
        name: str,
        target: Target,
        clock: Callable[[], int] = now_us,
    ) -> None:
        """Deliver what *reader* gives to *target*, under the cursor *name*."""
        self.name = name
        self.target = target
        self._context = context
        self._reader = reader
        self._clock = clock
        self._pause_s = LEAST_PAUSE_S

    async def step(self) -> None:
        """Deliver all that is there; wait longer each time that the receiver does not take it."""
        try:
            while await self.deliver_next():
                self._pause_s = LEAST_PAUSE_S
        except Unavailable as error:
            why = str(error)
            await self._context.write(lambda conn: self._note_failure(conn, why))
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, MOST_PAUSE_S)

    async def deliver_next(self) -> bool:
        """Deliver the next batches and findings; returns False when there were none.

        Raises `Unavailable` when they have to be sent again.
        """
        at = await self._context.read(lambda conn: load_cursor(conn, self.name))
        batches = await self._reader.read_after(at[0])
        rows = await self._context.read(lambda conn: _list_findings(conn, at[1], self._clock()))
        if not batches and not rows:
            return False
        records = [
            record_event(event, batch.stream_id, batch.instance_id, batch.received_us)
            for batch in batches
            for event in batch.events
        ] + [record_finding(row, parse_evidence(row)) for row in rows]
        refused: list[Refusal] = []
        for start in range(0, len(records), RECORDS_AT_ONCE):
            refused += await self.target.send(records[start : start + RECORDS_AT_ONCE])
        await asyncio.to_thread(self._keep, refused)
        number = batches[-1].number if batches else at[0]
        last = rows[-1].id if rows else at[1]
        sent = len(records) - len(refused)
        await self._context.write(lambda conn: self._advance(conn, number, last, sent, refused))
        return True

    def _advance(
        self, conn: Connection, number: int, finding_id: int, sent: int, refused: Sequence[Refusal]
    ) -> None:
        at_us = self._clock()
        _ensure_row(conn, self.name)
        conn.execute(
            update(audit_export)
            .where(audit_export.c.name == self.name)
            .values(
                batch_number=number,
                finding_id=finding_id,
                sent=audit_export.c.sent + sent,
                refused=audit_export.c.refused + len(refused),
                delivered_us=at_us,
                error="",
                error_us=None,
            )
        )
        if refused:
            reason = f"The export {self.name} refused {len(refused)} documents: {refused[0].why}"
            self._raise(conn, f"A1/export/{self.name}/{refused[0].record.key}", reason, at_us)

    def _note_failure(self, conn: Connection, why: str) -> None:
        at_us = self._clock()
        _ensure_row(conn, self.name)
        row = conn.execute(select(audit_export).where(audit_export.c.name == self.name)).one()
        since_us = row.error_us or at_us
        conn.execute(
            update(audit_export)
            .where(audit_export.c.name == self.name)
            .values(error=why[:500], error_us=since_us)
        )
        if at_us - since_us > STUCK_AFTER_US:
            reason = f"The export {self.name} has delivered nothing for 15 minutes: {why[:300]}"
            self._raise(conn, f"A1/export/{self.name}/{since_us // DAY_US}", reason, at_us)

    def _raise(self, conn: Connection, key: str, reason: str, at_us: int) -> None:
        raise_finding(
            conn,
            key=key,
            kind="A1",
            severity=Severity.MEDIUM,
            subject=f"export:{self.name}",
            evidence={"reason": reason, "dataset": "", "version": 1},
            at_us=at_us,
        )

    def _keep(self, refused: Sequence[Refusal]) -> None:
        if not refused:
            return
        path = self._context.settings.state_path / "audit" / f"refused-{self.name}.ndjson"
        keep(path, refused)
        log.error("export %s: %d documents were refused; %s", self.name, len(refused), path)


def keep(path: Path, refused: Sequence[Refusal]) -> None:
    """Append *refused* to the file at *path*, on disk."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        for each in refused:
            file.write(to_json({"why": each.why, "document": each.record.body}) + "\n")
        file.flush()
        os.fsync(descriptor)


def load_cursor(conn: Connection, name: str) -> tuple[int, int]:
    """Return the last batch and the last finding that the export *name* has delivered."""
    row = conn.execute(select(audit_export).where(audit_export.c.name == name)).one_or_none()
    return (0, 0) if row is None else (row.batch_number, row.finding_id)


def _ensure_row(conn: Connection, name: str) -> None:
    query = select(audit_export.c.name).where(audit_export.c.name == name)
    if conn.execute(query).one_or_none() is None:
        conn.execute(insert(audit_export).values(name=name))


def _list_findings(conn: Connection, after: int, at_us: int) -> list[Row[Any]]:
    """Return the next findings. Behind a number that is missing only those that are old enough.

    Two transactions may commit in another order than their numbers have; one that was undone
    leaves a number that never comes.
    """
    query = select(finding).where(finding.c.id > after).order_by(finding.c.id)
    rows: list[Row[Any]] = []
    for row in conn.execute(query.limit(FINDINGS_AT_ONCE)):
        if row.id != after + 1 and row.at_us > at_us - COMMITTED_AFTER_US:
            break
        rows.append(row)
        after = row.id
    return rows
