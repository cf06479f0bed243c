"""A customer's money as pages: the month with its chart, grants, budgets, invoices, prices.

Billing decides whose they are: what the reader may not see does not exist.
"""

import base64
import csv
import io
from typing import Any

from nightingale_hub.clock import format_time, month_bounds_us, now_us, to_datetime
from nightingale_hub.errors import Unavailable
from nightingale_hub.money import format_money
from nightingale_hub.services.console.charges import month_of, neighbours, parse_month
from nightingale_hub.services.console.money import ask_desk
from nightingale_hub.services.console.page import Page
from nightingale_hub.text import csv_cell

CHART_HEIGHT = 120
BAR, GAP = 16, 4
HEADER = ("start end instance user kind seconds amount free granted owed invoice currency").split()


class Account(Page):
    """A page about one customer: `?customer=`, by default the reader's own."""

    template = ""
    verb = ""

    async def get(self) -> None:
        """Show what billing's desk answers; raises `NotFound` for another's customer."""
        try:
            shown, why = await self.fetch(self.verb), ""
        except Unavailable as error:
            shown, why = None, str(error)
        self.show(self.template, shown=shown, why=why, **await self.find_choices())

    async def fetch(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Return the desk's answer about the chosen customer; raises as it does."""
        customer = self.get_query_argument("customer", "")
        if customer:
            fields["customer"] = customer
        return await ask_desk(self.parts, self.person, verb, fields, self.person.is_admin)

    async def find_choices(self) -> dict[str, Any]:
        """Return the customers that the reader may choose from, and the one that is chosen."""
        try:
            answer = await ask_desk(
                self.parts, self.person, "customer.list", {}, self.person.is_admin
            )
        except Unavailable:
            answer = {"customers": []}
        chosen = self.get_query_argument("customer", "")
        return {"customers": answer["customers"], "chosen": chosen, "at_us": now_us()}

    def send(self, name: str, kind: str, data: str | bytes) -> None:
        """End the request with a file to keep."""
        self.set_header("Content-Type", kind)
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.finish(data)

    async def send_pdf(self, verb: str, **fields: Any) -> None:
        """End the request with the PDF that a verb answers with."""
        answer = await ask_desk(self.parts, self.person, verb, fields, self.person.is_admin)
        data = base64.b64decode(answer["base64"])
        self.set_header("X-Content-SHA256", answer["sha256"])
        self.send(str(answer["name"]).replace('"', ""), "application/pdf", data)


class Month(Account):
    """What was used, day by day, and what of it is free, granted and owed."""

    verb = "month.show"

    async def get(self) -> None:
        """Show `?month=` (default: this month); raises `BadInput` for no month."""
        this_month = month_of(now_us())
        month = parse_month(self.get_query_argument("month", "") or this_month)
        before, after = neighbours(month)
        try:
            shown, why = await self.fetch(self.verb, month=month), ""
        except Unavailable as error:
            shown, why = None, str(error)
        self.show(
            "month.html",
            shown=shown,
            why=why,
            month=month,
            before=before,
            after=after if after <= this_month else None,
            chart=None if shown is None else draw_days(month, shown["days"]),
            **await self.find_choices(),
        )


class MonthPdf(Account):
    """The month's statement as PDF."""

    async def get(self) -> None:
        """Reply it; raises `NotFound`, and `Unavailable` without billing."""
        fields = {"month": parse_month(self.get_query_argument("month", "") or month_of(now_us()))}
        customer = self.get_query_argument("customer", "")
        await self.send_pdf("month.pdf", **fields, **({"customer": customer} if customer else {}))


class MonthCsv(Account):
    """The month's lines for a spreadsheet."""

    async def get(self) -> None:
        """Reply every line; raises `Unavailable` rather than a part of them."""
        month = parse_month(self.get_query_argument("month", "") or month_of(now_us()))
        shown = await self.fetch("month.show", month=month)
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for line in shown["lines"]:
            writer.writerow(_format_line(line, shown["currency"]))
        self.send(f"month-{month}.csv", "text/csv; charset=utf-8", file.getvalue())


class Grants(Account):
    """Credit: given, spent, left, in burn order."""

    template, verb = "grants.html", "grant.list"


class Budgets(Account):
    """Limits: spent, held, left, and who was warned."""

    template, verb = "budgets.html", "budget.list"


class Invoices(Account):
    """Invoices and credit notes, and where they stand."""

    template, verb = "invoices.html", "invoice.list"


class InvoicePdf(Account):
    """A document's PDF as it was frozen."""

    async def get(self) -> None:
        """Reply that of `?number=`; raises `NotFound` for another's."""
        await self.send_pdf("invoice.pdf", number=self.get_query_argument("number", ""))


class Reconciliation(Account):
    """The clouds' bills, day by day, held against the meter; for the hub's admins."""

    template, verb = "reconciliation.html", "reconcile.list"


class Prices(Account):
    """The price book, and the plans."""

    async def get(self) -> None:
        """Show every price that is, was, or is to be in force."""
        plans: dict[str, Any] | None = None
        try:
            person, is_admin = self.person, self.person.is_admin
            shown: dict[str, Any] | None = await ask_desk(
                self.parts, person, "price.list", {}, is_admin
            )
            plans = await ask_desk(self.parts, person, "plan.list", {}, is_admin)
            why = ""
        except Unavailable as error:
            shown, why = None, str(error)
        self.show("prices.html", shown=shown, plans=plans, why=why, at_us=now_us())


def draw_days(month: str, days: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the bars of a month's days, as lengths in an SVG; the largest fills its height."""
    start_us, end_us = month_bounds_us(month)
    count = to_datetime(end_us - 1).day
    amounts = {each["day"]: max(0, each["amount_micro"]) for each in days}
    most = max(amounts.values(), default=0)
    bars = []
    for number in range(1, count + 1):
        day = f"{to_datetime(start_us).strftime('%Y-%m')}-{number:02d}"
        amount = amounts.get(day, 0)
        height = 0 if most == 0 else amount * CHART_HEIGHT // most
        height = max(height, 1) if amount else 0
        x = (number - 1) * (BAR + GAP)
        bar = {"day": day, "number": number, "amount_micro": amount, "height": height}
        bars.append({**bar, "x": x, "y": CHART_HEIGHT - height})
    return {"bars": bars, "width": count * (BAR + GAP), "height": CHART_HEIGHT, "most_micro": most}


def _format_line(line: dict[str, Any], currency: str) -> list[str | int]:
    return [
        format_time(line["start_us"]),
        format_time(line["end_us"]),
        csv_cell(line["instance_id"]),
        csv_cell(line["owner"]),
        csv_cell(line["kind"]),
        line["seconds"],
        *(
            csv_cell(format_money(line[f"{name}_micro"], currency))
            for name in ("amount", "free", "granted", "owed")
        ),
        csv_cell(line["invoice"] or ""),
        currency,
    ]
