"""What billing answers the console: costs, statements, and whether the books balance."""

from sqlalchemy import Connection

from nightingale_hub.auth import ServiceHandler, parse_int
from nightingale_hub.clock import now_us
from nightingale_hub.services.billing.ledger import count_entries, fold_balances, list_unbalanced
from nightingale_hub.services.billing.left import find_left
from nightingale_hub.services.billing.statement import make_statement, parse_owner, summarize_cost


class BillingHandler(ServiceHandler):
    """A route that the console alone may ask."""

    async def prepare(self) -> None:
        """Let the console pass; raises `NotAllowed`."""
        await self.require_service("console")

    def owner(self) -> str:
        """Return whose money is asked about; raises `BadInput` when nobody is named."""
        return parse_owner(self.get_query_argument("owner", ""))


class CostHandler(BillingHandler):
    """The month's cost of one owner, to the second of asking."""

    async def get(self) -> None:
        """Reply posted and running amounts, per instance, and what is left to spend."""
        owner, asked_us = self.owner(), parse_int(self, "at_us", None)
        at_us, settings = now_us() if asked_us is None else asked_us, self.context.settings

        def read(conn: Connection) -> dict[str, object]:
            cost = summarize_cost(conn, owner, at_us)
            running = cost["running_micro"]
            left = find_left(conn, owner, settings.cloud, settings.region, running, at_us)
            return {**cost, "left": left}

        self.reply(await self.context.read(read))


class StatementHandler(BillingHandler):
    """The statement of one owner for one month."""

    async def get(self) -> None:
        """Reply the lines and their total; raises `BadInput` for what is no month."""
        owner, month = self.owner(), self.get_query_argument("month", "")
        self.reply(
            await self.context.read(lambda conn: make_statement(conn, owner, month, now_us()))
        )


class LedgerHandler(BillingHandler):
    """Whether the books balance."""

    async def get(self) -> None:
        """Reply how many entries there are, their sum, each balance, what does not balance."""

        def read(conn: Connection) -> dict[str, object]:
            accounts = fold_balances(conn)
            return {
                "entries": count_entries(conn),
                "sum_micro": sum(accounts.values()),
                "accounts": accounts,
                "unbalanced": list_unbalanced(conn),
            }

        self.reply(await self.context.read(read))
