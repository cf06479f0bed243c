"""What the console asks of reviews, bypasses and access records, for the person it vouches for."""

import base64
from typing import Any

from sqlalchemy import Connection

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.clock import now_us
from nightingale_hub.datasets import may_report
from nightingale_hub.errors import BadInput, NotFound
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.respond import report, reviews
from nightingale_hub.services.audit.respond.bypass import grant_bypass


class ReviewHandler(ServiceHandler):
    """A question about findings, for the console only."""

    async def prepare(self) -> None:
        """Refuse everyone else."""
        await self.require_service("console")

    @property
    def owners(self) -> reviews.Owners:
        """Who answers for which dataset."""
        owners: reviews.Owners = self.context.settings.data_owners
        return owners

    def take(self, name: str, kind: type) -> Any:
        """Return the value *name* of the body; raises `BadInput` unless it is of *kind*."""
        value = self.json_body().get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadInput(f"{name} must be of type {kind.__name__}")
        return value

    def take_asker(self) -> tuple[str, bool]:
        """Return the query's `reviewer`, and whether they are an admin."""
        return self.get_query_argument("reviewer"), self.get_query_argument("admin", "0") == "1"


class QueueHandler(ReviewHandler):
    """GET review: what waits for a reviewer."""

    async def get(self) -> None:
        """Reply `{"findings": [...]}`."""
        reviewer, is_admin = self.take_asker()
        waiting = await self.context.read(
            lambda conn: reviews.list_queue(conn, self.owners, reviewer, is_admin)
        )
        self.reply({"findings": waiting})


class SignOffHandler(ReviewHandler):
    """POST review/<finding>: a sign-off."""

    async def post(self, finding: str) -> None:
        """Close the finding; reply `{}`."""
        reviewer, is_admin = self.take("reviewer", str), self.take("admin", bool)
        verdict, note, at_us = self.take("verdict", str), self.take("note", str), now_us()

        def work(conn: Connection) -> None:
            reviews.sign_off(
                conn, self.owners, int(finding), reviewer, is_admin, verdict, note, at_us
            )

        await self.context.write(work)
        self.reply({})


class BypassHandler(ReviewHandler):
    """POST bypasses: an admin lets somebody break rules for a time."""

    async def post(self) -> None:
        """Write it down; reply `{"bypass": number}`."""
        owner, reviewer = self.take("owner", str), self.take("reviewer", str)
        rules, hours = self.take("rules", list), self.take("hours", int)
        reason, at_us = self.take("reason", str), now_us()
        names = [str(rule) for rule in rules]
        number = await self.context.write(
            lambda conn: grant_bypass(conn, owner, names, hours, reviewer, reason, at_us)
        )
        self.reply({"bypass": number})


class ReportHandler(ReviewHandler):
    """GET report: the access record of one dataset for one month."""

    def initialize(self, history: History) -> None:
        """Take the reads from *history*."""
        self._history = history

    async def get(self) -> None:
        """Reply `{"csv": text, "pdf": base64}`."""
        reviewer, is_admin = self.take_asker()
        dataset, month = self.get_query_argument("dataset"), self.get_query_argument("month")
        if not may_report(self.owners, dataset, reviewer, is_admin):
            raise NotFound(f"no dataset {dataset!r} is yours to report on")

        def work(conn: Connection) -> tuple[str, bytes]:
            rows = report.gather(conn, self._history, dataset, month)
            text = report.format_csv(rows)
            findings = report.list_findings(conn, dataset, month)
            return text, report.format_pdf(dataset, month, rows, findings, text)

        text, paper = await self.context.read(work)
        self.reply({"csv": text, "pdf": base64.b64encode(paper).decode()})
