"""One request at the desk: who asks, when, in which transaction; and whom they may ask about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from nightingale_hub.errors import NotAllowed, NotFound
from nightingale_hub.services.billing.fields import parse_name
from nightingale_hub.services.billing.members import may_see
from nightingale_hub.terms import own_customer


@dataclass(frozen=True)
class Visit:
    """A person's request; *is_admin* says that the hub's admins ask."""

    conn: Connection
    actor: str
    is_admin: bool
    at_us: int
    issuer: str
    due_days: int

    def require_admin(self) -> None:
        """Raise `NotAllowed` for everyone but the hub's admins."""
        if not self.is_admin:
            raise NotAllowed("only an admin of the hub may ask this")

    def customer(self, body: Mapping[str, Any]) -> str:
        """Return the customer that is asked about: the one named, else the asker's own.

        Raises `NotFound` for another's: what one may not see does not exist.
        """
        customer_id = parse_name(body, "customer", own_customer(self.actor))
        self.require_sight(customer_id)
        return customer_id

    def require_sight(self, customer_id: str) -> None:
        """Raise `NotFound` unless the asker may see all of *customer_id*."""
        if not self.is_admin and not may_see(self.conn, customer_id, self.actor, self.at_us):
            raise NotFound(f"no customer {customer_id[:100]!r} is yours")
