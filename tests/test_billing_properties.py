"""What holds for any span, price, month, fault and order of beats: no second is lost or doubled."""

import itertools
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nightingale_hub.services.billing.rater import _cut_at_months, _without
from nightingale_hub.services.billing.rating import count_seconds, rate_pieces, split
from nightingale_hub.services.metering.rules import Beat, Record, find_changes, prove
from nightingale_hub.services.metering.segment import Shape
from tests.record import S

T0 = 1_790_000_000 * S
SPANS = st.tuples(st.integers(0, 10**9), st.integers(0, 120 * S))
STEPS = st.lists(st.tuples(st.integers(T0, T0 + 200 * S), st.integers(0, 10**12)), max_size=5).map(
    lambda steps: [(0, 7), *sorted(dict(steps).items())]
)


@settings(deadline=None)
@given(SPANS, STEPS)
def test_each_second_is_charged_whole_at_the_price_at_which_it_starts(span, steps):
    start = T0 + span[0]
    seconds = count_seconds(start, start + span[1])
    pieces = split(start, 0, seconds, steps)
    one_by_one = [
        [nano for since, nano in steps if since <= start + second * S][-1]
        for second in range(seconds)
    ]
    assert [nano for count, nano in pieces for _ in range(count)] == one_by_one
    exact = Fraction(sum(one_by_one), 3_600_000)
    assert abs(rate_pieces(pieces) - exact) <= Fraction(1, 2), "one rounding, half a micro-unit"


@settings(deadline=None)
@given(SPANS, STEPS, st.lists(st.integers(0, 120), max_size=4))
def test_however_a_span_is_cut_its_seconds_are_the_same(span, steps, cuts):
    start = T0 + span[0]
    seconds = count_seconds(start, start + span[1])
    bounds = sorted({0, seconds, *(cut for cut in cuts if cut < seconds)})
    parts = [
        piece
        for low, high in itertools.pairwise(bounds)
        for piece in split(start, low, high, steps)
    ]
    whole = split(start, 0, seconds, steps)
    flat = [nano for count, nano in parts for _ in range(count)]
    assert flat == [nano for count, nano in whole for _ in range(count)]


@settings(deadline=None)
@given(st.integers(0, 10**15), st.integers(0, 5000), st.integers(0, 10**7))
def test_months_cut_a_span_without_a_gap(start, first, length):
    cuts = _cut_at_months(start, first, first + length)
    assert (cuts[0][0], cuts[-1][1]) == (first, first + length)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cuts))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6), st.randoms())
def test_faults_that_overlap_credit_a_second_once_in_whatever_order(faults, random):
    def credit(order):
        given: list[Any] = []
        for low, high in order:
            spans = [(low, high)] if low < high else []
            for taken in given:
                spans = [part for span in spans for part in _without(span, *taken)]
            yield from (second for span in spans for second in range(*span))
            given.append((low, high))

    mixed = random.sample(faults, len(faults))
    union = sorted({second for low, high in faults for second in range(low, high)})
    assert sorted(credit(faults)) == sorted(credit(mixed)) == union


BEATS = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 5)), min_size=1, max_size=8)


@settings(deadline=None)
@given(BEATS, st.randoms(), st.lists(st.integers(150, 900), max_size=3, unique=True))
def test_beats_in_any_order_and_number_end_in_the_same_segments(beats, random, resizes):
    shapes = [(0, Shape("a"))]
    shapes += [(at * S, Shape(str(number))) for number, at in enumerate(sorted(resizes))]
    record = Record("boot", 90 * S, 100 * S, 950 * S, 990 * S, shapes=tuple(shapes))

    def measure(order):
        stored: dict[Any, Any] = {}
        proof: Any = None
        for uptime, delay in order:
            beat = Beat("boot", uptime * S, (90 + uptime + delay) * S)
            proof = prove(beat) if proof is None else proof.join(beat)
            open_yet = Record("boot", 90 * S, 100 * S, shapes=tuple(shapes))
            stored |= find_changes(open_yet, [proof], stored.values())
        return {**stored, **find_changes(record, [proof], stored.values())}

    ended = measure(beats)
    assert ended == measure(random.sample(beats, len(beats))) == measure([*beats, *beats])
    ready = sorted((each.start_us, each.end_us) for each in ended.values() if each.meter == "ready")
    assert (ready[0][0], ready[-1][1]) == (100 * S, 950 * S)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ready))
