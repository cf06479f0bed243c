"""The beats that arrived, in memory: one proof per boot, joined, never counted.

What a kill takes from here is at most the proof since the last checkpoint, and it matters only
where the next thing that is seen is another boot: then the older one ends that much earlier.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from nightingale_hub.errors import BadInput
from nightingale_hub.services.metering.rules import Beat, Proof, prove

MAX_BODY_BYTES = 64 << 10
MAX_FAULTS = 100
# What an agent alone can know, and its researcher cannot bring about.
CAUSES = ("mount", "records")
MAX_UPTIME_US = 100 * 366 * 86_400 * 1_000_000
FIELDS = {"instance_id", "boot_id", "uptime_us", "faults"}
MAX_FAILURES = 50
_BOOT_ID = re.compile(r"[0-9a-f][0-9a-f-]{7,63}")


class Beats:
    """The proofs of every instance that is metered."""

    def __init__(self) -> None:
        """Start with none."""
        self.proofs: dict[str, dict[str, Proof]] = {}

    def with_beat(self, instance_id: str, beat: Beat) -> Proof:
        """Return the proof of *beat*'s boot with *beat* added; keeps nothing."""
        known = self.proofs.get(instance_id, {}).get(beat.boot_id)
        return prove(beat) if known is None else known.join(beat)

    def keep(self, instance_id: str, beat: Beat) -> None:
        """Add *beat* to what is known."""
        joined = self.with_beat(instance_id, beat)
        self.proofs.setdefault(instance_id, {})[beat.boot_id] = joined

    def shift(self, step_us: int) -> None:
        """Put every proof into the clock as it is since it was set by *step_us*."""
        for known in self.proofs.values():
            for boot_id, proof in known.items():
                known[boot_id] = replace(proof, started_us=proof.started_us + step_us)

    def forget_all_but(self, instance_ids: set[str]) -> None:
        """Drop the proofs of instances that are metered no more."""
        for instance_id in set(self.proofs) - instance_ids:
            del self.proofs[instance_id]


@dataclass(frozen=True)
class Failure:
    """The platform failed a boot from *since_us* on, and to *until_us* if that is over; µs up."""

    cause: str
    since_us: int
    until_us: int | None


def parse_failures(body: dict[str, Any]) -> list[Failure]:
    """Return what failed, and take it out of *body*; an older agent tells of nothing.

    Raises `BadInput`.
    """
    told = body.pop("failures", [])
    if not isinstance(told, list) or len(told) > MAX_FAILURES:
        raise BadInput(f"failures must be a list of at most {MAX_FAILURES}")
    failures = []
    for each in told:
        if not isinstance(each, list) or len(each) != 3 or each[0] not in CAUSES:
            raise BadInput(f"a failure is [cause, since, until]; causes: {', '.join(CAUSES)}")
        since_us, until_us = each[1:]
        last_us = since_us if until_us is None else until_us
        if not all(type(at) is int and 0 <= at <= MAX_UPTIME_US for at in (since_us, last_us)):
            raise BadInput("a failure's times are whole numbers of µs, at most 100 years")
        if last_us < since_us:
            raise BadInput(f"failure {each[0]} ends before it starts")
        failures.append(Failure(each[0], since_us, until_us))
    return failures


def parse_beat(body: dict[str, Any], at_us: int) -> tuple[str, Beat, list[str]]:
    """Return the instance, the beat and the faults that *body* names.

    Raises `BadInput` naming the first field that is wrong.
    """
    if set(body) != FIELDS:
        odd = sorted(set(body) ^ FIELDS)[0]
        raise BadInput(f"a beat has exactly {', '.join(sorted(FIELDS))}; see to {odd[:40]!r}")
    instance_id, boot_id, uptime_us, faults = (
        body[name] for name in ("instance_id", "boot_id", "uptime_us", "faults")
    )
    if not isinstance(instance_id, str):
        raise BadInput("instance_id must be text")
    if not isinstance(boot_id, str) or not _BOOT_ID.fullmatch(boot_id):
        raise BadInput("boot_id must be 8 to 64 hexadecimal digits")
    if type(uptime_us) is not int or not 0 <= uptime_us <= MAX_UPTIME_US:
        raise BadInput("uptime_us must be a whole number of µs, at most 100 years")
    if (
        not isinstance(faults, list)
        or len(faults) > MAX_FAULTS
        or not all(isinstance(fault, str) for fault in faults)
    ):
        raise BadInput(f"faults must be a list of at most {MAX_FAULTS} texts")
    return instance_id, Beat(boot_id, uptime_us, at_us), faults
