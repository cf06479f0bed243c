"""A seeded sample of each soak; the whole of it is `bin/soak NAME`."""

import random

import pytest

from tests.soak.__main__ import main
from tests.soak.supervisors import POINTS, VICTIMS, list_cases, live, soaking


@pytest.fixture(scope="module")
def hub():
    with soaking() as hub:
        yield hub


@pytest.mark.parametrize("case", random.Random(20261124).sample(list_cases(), 2), ids=str)
def test_a_kill_at_an_edge_loses_nothing(hub, case):
    live(hub, case)


def test_each_victim_dies_at_each_point_where_it_lives():
    cases = list_cases()
    assert len(cases) == len(set(cases)) == 2 * len(POINTS) + 3
    assert {case.victim for case in cases} == set(VICTIMS)


def test_an_unknown_soak_is_refused(capsys):
    assert main(["nothing"]) == 2
    assert "supervisors" in capsys.readouterr().err
