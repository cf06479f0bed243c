"""An amount is never further than half a micro-dollar from the truth, and never a float."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightingale_hub.services.billing.rating import count_seconds, rate

TIMES = st.integers(0, 10**14)
SECONDS = st.integers(0, 10**9)
RATES = st.integers(0, 10**14)


@given(SECONDS, RATES)
def test_an_amount_is_the_nearest_micro_dollar(seconds, nano):
    exact = Fraction(seconds * nano, 3_600_000)
    amount = rate(seconds, nano)
    assert type(amount) is int and abs(amount - exact) <= Fraction(1, 2)
    assert amount == round(exact), "Python rounds a Fraction's tie to even"


@given(TIMES, st.integers(0, 10**12))
def test_a_begun_second_is_charged_and_no_second_more(start_us, length_us):
    assert 0 <= count_seconds(start_us, start_us + length_us) * 10**6 - length_us < 10**6


@pytest.mark.parametrize(
    ("seconds", "micro"), [(0, 0), (1, 12), (2, 25), (3, 38), (5, 62), (3600, 45_000)]
)
def test_of_two_neighbours_as_near_the_even_one_is_taken(seconds, micro):
    assert rate(seconds, 45_000_000) == micro
