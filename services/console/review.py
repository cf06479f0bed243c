"""What waits for a reviewer's sign-off, and the access record of a dataset for a month.

Audit decides who may sign what off; a reader for whom nothing waits sees an empty queue.
"""

import base64
import re

from nightingale_hub.clock import now_us
from nightingale_hub.errors import BadInput
from nightingale_hub.services.console.charges import month_of, parse_month
from nightingale_hub.services.console.page import AdminPage, Page

VERDICTS = ("justified", "false alert", "breach")


class Review(Page):
    """The queue, with a form for each finding."""

    async def get(self) -> None:
        """Show it."""
        asked: dict[str, str | int | None] = {
            "reviewer": self.person.name,
            "admin": int(self.person.is_admin),
        }
        found = await self.parts.get("audit", "review", **asked)
        month = month_of(now_us())
        self.show("review.html", findings=found["findings"], verdicts=VERDICTS, month=month)

    async def post(self) -> None:
        """Sign one off, and lead back to the queue."""
        finding = self.get_body_argument("finding", "")
        if not finding.isascii() or not finding.isdigit() or len(finding) > 18:
            raise BadInput("The form names no finding.")
        body = {
            "reviewer": self.person.name,
            "admin": self.person.is_admin,
            "verdict": self.get_body_argument("verdict", ""),
            "note": self.get_body_argument("note", ""),
        }
        await self.parts.post("audit", f"review/{finding}", body)
        self.redirect(f"{self.context.prefix}review", status=303)


class Bypass(AdminPage):
    """The form's other half: a bypass, which an admin allows somebody else."""

    sends_to_login = False

    async def post(self) -> None:
        """Write it down, and lead back to the queue."""
        hours = self.get_body_argument("hours", "")
        if not hours.isascii() or not hours.isdigit() or len(hours) > 3:
            raise BadInput("Hours must be a whole number.")
        body = {
            "reviewer": self.person.name,
            "owner": self.get_body_argument("owner", "").strip(),
            "rules": self.get_body_argument("rules", "").split(),
            "hours": int(hours),
            "reason": self.get_body_argument("reason", ""),
        }
        await self.parts.post("audit", "bypasses", body)
        self.redirect(f"{self.context.prefix}review", status=303)


class AccessRecord(Page):
    """The record as a file."""

    async def get(self, kind: str) -> None:
        """Reply the CSV or the PDF of `?dataset=&month=`."""
        dataset = self.get_query_argument("dataset", "")
        month = parse_month(self.get_query_argument("month", ""))
        asked: dict[str, str | int | None] = {
            "reviewer": self.person.name,
            "admin": int(self.person.is_admin),
        }
        asked |= {"dataset": dataset, "month": month}
        found = await self.parts.get("audit", "report", **asked)
        is_csv = kind == "csv"
        self.set_header("Content-Type", "text/csv; charset=utf-8" if is_csv else "application/pdf")
        name = re.sub(r"[^a-z0-9._-]", "_", f"access-{dataset}-{month}.{kind}")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(found["csv"] if is_csv else base64.b64decode(found["pdf"]))
