"""Which grant pays for which use: the burn order. Pure: no database, no clock.

A piece of use burns the grants whose window holds its start and whose scope fits it, in this
order: priority, earliest end, narrower scope, created, id. A line is cut where a window begins or
ends inside it, by whole seconds: a second belongs to the piece in which it starts. Uses burn in
the order of their starts, whenever they are told, so late ones change nothing but their own place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

US_PER_S = 1_000_000

Facts = frozenset[tuple[str, str]]  # ("cloud", "aws"), ("project", "p1"), ("user", "alice")


@dataclass(frozen=True)
class Grant:
    """Credit that may be used in [start, end), by use that has every fact of *scope*."""

    id: str
    amount_micro: int
    start_us: int
    end_us: int
    priority: int = 100
    scope: Facts = frozenset()
    created_us: int = 0

    @property
    def rank(self) -> tuple[int, int, int, int, str]:
        """What orders grants that could pay for the same use."""
        return self.priority, self.end_us, -len(self.scope), self.created_us, self.id

    def fits(self, at_us: int, facts: Facts) -> bool:
        """Tell whether the grant may pay for a use with *facts* that starts at *at_us*."""
        return self.start_us <= at_us < self.end_us and self.scope <= facts


@dataclass(frozen=True)
class Use:
    """A rated line: its time, its amount, and the seconds at each rate, in order."""

    key: int
    start_us: int
    amount_micro: int
    pieces: tuple[tuple[int, int], ...]  # (seconds, nano per hour)
    facts: Facts = frozenset()

    @property
    def seconds(self) -> int:
        """The rated seconds of the line."""
        return sum(seconds for seconds, _ in self.pieces)

    @property
    def order(self) -> tuple[int, int]:
        """What orders uses, whenever they are told."""
        return self.start_us, self.key


@dataclass(frozen=True)
class Burn:
    """What one grant pays of one use."""

    use: int
    grant: str
    amount_micro: int


def burn(
    uses: Iterable[Use], grants: Sequence[Grant], spent: Mapping[str, int] | None = None
) -> list[Burn]:
    """Return what each grant pays of each use; *spent* is what grants have paid already.

    Whatever is not in it is paid by nobody: the customer owes it.
    """
    left = {each.id: each.amount_micro - (spent or {}).get(each.id, 0) for each in grants}
    ranked = sorted(grants, key=lambda grant: grant.rank)
    paid: dict[tuple[int, str], int] = {}
    for use in sorted(uses, key=lambda use: use.order):
        for at_us, amount in _cut(use, ranked):
            for grant in ranked:
                part = min(amount, left[grant.id])
                if part > 0 and grant.fits(at_us, use.facts):
                    left[grant.id] -= part
                    amount -= part
                    key = (use.key, grant.id)
                    paid[key] = paid.get(key, 0) + part
    return [Burn(use, grant, amount) for (use, grant), amount in paid.items()]


def _cut(use: Use, grants: Sequence[Grant]) -> list[tuple[int, int]]:
    """Return (start, amount) of each piece of *use* between the bounds of *grants*' windows."""
    whole = use.seconds
    cuts = {0, whole}
    for grant in grants:
        for bound_us in (grant.start_us, grant.end_us):
            # The first second that starts at the bound or after it.
            second = -(-(bound_us - use.start_us) // US_PER_S)
            if 0 < second < whole:
                cuts.add(second)
    ordered = sorted(cuts)
    if len(ordered) == 1:  # a line of no seconds
        return [(use.start_us, use.amount_micro)]
    upto = [_amount_until(use, second) for second in ordered]
    return [
        (use.start_us + first * US_PER_S, after - before)
        for first, before, after in zip(ordered, upto, upto[1:], strict=False)
    ]


def _amount_until(use: Use, second: int) -> int:
    """Return the share of *use* that falls before its *second*th second, half to even."""
    total = sum(seconds * nano for seconds, nano in use.pieces)
    if second >= use.seconds:
        return use.amount_micro
    if total == 0:  # a minimum or a fee, not by rate: by time
        return _divide(use.amount_micro * second, use.seconds)
    weight = 0
    for seconds, nano in use.pieces:
        weight += min(seconds, second) * nano
        second -= min(seconds, second)
    return _divide(use.amount_micro * weight, total)


def _divide(amount: int, by: int) -> int:
    whole, rest = divmod(amount, by)
    return whole + int(2 * rest > by or (2 * rest == by and whole % 2 == 1))
