"""An instance as its owner reads it: the record, joined with what billing and metering say.

A figure that its part did not give is None; none is worked out here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from nightingale_hub.errors import NightingaleError, NotFound
from nightingale_hub.instances import ENDED, State
from nightingale_hub.offers import Size
from nightingale_hub.services.console.parts import Parts

RECORDED = (
    "id owner server_name cloud region instance_type cpu gpu disk nano_usd_per_hour wanted "
    "reason boot_id created_us allocated_us ready_us stop_accepted_us gone_us"
).split()
SINCE = {
    State.REQUESTED: "created_us",
    State.LAUNCHING: "created_us",
    State.BOOTING: "allocated_us",
    State.RUNNING: "ready_us",
    State.RESIZING: "ready_us",
    State.STOPPING: "stop_accepted_us",
    State.STOPPED: "gone_us",
    State.REMOVING: "gone_us",
    State.GONE: "gone_us",
}


@dataclass
class Figures:
    """What billing and metering say about one owner's instances, and what is missing of it."""

    cost: dict[str, Any] | None = None
    live: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def currency(self) -> str | None:
        """The currency of every amount, or None without billing."""
        return None if self.cost is None else str(self.cost["currency"])

    @property
    def month_micro(self) -> int | None:
        """The month so far, posted and running, or None without billing."""
        if self.cost is None:
            return None
        return int(self.cost["posted_micro"]) + int(self.cost["running_micro"])

    @property
    def left(self) -> dict[str, Any] | None:
        """What is left to spend, of what; None without billing, and where nothing limits it."""
        return None if self.cost is None else self.cost.get("left")

    def summarize(self, row: Row[Any]) -> dict[str, Any]:
        """Return instance *row* with its state, size, seconds, cost and health."""
        charge = _sum_charges(self.cost, row.id)
        seen = _of_instance(self.live, row.id)
        state = State(row.actual)
        return {
            **{name: getattr(row, name) for name in RECORDED},
            "state": state.value,
            "since_us": getattr(row, SINCE[state]) or row.created_us,
            "size": str(Size(row.cpu, row.gpu, row.disk)),
            "seconds": charge.get("seconds"),
            "amount_micro": charge.get("amount_micro"),
            "currency": self.currency,
            "nano_per_hour": self._find_rate(row.id, charge),
            "cost_state": charge.get("state"),
            "is_healthy": seen.get("healthy"),
            "last_ok_us": seen.get("last_ok_us"),
        }

    def _find_rate(self, instance_id: str, charge: dict[str, Any]) -> int | None:
        """Return what an hour costs its payer: as charged, else as held; None: not known."""
        held = (self.cost or {}).get("held", {}).get(instance_id)
        rate: int | None = charge.get("nano_per_hour", held)
        return rate


async def gather_figures(parts: Parts, owner: str, at_us: int) -> Figures:
    """Ask billing and metering about *owner* at once; waits at most as long as one part may."""
    figures = Figures()
    figures.cost, figures.live = await asyncio.gather(
        parts.find(figures.missing, "billing", "cost", owner=owner, at_us=at_us),
        parts.find(figures.missing, "metering", "live", owner=owner),
    )
    figures.missing.sort()  # in whatever order the parts gave up
    return figures


async def find_audit(parts: Parts, missing: list[str], row: Row[Any]) -> dict[str, Any] | None:
    """Return what audit holds of an instance's reads; None, and why in *missing*, without it."""
    found = await parts.find(missing, "audit", "summary", owner=row.owner, instance=row.id)
    if found is None:
        return None
    stream = {"last_seq": 0, "indexed_seq": 0}
    if row.boot_id is not None:
        try:
            stream = await parts.get("audit", f"streams/{row.id}:{row.boot_id}")
        except NotFound:
            pass  # nothing was read yet, so no batch has opened the stream
        except NightingaleError as error:
            missing.append(str(error))
            return None
    return {**found, "received_seq": stream["last_seq"], "indexed_seq": stream["indexed_seq"]}


def merge_missing(figures: Iterable[Figures]) -> list[str]:
    """Return each thing that is missing once, in order."""
    return list(dict.fromkeys(text for each in figures for text in each.missing))


def recent(rows: Sequence[Row[Any]], stopped: int) -> list[Row[Any]]:
    """Return the instances that are not gone and the newest *stopped* of those that are."""
    gone = [row for row in rows if row.actual in ENDED][:stopped]
    return [row for row in rows if row.actual not in ENDED or row in gone]


def _sum_charges(answer: dict[str, Any] | None, instance_id: str) -> dict[str, Any]:
    """Return one charge for all of an instance's: a resize or a new month begins another."""
    found = [
        each for each in (answer or {}).get("instances", ()) if each["instance_id"] == instance_id
    ]
    if not found:
        return {}
    return {
        "seconds": sum(each["seconds"] for each in found),
        "amount_micro": sum(each["amount_micro"] for each in found),
        "state": found[0]["state"],  # what runs comes first
        "nano_per_hour": found[0]["nano_per_hour"],
    }


def _of_instance(answer: dict[str, Any] | None, instance_id: str) -> dict[str, Any]:
    for each in (answer or {}).get("instances", ()):
        if each.get("instance_id") == instance_id:
            return dict(each)
    return {}
