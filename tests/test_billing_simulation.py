"""A sample of `bin/soak billing`: what the meter and billing say is the truth, on both engines."""

import pytest

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
