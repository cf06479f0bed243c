"""A sample of `bin/soak billing`: what the meter and billing say is the truth, on both engines."""

import pytest
from sqlalchemy import select

from nightingale_hub.tables.billing import balance, line_item
from tests.simulation import simulate


@pytest.mark.parametrize("seed", [1, 2])
def test_no_microsecond_and_no_micro_unit_differs_from_the_truth(database, tmp_path, seed):
    world = simulate(database, seed, servers=6, days=30, folder=tmp_path, pace=20)
    assert world.differences() == [], f"seed {seed}"
    assert world.counts["launch"] and world.counts["lines"]


def test_every_second_polled_is_the_same(database, tmp_path):
    world = simulate(database, 3, servers=6, days=0.01, folder=tmp_path, every_second=True)
    assert world.differences() == [], "seed 3"
    assert world.counts["beats"]


POSTED: dict[str, list[tuple[object, ...]]] = {}


def test_both_engines_post_the_very_same_lines_and_balances(database, tmp_path):
    """Each engine lives the same world; what the first posted is held against the second's."""
    world = simulate(database, 4, servers=6, days=20, folder=tmp_path, pace=20)
    assert world.differences() == [], "seed 4"
    names = "kind owner customer start_us end_us seconds pieces plan cause currency amount_micro"
    with database.read() as conn:
        lines = conn.execute(
            select(*(line_item.c[name] for name in names.split())).order_by(
                line_item.c.owner, line_item.c.start_us, line_item.c.kind, line_item.c.amount_micro
            )
        ).all()
        kept = conn.execute(select(balance).order_by(balance.c.account, balance.c.currency)).all()
    posted = [tuple(row) for row in (*lines, *kept)]
    assert lines and POSTED.setdefault("first", posted) == posted
