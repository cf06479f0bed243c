"""A month's statement, as billing has it: a page and a CSV."""

import csv
import io
from typing import Any

from nightingale_hub.clock import format_time, now_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.money import format_money, format_rate
from nightingale_hub.services.console.charges import month_of, neighbours, parse_month
from nightingale_hub.services.console.page import Page
from nightingale_hub.text import csv_cell

HEADER = "instance server size start end seconds rate amount amount_micro currency".split()


class Statement(Page):
    """The page."""

    async def get(self) -> None:
        """Show `?month=YYYY-MM` (default: this month); raises `BadInput` for no month."""
        at_us = now_us()
        this_month = month_of(at_us)
        month = parse_month(self.get_query_argument("month", "") or this_month)
        before, after = neighbours(month)
        try:
            statement, why = await self.fetch(month), ""
        except Unavailable as error:
            statement, why = None, str(error)
        self.show(
            "statement.html",
            month=month,
            before=before,
            after=after if after <= this_month else None,
            statement=statement,
            why=why,
            at_us=at_us,
        )

    async def fetch(self, month: str) -> dict[str, Any]:
        """Return billing's statement of *month*; raises `Unavailable` without billing."""
        return await self.parts.get("billing", "statement", owner=self.person.name, month=month)


class StatementCsv(Statement):
    """The same lines for a spreadsheet."""

    async def get(self) -> None:
        """Reply the posted lines of `?month=`; raises `Unavailable` rather than a part of them."""
        month = parse_month(self.get_query_argument("month", "") or month_of(now_us()))
        statement = await self.fetch(month)
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="statement-{month}.csv"')
        self.finish(_format_csv(statement))


def _format_csv(statement: dict[str, Any]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(HEADER)
    currency = statement["currency"]
    for line in statement["lines"]:
        writer.writerow(
            [
                csv_cell(line["instance_id"]),
                csv_cell(line["server_name"]),
                csv_cell(line["size"]),
                format_time(line["start_us"]),
                format_time(line["end_us"]),
                line["seconds"],
                format_rate(line["nano_per_hour"], currency),
                format_money(line["amount_micro"], currency),
                line["amount_micro"],
                currency,
            ]
        )
    return file.getvalue()
