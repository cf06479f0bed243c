"""A world on one virtual clock: the real meter and the real billing, and the truth beside them.

Instances live, reboot, are resized, crash and are stopped; beats are late, lost and doubled; the
machine's clock is set; meter and billing are killed around any commit. The truth is kept in true
time, and worked out by code that shares nothing with the product but the rules in its papers.
"""

import asyncio
import heapq
import itertools
import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil
from typing import Any

from sqlalchemy import func, insert, select, update

from nightingale_hub.errors import Conflict
from nightingale_hub.instances import Cause, want_stopped
from nightingale_hub.launch import Launch, create
from nightingale_hub.lease import take_lease
from nightingale_hub.offers import Offer, Size
from nightingale_hub.service import Context
from nightingale_hub.services.billing.biller import Biller
from nightingale_hub.services.billing.explain import list_changed
from nightingale_hub.services.billing.ledger import (
    Accounts,
    find_balance,
    list_unbalanced,
    list_wrong_balances,
)
from nightingale_hub.services.billing.plans import publish_plan
from nightingale_hub.services.billing.prices import COLUMNS
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.rules import Beat
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.shapes import change_shape
from nightingale_hub.tables.billing import entry, line_item, price
from nightingale_hub.tables.customers import customer, customer_plan, payer
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.metering import segment
from nightingale_hub.terms import Plan
from nightingale_hub.usage import note_fault, note_stop
from tests.record import S

HOUR, DAY = 3600 * S, 86_400 * S
BEGIN = 1_767_225_600 * S  # 2026-01-01
SIZES = ["S", "M", "L", "XL"]
PLANS = [
    Plan("standard"),
    Plan("least", minimum_s=3_000, markup_ppm=333_333),
    Plan("book", price="book"),
    Plan("allocation", basis="allocated", markup_ppm=-100_000),
    Plan("free", free_micro_per_month=1_000_000),
    Plan("euro", price="book", markup_ppm=50_000),
]


class Killed(Exception):
    """A process was killed."""


class ContextThatDies(Context):
    """Its process is killed around a commit, before it or right after, now and then."""

    def arm(self, rng, chance):
        self.rng, self.chance = rng, chance

    async def read(self, work):
        # In this thread: there is no other work that could go on meanwhile.
        with self.db.read() as conn:
            return work(conn)

    async def write(self, work):
        dies = self.rng.random() < self.chance
        if dies and self.rng.random() < 0.5:
            raise Killed
        result = self.db.transact(work)
        if dies:
            raise Killed
        return result


@dataclass
class Life:
    """What truly happened to one instance, in true µs; `at` is the wall's offset when it began."""

    key: str
    owner: str
    plan: Plan
    at: int
    boots: list[Any] = field(default_factory=list)  # [id, start, end, is ready]
    shapes: list[Any] = field(default_factory=list)  # (from, nano)
    faults: list[Any] = field(default_factory=list)  # (start, end)
    allocated: int = 0
    ready: int | None = None
    stop: int | None = None
    gone: int | None = None
    is_ended: bool = False  # nothing of it is ready any more
    uncounted: int = 0


