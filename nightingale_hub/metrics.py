"""What a service tells Prometheus: how its loops do, and facts of the tables that it writes.

Facts are counted in the database when they are asked for, so they are right after any restart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.errors import NotAllowed
from nightingale_hub.service import LoopWatch

SCOPE = "read:metrics"  # the hub's own, for its /hub/metrics
PREFIX = "nightingale_"

Rows = Iterable[Sequence[Any]]  # of each: the labels' values, then the number; None is left out


@dataclass(frozen=True)
class Fact:
    """A figure of the database: *name* without the prefix, and how *count* finds it."""

    name: str
    help: str
    labels: tuple[str, ...]
    count: Callable[[Connection], Rows]


class MetricsHandler(ServiceHandler):
    """`GET metrics`: the text that Prometheus reads, for who has the hub's scope `read:metrics`."""

    def initialize(self, facts: Sequence[Fact]) -> None:
        """Tell *facts* of the database beside the process and its loops."""
        self.facts = facts

    async def get(self) -> None:
        """Reply in Prometheus' text format, the rest also while the database is away."""
        model = await self.caller()
        if SCOPE not in model.get("scopes", ()):
            raise NotAllowed(f"only a token with the scope {SCOPE} may read this")
        registry = CollectorRegistry()
        started = Gauge(f"{PREFIX}service_epoch", "How often it was started.", registry=registry)
        started.set(self.context.epoch)
        ProcessCollector(registry=registry)
        registry.register(_Loops(self.settings["loops"]))
        registry.register(_Facts(await self._count()))
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(registry))

    async def _count(self) -> list[tuple[Fact, Rows]] | None:
        def count(conn: Connection) -> list[tuple[Fact, Rows]]:
            return [(fact, list(fact.count(conn))) for fact in self.facts]

        try:
            return await self.context.read(count)
        except SQLAlchemyError:
            return None


class _Loops(Collector):
    def __init__(self, loops: dict[str, LoopWatch]) -> None:
        self.loops = loops

    def collect(self) -> Iterator[Any]:
        failures = CounterMetricFamily(
            f"{PREFIX}loop_failures", "Steps of a loop that failed.", labels=["loop"]
        )
        due = GaugeMetricFamily(
            f"{PREFIX}loop_due_timestamp_seconds",
            "When a loop's next step is due, after the last that ended well.",
            labels=["loop"],
        )
        for name, loop in self.loops.items():
            failures.add_metric([name], loop.failures)
            due.add_metric([name], loop.due_us / 1e6)
        yield failures
        yield due


class _Facts(Collector):
    def __init__(self, counted: list[tuple[Fact, Rows]] | None) -> None:
        self.counted = counted

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily(
            f"{PREFIX}database_up",
            "Whether the database answered this.",
            value=float(self.counted is not None),
        )
        for fact, rows in self.counted or ():
            kind = CounterMetricFamily if fact.name.endswith("_total") else GaugeMetricFamily
            family = kind(PREFIX + fact.name, fact.help, labels=fact.labels)
            for *labels, value in rows:
                if value is not None:
                    family.add_metric([str(each) for each in labels], float(value))
            yield family
