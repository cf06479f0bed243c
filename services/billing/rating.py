"""From a span of time to an amount of money: integers only, one rounding per line.

The k-th second of a span starts k seconds after the span does. It belongs whole to whatever holds
at that instant: the price, the month, the fault.
"""

from collections.abc import Iterable, Sequence

from nightingale_hub.money import divide

US_PER_S = 1_000_000
# nano-units per hour times seconds, over this, are micro-units.
NANO_HOURS_PER_MICRO = 3_600 * 1_000

Piece = tuple[int, int]  # seconds, nano-units per hour
Steps = Sequence[tuple[int, int]]  # from when, nano-units per hour; in order


def count_seconds(start_us: int, end_us: int) -> int:
    """Return the seconds of [start, end), a begun one whole."""
    assert end_us >= start_us, (start_us, end_us)
    return -(-(end_us - start_us) // US_PER_S)


def count_before(start_us: int, seconds: int, at_us: int) -> int:
    """Return how many of the *seconds* of a span from *start_us* start before *at_us*."""
    return max(0, min(seconds, -(-(at_us - start_us) // US_PER_S)))


def rate(seconds: int, nano_per_hour: int) -> int:
    """Return what *seconds* cost, in micro-units, rounded half to even."""
    return rate_pieces([(seconds, nano_per_hour)])


def rate_pieces(pieces: Iterable[Piece]) -> int:
    """Return what the pieces of one line cost together, in micro-units: rounded once."""
    total = 0
    for seconds, nano_per_hour in pieces:
        assert seconds >= 0 and nano_per_hour >= 0
        total += seconds * nano_per_hour
    return divide(total, NANO_HOURS_PER_MICRO)


def split(start_us: int, first: int, last: int, steps: Steps) -> tuple[Piece, ...]:
    """Return the pieces of the seconds [first, last) of a span that starts at *start_us*.

    *steps* are the rates and from when each holds; the first holds before its own instant too.
    """
    pieces: list[Piece] = []
    bounds = [count_before(start_us, last, from_us) for from_us, _ in steps[1:]]
    done = first
    for bound, (_, nano_per_hour) in zip([*bounds, last], steps, strict=True):
        upto = max(done, bound)
        if upto > done:
            if pieces and pieces[-1][1] == nano_per_hour:
                pieces[-1] = (pieces[-1][0] + upto - done, nano_per_hour)
            else:
                pieces.append((upto - done, nano_per_hour))
        done = upto
    return tuple(pieces) or ((0, steps[-1][1]),)
