"""Lives of instances as readable text: what happened, and the statement worked out by hand.

The text is told to the real record, meter and billing. Times are of one day unless a line has a
date of its own.
"""

import re
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from nightingale_hub.clock import month_bounds_us, to_datetime
from nightingale_hub.money import format_usd
from nightingale_hub.services.billing.burning import burn_grants
from nightingale_hub.services.billing.grants import NewGrant, give
from nightingale_hub.services.billing.ledger import fold_balances
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.services.billing.posting import (
    list_long,
    list_uncredited,
    list_unrated,
    post_credit,
    post_segments,
)
from nightingale_hub.services.billing.prices import parse_rate
from nightingale_hub.services.billing.statement import make_statement
from nightingale_hub.services.metering.rules import Beat, prove
from nightingale_hub.services.metering.segments import store
from nightingale_hub.tables.billing import price
from nightingale_hub.tables.customers import customer, customer_plan
from nightingale_hub.tables.supervision import shape
from nightingale_hub.terms import Plan
from nightingale_hub.usage import begin_holding, end_holding, note_fault, note_stop
from tests.record import add_instance, change
from tests.usage import parse_time

FOLDER = Path(__file__).with_name("lives")
STAMPS = {"allocated": "allocated_us", "ready": "ready_us", "gone": "gone_us"}


class Told:
    """What a text tells, written down as the parts would write it."""

    def __init__(self, conn, text):
        self.conn, self.day = conn, ""
        self.key, self.rate, self.boot = "", 0, "boot-1"
        self.proofs: dict[str, dict[str, Any]] = {}
        self.keys: list[str] = []
        told, _, self.expected = text.partition("\nstatement ")
        for line in told.splitlines():
            if line.startswith("  "):
                words = line.split()
                getattr(self, f"tell_{words[0]}")(*words[1:])

    def at(self, *words):
        """The time in *words*: of the day, or with a date."""
        text = " ".join(words)
        return parse_time(text if " " in text else f"{self.day} {text}")

    def tell_day(self, day):
        self.day = day

    def tell_customer(self, kind, **plan):
        values = {"id": "user/alice", "name": "alice", "kind": kind, "currency": "USD"}
        self.conn.execute(insert(customer).values(values | {"created_us": 0}))

    def tell_plan(self, *terms):
        fields: dict[str, Any] = dict(each.split("=") for each in terms)
        for name in fields:
            if name in ("minimum_s", "markup_ppm", "free_micro_per_month"):
                fields[name] = int(fields[name])
            elif name == "bills_storage":
                fields[name] = fields[name] == "yes"
        plan = Plan("agreed", **fields)
        publish_plan(self.conn, plan, 0)
        values = {"customer": "user/alice", "from_us": 0, "plan": "agreed"}
        self.conn.execute(insert(customer_plan).values(values))

    def tell_price(self, sku, rate, *when):
        at_us = self.at(*when) if when else 0
        self.conn.execute(
            insert(price).values(
                cloud="local", region="here", sku=sku, nano_per_hour=parse_rate(rate),
                effective_us=at_us, published_us=at_us, source="test",
            )
        )  # fmt: skip

    def tell_grant(self, amount, start, end):
        give(
            self.conn,
            NewGrant(
                "user/alice", "test", {}, "USD", int(amount) * 1_000_000, self.at(start),
                self.at(end), 100,
            ),
            "ops",
            self.at(start),
        )  # fmt: skip

    def tell_instance(self, cloud, rate):
        self.rate, self.boot = parse_rate(rate), "boot-1"
        self.key = add_instance(
            self.conn, cloud=cloud, nano_usd_per_hour=self.rate, boot_id=self.boot, cpu="M",
            gpu="none", disk="S", allocated_us=None, ready_us=None, created_us=1,
        )  # fmt: skip
        self.keys.append(self.key)
        self._shape(1, "launch")

    def tell_is(self, what, *when):
        column = STAMPS.get(what)
        if column is not None:
            change(self.conn, self.key, **{column: self.at(*when)})
        else:
            cause = "asked" if what == "stopped" else what
            change(self.conn, self.key, stop_accepted_us=self.at(*when), cause=cause)
        if what == "gone":
            change(self.conn, self.key, actual="gone", wanted="gone")

    def tell_beats(self, uptime_s, *when):
        beat = Beat(self.boot, int(uptime_s) * 1_000_000, self.at(*when))
        known = self.proofs.setdefault(self.key, {})
        known[self.boot] = known[self.boot].join(beat) if self.boot in known else prove(beat)

    def tell_meter(self, _looks):
        store(self.conn, self.keys, self.proofs)

    def tell_boots(self, boot):
        self.boot = boot

    def tell_cloud(self, _ended, _boot, _at, *when):
        note_stop(self.conn, self.key, self.boot, self.at(*when))

    def tell_resized(self, rate, *when):
        self.rate = parse_rate(rate)
        self._shape(self.at(*when), "resize")

    def tell_fault(self, cause, start, end):
        note_fault(self.conn, self.key, cause, "provider", self.at(start), self.at(end))

    def tell_disk(self, name, *when):
        begin_holding(self.conn, self.key, "disk", name, "disk.S", self.at(*when))

    def tell_grown(self, name, sku, *when):
        begin_holding(self.conn, self.key, "disk", name, sku, self.at(*when))

    def tell_biller(self, _looks, *when):
        at_us = self.at(*when)
        store(self.conn, self.keys, self.proofs)
        post_segments(self.conn, list_unrated(self.conn), at_us)
        month_us, _ = month_bounds_us(to_datetime(at_us).strftime("%Y-%m"))
        post_segments(self.conn, list_long(self.conn, month_us), at_us)

    def tell_removed(self, name, *when):
        end_holding(self.conn, "disk", name, self.at(*when))

    def _shape(self, at_us, cause):
        self.conn.execute(
            insert(shape).values(
                instance_id=self.key, effective_us=at_us, instance_type="t", cpu="M", gpu="none",
                disk="S", nano_usd_per_hour=self.rate, cause=cause,
            )
        )  # fmt: skip

    def settle(self):
        """Have it metered and billed."""
        store(self.conn, self.keys, self.proofs)
        post_segments(self.conn, list_unrated(self.conn), 10**18)
        for row in list_uncredited(self.conn):
            post_credit(self.conn, row.id, row.fault_id, 10**18)
        burn_grants(self.conn, "user/alice", 10**18)

    def statements(self):
        """Each month's statement that the text has, as (text, what it is)."""
        for each in self.expected.split("\nstatement "):
            head, *lines = each.strip().splitlines()
            made = make_statement(self.conn, "alice", head.strip(), 10**15)
            found = [
                f"{line['kind']} {line['seconds']} s {format_usd(line['amount_micro'])}"
                for line in made["lines"]
            ]
            found.append(f"total {format_usd(made['total_micro'])}")
            accounts = fold_balances(self.conn)
            asked = [" ".join(line.split()) for line in lines if line.strip()]
            for line in asked[len(found) :]:
                name = re.split(r" ", line)[0]
                total = sum(v for k, v in accounts.items() if k.partition(":")[0] == name)
                found.append(f"{name} {format_usd(total)}")
            yield asked, found
