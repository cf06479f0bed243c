"""Grants are burned in one order, never beyond amount, window or scope, whenever use is told."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from nightingale_hub.services.billing.burn import Grant, Use, burn

S = 1_000_000
H = 3600 * S
AWS = frozenset({("cloud", "aws")})
FACTS = [frozenset(), AWS, AWS | {("project", "p1")}, frozenset({("cloud", "gcp")})]


def use(key=1, start=0, seconds=3600, nano=10**9, facts=AWS, amount=None):
    cost = seconds * nano // 3_600_000 if amount is None else amount
    return Use(key, start, cost, ((seconds, nano),), facts)


@st.composite
def grants(draw):
    made = []
    for number in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, 3 * H))
        made.append(
            Grant(
                f"g{number}",
                draw(st.integers(0, 3_000_000)),
                start,
                start + draw(st.integers(1, 3 * H)),
                draw(st.integers(0, 2)),
                draw(st.sampled_from(FACTS)),
                draw(st.integers(0, 2)),
            )
        )
    return made


@st.composite
def uses(draw):
    made = []
    for key in range(draw(st.integers(0, 6))):
        pieces = tuple(
            draw(
                st.lists(
                    st.tuples(st.integers(0, 4000), st.integers(0, 10**10)), min_size=1, max_size=3
                )
            )
        )
        start, amount = draw(st.integers(0, 4 * H)), draw(st.integers(0, 2_000_000))
        made.append(Use(key, start, amount, pieces, draw(st.sampled_from(FACTS))))
    return made


@given(uses(), grants(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_no_grant_pays_beyond_its_amount_window_or_scope_and_order_of_arrival_is_nothing(
    used, given, rng: random.Random
):
    paid = burn(used, given)
    by_use, by_grant = {each.key: each for each in used}, {each.id: each for each in given}
    for each in given:
        assert sum(b.amount_micro for b in paid if b.grant == each.id) <= each.amount_micro
    for each in used:
        assert 0 <= sum(b.amount_micro for b in paid if b.use == each.key) <= each.amount_micro
    for each in paid:
        line, grant = by_use[each.use], by_grant[each.grant]
        assert each.amount_micro > 0 and grant.scope <= line.facts
        assert grant.start_us < line.start_us + max(line.seconds, 1) * S
        assert line.start_us < grant.end_us
    shuffled = rng.sample(used, len(used)), rng.sample(given, len(given))
    assert sorted(burn(*shuffled), key=repr) == sorted(paid, key=repr)


@given(uses(), grants())
@settings(max_examples=200, deadline=None)
def test_a_line_is_owed_only_when_every_grant_that_fits_it_whole_is_empty(used, given):
    paid = burn(used, given)
    left = {
        each.id: each.amount_micro - sum(b.amount_micro for b in paid if b.grant == each.id)
        for each in given
    }
    for line in used:
        owed = line.amount_micro - sum(b.amount_micro for b in paid if b.use == line.key)
        if owed:
            end = line.start_us + line.seconds * S
            for grant in given:
                covers = grant.start_us <= line.start_us and end <= grant.end_us
                assert not (covers and grant.scope <= line.facts and left[grant.id])


def test_the_order_is_priority_then_end_then_narrower_scope_then_created_then_id():
    order = [
        Grant("z", 1, 0, 9 * H, 1),
        Grant("y", 1, 0, 2 * H, 2),
        Grant("x", 1, 0, 3 * H, 2, AWS),
        Grant("w", 1, 0, 3 * H, 2, created_us=1),
        Grant("a", 1, 0, 3 * H, 2, created_us=2),
        Grant("b", 1, 0, 3 * H, 2, created_us=2),
    ]
    for number in range(1, len(order) + 1):
        paid = burn([use(amount=number)], order[::-1])
        assert [each.grant for each in paid] == [each.id for each in order[:number]]


def test_a_line_is_cut_at_the_second_at_which_a_grant_ends():
    # It ends within the 1800th second, which began inside: that second is still the grant's.
    grant = Grant("g", 10**9, 0, 1799 * S + 1)
    (paid,) = burn([use(seconds=3600, nano=3_600_000_000)], [grant])
    assert paid.amount_micro == 1_800_000


def test_a_cut_at_a_change_of_price_gives_each_part_its_own_rate():
    line = Use(1, 0, 3_000_000, ((3600, 10**9), (3600, 2 * 10**9)))
    (paid,) = burn([line], [Grant("g", 10**9, 0, H)])
    assert paid.amount_micro == 1_000_000


def test_late_use_burns_what_was_there_then():
    grant = Grant("g", 10**9, 0, H)
    assert burn([use(1, 5 * H)], [grant]) == []
    (paid,) = burn([use(1, 5 * H), use(2, 0)], [grant])
    assert (paid.use, paid.amount_micro) == (2, 1_000_000)


def test_what_was_spent_before_is_not_there_any_more():
    (paid,) = burn([use()], [Grant("g", 1_000_000, 0, H)], {"g": 400_000})
    assert paid.amount_micro == 600_000
