"""A seeded sample of each soak; the whole of it is `bin/soak NAME`."""

import os
import random

import pytest

from tests.soak import audit, aws
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


def test_on_aws_the_keeper_dies_at_each_point_and_the_provider_where_it_works():
    cases = aws.list_cases()
    assert len(cases) == len(set(cases)) == 3 * len(POINTS) + 2 * 3
    assert {case.victim for case in cases} == set(aws.VICTIMS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon is followed by another")
def test_an_audit_daemon_that_is_killed_loses_and_doubles_nothing():
    text, is_well = audit.run(10, 20261124)
    assert is_well, text


def test_an_unknown_soak_is_refused(capsys):
    assert main(["nothing"]) == 2
    assert "supervisors" in capsys.readouterr().err
