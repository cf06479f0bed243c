"""Who pays for a launch, in which currency and by which plan: settled when it is asked for.

A hub user whom nobody else pays for is a private customer of their own, in dollars. Billing writes
what is read here; whoever shows a price reads it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from nightingale_hub.errors import NotFound
from nightingale_hub.money import divide
from nightingale_hub.offers import LOCAL, Offer, Size, list_prices, list_skus
from nightingale_hub.tables.customers import customer, customer_plan, payer, plan

USD = "USD"
STANDARD = "standard"  # in force since ever: the price shown, from ready to the accepted stop
PPM = 1_000_000


@dataclass(frozen=True)
class Plan:
    """One version of a plan."""

    name: str
    effective_us: int = 0
    basis: str = "ready"
    price: str = "shown"
    minimum_s: int = 0
    markup_ppm: int = 0
    free_micro_per_month: int = 0
    bills_storage: bool = False

    def mark_up(self, nano_per_hour: int) -> int:
        """Return the customer's rate for a list rate, half to even to the nano-unit."""
        return divide(nano_per_hour * (PPM + self.markup_ppm), PPM)


@dataclass(frozen=True)
class Customer:
    """Who pays."""

    id: str
    kind: str = "private"  # private | non_profit
    currency: str = USD


@dataclass(frozen=True)
class Terms:
    """Who pays for a launch, and by which version of which plan."""

    customer: Customer
    plan: Plan


def own_customer(owner: str) -> str:
    """Return the id of the customer that *owner* is where nobody else pays for them."""
    return f"user/{owner}"


def find_customer(conn: Connection, customer_id: str) -> Customer | None:
    """Return a customer that is written down, or None."""
    row = conn.execute(select(customer).where(customer.c.id == customer_id)).one_or_none()
    return None if row is None else Customer(row.id, row.kind, row.currency)


def resolve_payer(conn: Connection, owner: str, at_us: int) -> Customer:
    """Return who pays for what *owner* asks for at *at_us*."""
    customer_id = conn.execute(
        select(payer.c.customer)
        .where(payer.c.owner == owner, payer.c.from_us <= at_us)
        .order_by(payer.c.from_us.desc())
        .limit(1)
    ).scalar()
    customer_id = own_customer(owner) if customer_id is None else str(customer_id)
    return find_customer(conn, customer_id) or Customer(customer_id)


def resolve_terms(conn: Connection, owner: str, at_us: int) -> Terms:
    """Return who pays for what *owner* asks for at *at_us*, and by which plan.

    Raises `NotFound` for a plan that is not in force.
    """
    pays = resolve_payer(conn, owner, at_us)
    name = conn.execute(
        select(customer_plan.c.plan)
        .where(customer_plan.c.customer == pays.id, customer_plan.c.from_us <= at_us)
        .order_by(customer_plan.c.from_us.desc())
        .limit(1)
    ).scalar()
    return Terms(pays, get_plan(conn, STANDARD if name is None else str(name), at_us))


def get_plan(conn: Connection, name: str, at_us: int) -> Plan:
    """Return the version of *name* in force at *at_us*; raises `NotFound`."""
    row = conn.execute(
        select(plan)
        .where(plan.c.name == name, plan.c.effective_us <= at_us)
        .order_by(plan.c.effective_us.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no plan {name[:40]!r} is in force at that time")
    return Plan(**row._mapping)


@dataclass(frozen=True)
class Tariff:
    """What whoever pays for a hub user's next launch would pay, where: one price per SKU."""

    terms: Terms
    listed: dict[str, int]  # list price in the payer's currency, nano-units per hour

    @property
    def currency(self) -> str:
        """The payer's currency."""
        return self.terms.customer.currency

    def rate_sku(self, sku: str) -> int | None:
        """Return what an hour of *sku* costs the payer; None: it has no price in their currency."""
        nano = self.listed.get(sku)
        return None if nano is None else self.terms.plan.mark_up(nano)

    def rate(self, size: Size, cloud: str = LOCAL, instance_type: str = "") -> int | None:
        """Return what an hour of *size* costs the payer: its list prices' sum, marked up once."""
        listed = [self.listed.get(sku) for sku in list_skus(cloud, instance_type, size)]
        known = [nano for nano in listed if nano is not None]
        return self.terms.plan.mark_up(sum(known)) if len(known) == len(listed) else None


def find_tariff(conn: Connection, owner: str, cloud: str, region: str, at_us: int) -> Tariff:
    """Return what *owner*'s payer would pay at *at_us*; raises `NotFound` without a plan."""
    terms = resolve_terms(conn, owner, at_us)
    return Tariff(terms, list_prices(conn, cloud, region, terms.customer.currency, at_us))


def rate_offer(conn: Connection, row: Row[Any], offer: Offer) -> int:
    """Return what an hour of *offer* costs whoever pays for instance *row*, by its launch's terms.

    In dollars it is the offer's own price, else the book's as it was at the launch. Raises
    `NotFound` where it has no price in the payer's currency.
    """
    terms = resolve_terms(conn, row.owner, row.created_us)
    if terms.customer.currency == USD:
        return terms.plan.mark_up(offer.nano_usd_per_hour)
    tariff = find_tariff(conn, row.owner, row.cloud, row.region, row.created_us)
    nano = tariff.rate(offer.size, offer.cloud, offer.instance_type)
    if nano is None:
        raise NotFound(f"{offer.size} on {row.cloud} has no price in {tariff.currency}")
    return nano


def find_unpriced(conn: Connection, row: Row[Any], offer: Offer, at_us: int) -> str:
    """Return why whoever pays for instance *row* could not be charged for *offer*; empty: can be.

    By the price that was shown nothing else is looked up; by the book each part needs a price.
    """
    terms = resolve_terms(conn, row.owner, row.created_us)
    currency = terms.customer.currency
    if terms.plan.price == "shown" and currency == USD:
        return ""
    listed = list_prices(conn, offer.cloud, offer.region, currency, at_us)
    skus = list_skus(offer.cloud, offer.instance_type, offer.size)
    missing = [sku for sku in skus if sku not in listed]
    return f"{missing[0]} has no price in {currency} there" if missing else ""