class World:
    """*servers* instances at a time until *days* are over; *pace* times slower than at 1."""

    def __init__(self, database, seed, runner, servers, days, prices, pace=1, kills=0.02):
        self.prices_file = prices  # without a price: the world publishes its own
        self.db, self.rng, self.runner = database, random.Random(seed), runner
        self.now, self.offset, self.end = BEGIN, 0, BEGIN + round(days * DAY)
        self.queue, self.order = [], itertools.count()
        self.lives, self.counts = [], defaultdict(int)
        self.prices = {}
        self.kills, self.pace = kills, pace
        self.servers = servers
        self.meter: Any = None
        self.biller: Any = None
        self.every_us = None  # between the beats of an instance; None: seldom, at random
        self._set_up()

    # What the world is made of.

    def wall(self):
        return self.now + self.offset

    def later(self, after_us, what, *args):
        heapq.heappush(self.queue, (self.now + max(1, after_us), next(self.order), what, args))

    def pick(self, low, high):
        """A span of time, to the µs, short ones as likely as long ones."""
        return round(low * (high / low) ** self.rng.random()) + self.rng.randrange(S)

    def again(self, low, high):
        """Such a span until the same happens again: longer where the world is slow."""
        return round(self.pick(low, high) * self.pace)

    def _set_up(self):
        with self.db.write() as conn:
            for each in PLANS[1:]:
                publish_plan(conn, each, 0)
            for number, each in enumerate(PLANS):
                owner = f"owner{number}"
                currency = "EUR" if each.name == "euro" else "USD"
                conn.execute(
                    insert(customer).values(
                        id=f"org/{owner}", name=owner, kind="private", currency=currency,
                        created_us=0,
                    )
                )  # fmt: skip
                conn.execute(
                    insert(customer_plan).values(customer=f"org/{owner}", from_us=0, plan=each.name)
                )
                conn.execute(insert(payer).values(owner=owner, from_us=0, customer=f"org/{owner}"))
            for currency in ("USD", "EUR"):
                for sku in ("gpu.none", "disk.S"):
                    self._publish(conn, sku, currency, 0, 1_000_003)
                for number, letter in enumerate(SIZES):
                    self._publish(conn, f"cpu.{letter}", currency, 0, 40_000_007 * 2**number)

    def _publish(self, conn, sku, currency, effective, nano):
        conn.execute(
            insert(price).values(
                cloud="local", region="here", sku=sku, currency=currency, nano_per_hour=nano,
                effective_us=effective, published_us=effective, source="test",
            )
        )  # fmt: skip
        self.prices.setdefault((sku, currency), []).append((effective, nano))

    def start_processes(self, context):
        self.context = context
        self.meter = Meter(context, self.wall, lambda: self.now)
        self.biller = Biller(context, price_list=self.prices_file, clock=self.wall)

    # What happens.

    def run(self):
        """Live until the end, then stop everything and settle it."""
        for number in range(self.servers):
            self.later(self.pick(S, HOUR), self.launch, number % len(PLANS))
        self.later(self.pick(DAY, 9 * DAY), self.price_changes)
        self.later(self.pick(DAY, 30 * DAY), self.clock_is_set)
        self.later(self.pick(HOUR, 3 * DAY), self.meter_goes_down)
        self.later(DAY, self.bills)
        while self.queue and self.queue[0][0] < self.end:
            at, _, what, args = heapq.heappop(self.queue)
            # Of the polls of a time in which nothing happens only some are made.
            if self.rng.random() < 0.1:
                self.now = max(self.now, at - self.rng.randrange(1, S // 2))
                self.poll()
            self.happens(at, what, args)
            self.now += self.rng.randrange(1, S // 2)
            self.poll()
        self.settle()

    def run_every_second(self):
        """Live until the end with every single poll, one a second, and a beat every ten."""
        self.every_us = 10 * S
        for number in range(self.servers):
            self.later(self.rng.randrange(1, 600 * S), self.launch, number % len(PLANS))
        for what in (self.price_changes, self.clock_is_set, self.meter_goes_down, self.bills):
            self.later(self.rng.randrange(60 * S, self.end - BEGIN), what)
        for second in range(BEGIN, self.end, S):
            while self.queue and self.queue[0][0] <= second:
                at, _, what, args = heapq.heappop(self.queue)
                self.happens(at, what, args)
            self.now = max(self.now, second)
            self.poll()
            self.counts["polls"] += 1
        self.settle()

    def happens(self, at, what, args):
        self.now = max(self.now, at)
        what(*args)
        self.counts[what.__name__] += 1

    def poll(self):
        while self.meter is not None and not self.runs(self.meter.step()):
            pass

    def runs(self, work):
        """Run the process's work; one that is killed starts anew and remembers nothing."""
        try:
            self.runner.run(work)
            return True
        except Killed:
            self.counts["killed"] += 1
            is_up = self.meter is not None
            self.start_processes(self.context)
            if not is_up:
                self.meter = None
            return False

    def until_done(self, work):
        while not self.runs(work()):
            pass

    def write(self, work):
        with self.db.write() as conn:
            return work(conn)

    def offer(self, other_than=None):
        letter = self.rng.choice([each for each in SIZES if each != other_than])
        nano = 40_000_007 * 2 ** SIZES.index(letter) + 2_000_006
        size = Size(letter, "none", "S")
        return Offer("local", "here", f"local-{letter}", size, 1, 10, nano)

    def launch(self, number):
        plan, owner = PLANS[number], f"owner{number}"
        offer = self.offer()
        wish = Launch(owner, f"s{next(self.order)}", offer, b"")
        key = self.write(lambda conn: create(conn, wish, self.wall()))
        life = Life(key, owner, plan, 0)
        life.shapes.append((self.now, offer.size.cpu, offer.nano_usd_per_hour))
        self.lives.append(life)
        self.later(self.pick(S, 60 * S), self.is_allocated, life, number)

    def is_allocated(self, life, number):
        life.at, life.allocated = self.offset, self.now
        life.boots.append([f"{next(self.order):032x}", self.now, None])
        self.stamp(life, allocated_us=self.wall(), actual="booting", boot_id=life.boots[0][0])
        if self.rng.random() < 0.05:
            self.later(self.pick(S, 60 * S), self.is_stopped, life, number)  # never ready
        else:
            self.later(self.pick(S, 300 * S), self.is_ready, life, number)

    def is_ready(self, life, number):
        life.ready = self.now
        self.stamp(life, ready_us=self.wall(), actual="running")
        self.later(self.pick(S, HOUR), self.beats, life)
        self.later(self.again(10 * S, 90 * DAY), self.ends, life, number)
        self.later(self.again(HOUR, 20 * DAY), self.resizes, life)
        self.later(self.again(HOUR, 20 * DAY), self.boots_anew, life)
        self.later(self.again(HOUR, 20 * DAY), self.fails, life)

    def stamp(self, life, **columns):
        self.write(
            lambda conn: conn.execute(
                update(instance).where(instance.c.id == life.key).values(columns)
            )
        )

    def beats(self, life):
        """A beat arrives, or is lost, or comes twice; an older one may follow it."""
        if life.is_ended:
            return
        if self.rng.random() < 0.7:
            beat = self.tell(life)
            if beat is not None and self.rng.random() < 0.5:
                late = self.rng.randrange(5 * S)
                self.later(late, self.tells_late, life, beat, self.now)
        self.later(self.every_us or self.again(S, 3 * DAY), self.beats, life)

    def tell(self, life):
        boot, start, _ = life.boots[-1]
        beat = Beat(boot, self.now - start, self.wall())
        return beat if self.deliver(life, beat) else None

    def tells_late(self, life, beat, sent):
        if self.now - sent < 5 * S:  # an agent gives up then
            self.deliver(life, Beat(beat.boot_id, beat.uptime_us, self.wall()))

    def deliver(self, life, beat):
        if self.meter is None:
            return False
        for _ in range(self.rng.choice([1, 1, 2])):
            try:
                if not self.runs(self.meter.take(life.key, beat)):
                    return False
            except Conflict:
                # A boot that ended, or an instance that did.
                assert life.is_ended or beat.boot_id != life.boots[-1][0], life
                return False
        return True

    def resizes(self, life):
        if life.is_ended:
            return
        if self.now - life.shapes[-1][0] > HOUR:
            offer = self.offer(life.shapes[-1][1])
            self.write(lambda conn: change_shape(conn, life.key, offer, self.wall(), "resize"))
            life.shapes.append((self.now, offer.size.cpu, offer.nano_usd_per_hour))
        self.later(self.again(HOUR, 40 * DAY), self.resizes, life)

    def boots_anew(self, life):
        """It boots anew: the cloud says when the old boot ended, or its last beat does."""
        if life.is_ended:
            return
        old = life.boots[-1]
        self.context.chance = 0  # or what only its last beat proves is lost
        try:
            self.boots(life, old)
        finally:
            self.context.chance = self.kills
        self.later(self.again(HOUR, 60 * DAY), self.boots_anew, life)

    def boots(self, life, old):
        is_told = self.meter is not None and self.tell(life) is not None
        is_known = self.offset == life.at and self.rng.random() < 0.5
        if is_known:
            self.write(lambda conn: note_stop(conn, life.key, old[0], self.wall()))
        elif not is_told:
            return
        old[2] = self.now
        self.now += self.pick(S, 60 * S)
        life.boots.append([f"{next(self.order):032x}", self.now, None])
        self.now += self.pick(S, 30 * S)
        if self.meter is None:
            self.start_processes(self.context)
        while self.tell(life) is None:  # its agent beats until one has arrived
            self.now += self.rng.randrange(1, 5 * S)

    def fails(self, life):
        """The platform fails it for a while, and the cloud proves that; told then or later."""
        if life.is_ended:
            return
        start = self.now - self.rng.randrange(1, HOUR)
        start = max(start, life.boots[-1][1], life.faults[-1][1] if life.faults else 0)
        if start < self.now:
            life.faults.append((start, self.now))
            self.later(self.pick(S, 3 * DAY), self.proves, life, start, self.now)
        self.later(self.again(DAY, 60 * DAY), self.fails, life)

    def proves(self, life, start, end):
        def note(conn):
            note_fault(conn, life.key, "host", "provider", start + life.at, end + life.at)

        self.write(note)
        self.write(note)

    def ends(self, life, number):
        """It crashes and the cloud says when, or it is stopped."""
        if self.offset == life.at and self.rng.random() < 0.2:
            crashed = self.now
            boot = life.boots[-1][0]
            self.now += self.pick(S, 60 * S)
            self.write(lambda conn: note_stop(conn, life.key, boot, crashed + self.offset))
            self.close(life, crashed)
            self.accept_stop(life, Cause.CRASHED)
        else:
            self.close(life, self.now)
            self.accept_stop(life, Cause.ASKED)
        self.later(self.pick(S, 600 * S), self.is_gone, life, number)

    def is_stopped(self, life, number):
        life.is_ended = True
        self.accept_stop(life, Cause.ASKED)
        self.later(self.pick(S, 600 * S), self.is_gone, life, number)

    def close(self, life, at):
        life.is_ended, life.stop = True, at
        life.boots[-1][2] = at

    def accept_stop(self, life, cause):
        self.write(lambda conn: want_stopped(conn, life.key, self.wall(), "test", cause))

    def is_gone(self, life, number):
        life.gone = self.now
        self.stamp(life, gone_us=self.wall(), actual="gone")
        if number is not None:
            longest = HOUR if self.every_us else 5 * DAY
            self.later(self.pick(S, longest), self.launch, number)

    def price_changes(self):
        def publish(conn):
            for currency in ("USD", "EUR"):
                sku = f"cpu.{self.rng.choice(SIZES)}"
                self._publish(conn, sku, currency, self.wall(), self.rng.randrange(10**7, 10**9))

        self.write(publish)
        self.later(self.again(DAY, 60 * DAY), self.price_changes)

    def clock_is_set(self):
        if self.meter is None:
            self.start_processes(self.context)
        self.poll()
        step = self.rng.choice([-1, 1]) * self.pick(2 * S, 600 * S)
        self.offset += step
        self.later(self.again(10 * DAY, 90 * DAY), self.clock_is_set)

    def meter_goes_down(self):
        self.meter = None
        longest = HOUR if self.every_us else 2 * DAY
        self.later(self.pick(S, longest), self.meter_comes_back)

    def meter_comes_back(self):
        if self.meter is None:
            self.start_processes(self.context)
        self.later(self.again(HOUR, 9 * DAY), self.meter_goes_down)

    def bills(self):
        self.runs(self.biller.step())
        self.later(self.again(HOUR, 3 * DAY), self.bills)

    def settle(self):
        """Stop what runs, let everything that was killed start again, and bill it all."""
        if self.meter is None:
            self.start_processes(self.context)
        self.now += 10 * S
        self.poll()
        for life in self.lives:
            if life.gone is None:
                if not life.is_ended:
                    self.now += self.rng.randrange(1, S)
                    if life.ready is not None:
                        self.close(life, self.now)
                    life.is_ended = True
                    self.accept_stop(life, Cause.ASKED)
                self.now += self.rng.randrange(1, S)
                self.is_gone(life, None)
        for at, _, what, args in sorted(self.queue):
            if what.__name__ == "proves":
                self.now = max(self.now, at)
                self.proves(*args)
        self.queue = []
        self.context.chance = 0
        self.start_processes(self.context)
        self.poll()
        for _ in range(3):
            self.until_done(lambda: self.biller.step())
            self.now += 601 * S

    # What is true.

    def differences(self):
        """Return what differs from the truth: text, and how much; empty when nothing does."""
        found = []
        with self.db.read() as conn:
            measured = self._measured(conn)
            for life in self.lives:
                for meter, spans in (("ready", self.ready(life)), ("allocated", self.held(life))):
                    true = sum(end - start for start, end in spans)
                    got = measured.get((life.key, meter), 0)
                    if got != true:
                        found.append(f"{life.key} {meter}: {got - true:+d} µs")
            owed = self.owed()
            for number, plan in enumerate(PLANS):
                pays = f"org/owner{number}"
                currency = "EUR" if plan.name == "euro" else "USD"
                got = find_balance(conn, Accounts(pays).accrued, currency)
                if got != owed.get(number, 0):
                    found.append(f"{plan.name}: {got - owed.get(number, 0):+d} micro-{currency}")
            found += [f"unbalanced {key}" for key in list_unbalanced(conn)]
            found += [f"wrong balance {key}" for key in list_wrong_balances(conn)]
            found += [f"line {each} is not the same again" for each in list_changed(conn)]
            if conn.execute(select(func.sum(entry.c.amount_micro))).scalar() not in (0, None):
                found.append("the ledger does not sum to zero")
            self.counts["lines"] = conn.execute(
                select(func.count()).select_from(line_item)
            ).scalar_one()
        return found

    def _measured(self, conn):
        rows = conn.execute(
            select(
                segment.c.instance_id,
                segment.c.meter,
                func.sum(segment.c.end_us - segment.c.start_us),
            ).group_by(segment.c.instance_id, segment.c.meter)
        )
        return {(key, meter): int(total) for key, meter, total in rows if total is not None}

    def ready(self, life):
        """The true spans of ready time."""
        if life.ready is None or life.stop is None:
            return []
        starts = [life.ready, *(start for _, start, _ in life.boots[1:])]
        return [(start, boot[2]) for start, boot in zip(starts, life.boots, strict=True)]

    def held(self, life):
        return [(life.allocated, life.gone)] if life.allocated else []

    def years(self):
        """How many instance-years were lived."""
        total = sum(life.gone - life.allocated for life in self.lives if life.allocated)
        return total / (365 * DAY)

    def owed(self):
        """What each owner owes by the papers, in micro-units."""
        owed: Any = defaultdict(int)
        months: Any = defaultdict(int)
        for life in self.lives:
            number = PLANS.index(life.plan)
            for month, amount in self.lines(life):
                owed[number] += amount
                months[number, month] += amount
        for (number, _), amount in months.items():
            owed[number] -= min(PLANS[number].free_micro_per_month, max(0, amount))
        return owed

    def lines(self, life):
        """Each line of a life: its month and its amount."""
        plan = life.plan
        spans = self.ready(life) if plan.basis == "ready" else self.held(life)
        spans = [(start + life.at, end + life.at) for start, end in spans]
        cuts = [at + life.at for at, cpu, _ in life.shapes[1:]]
        total = sum(ceil(Fraction(end - start, S)) for start, end in spans)
        for index, (start, end) in enumerate(spans):
            seconds = ceil(Fraction(end - start, S))
            if index == len(spans) - 1:
                seconds += max(0, plan.minimum_s - total)
            inside = sorted({start, *(at for at in cuts if start < at < end)})
            for low_us, high_us in itertools.pairwise([*inside, None]):
                low = ceil(Fraction(low_us - start, S))
                high = seconds if high_us is None else ceil(Fraction(high_us - start, S))
                yield from self.part(life, start, low, high, low_us)

    def part(self, life, start, low, high, from_us):
        """The lines of the seconds [low, high) of a boot from *start*, of one shape."""
        shape = [
            each for each in life.shapes if each[0] + life.at <= from_us or each is life.shapes[0]
        ][-1]
        bounds = {low, high}
        prices = self.book(life, shape)
        for at in (
            *(at for at, _ in prices),
            *MONTHS,
            *(t + life.at for f in life.faults for t in f),
        ):
            bounds.add(min(high, max(low, ceil(Fraction(at - start, S)))))
        by_month: Any = defaultdict(Fraction)
        by_fault: Any = defaultdict(Fraction)
        for first, last in itertools.pairwise(sorted(bounds)):
            at = start + first * S
            nano = [nano for since, nano in prices if since <= at][-1]
            by_month[month_of(at)] += Fraction((last - first) * nano, 3_600_000)
            for fault in life.faults:
                if fault[0] + life.at <= at < fault[1] + life.at and at < self.last(life, start):
                    by_fault[fault] += Fraction((last - first) * nano, 3_600_000)
        for month, amount in by_month.items():
            yield month, round(amount)
        for fault, amount in by_fault.items():
            # It is of the month in which it began, or the part of the instance did.
            yield month_of(max(from_us, fault[0] + life.at)), -round(amount)

    def last(self, life, start):
        """The true end of the boot from *start*: a minimum beyond it is not credited."""
        spans = self.ready(life) if life.plan.basis == "ready" else self.held(life)
        return next(e for s, e in spans if s + life.at == start) + life.at

    def book(self, life, shape):
        """(since, rate) of a shape for this customer."""
        _, cpu, shown = shape
        plan = life.plan
        if plan.price == "shown":
            return [(0, mark_up(shown, plan))]
        currency = "EUR" if plan.name == "euro" else "USD"
        fixed = sum(self.prices[sku, currency][0][1] for sku in ("gpu.none", "disk.S"))
        return [
            (since, mark_up(nano + fixed, plan))
            for since, nano in sorted(self.prices[f"cpu.{cpu}", currency])
        ]


def mark_up(nano, plan):
    return round(Fraction(nano * (1_000_000 + plan.markup_ppm), 1_000_000))


def month_of(at_us):
    moment = datetime.fromtimestamp(at_us // S, UTC)
    return moment.year, moment.month


MONTHS = [
    int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * S
    for year in range(2026, 2046)
    for month in range(1, 13)
]


def simulate(database, seed, servers, days, folder, pace=1, every_second=False):
    """Live through *days* in *database*; return the world, to be asked what differs."""
    prices = folder / "prices.csv"
    prices.write_text(",".join(COLUMNS) + "\n")
    with asyncio.Runner() as runner:
        world = World(database, seed, runner, servers, days, prices, pace)
        epoch = database.transact(lambda conn: take_lease(conn, "simulation", "test", 0))
        context = ContextThatDies("simulation", NightingaleHub(), database, epoch)
        context.arm(random.Random(seed), world.kills)
        world.start_processes(context)
        (world.run_every_second if every_second else world.run)()
    return world
