"""How long a launch takes is told by the last ones, and the bar moves by it and never back."""

from types import SimpleNamespace

import pytest

from nightingale_hub.estimates import Estimate, estimate_launch
from nightingale_hub.spawner.progress import Bar
from tests.record import S, add_instance


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


def launch(conn, seconds, **columns):
    at = columns.pop("created_us", 100 * S)
    add_instance(conn, actual="stopped", created_us=at, ready_us=at + seconds * S, **columns)


def estimate(conn, kind="local-M-none-M", region="here"):
    return estimate_launch(conn, "local", region, kind)


def test_the_last_launches_of_the_same_type_tell_it(conn):
    assert estimate(conn) is None
    for seconds in (4, 6, 100):
        launch(conn, seconds)
    for _ in range(5):
        launch(conn, 50, instance_type="local-L-none-M")
    add_instance(conn, actual="stopped", ready_us=None, created_us=S)  # it never was ready
    assert estimate(conn) == Estimate(6, 3)
    assert estimate(conn, "local-XL-none-M") == Estimate(50, 8)
    assert estimate(conn, region="there") is None


def test_only_the_newest_count(conn):
    launch(conn, 900, created_us=S)
    for _ in range(20):
        launch(conn, 5)
    assert estimate(conn) == Estimate(5, 20)


def test_it_reads_as_a_sentence():
    assert str(Estimate(47.6, 12)) == "about 48 s, by the last 12 launches here"
    assert str(Estimate(0.2, 1)) == "about 1 s, by the last launch here"


def line(edge="", message=""):
    return SimpleNamespace(edge=edge, message=message)


def test_time_moves_the_bar_up_to_its_bound_and_never_back():
    bar = Bar(10.0)
    assert bar.tick(3.0) == {"progress": 30}
    assert bar.tick(3.0) is None
    assert bar.to_event(line("requested_to_launching", "x"), 3.1)["progress"] == 31
    assert bar.tick(1000.0) == {"progress": 90}
    assert bar.to_event(line("launching_to_booting"), 2000.0)["progress"] == 90
    assert bar.to_event(line("booting_to_running"), 2000.0)["progress"] == 95


def test_without_an_estimate_time_moves_nothing():
    bar = Bar()
    assert bar.tick(1000.0) is None
    assert bar.to_event(line("requested_to_launching"), 1000.0)["progress"] == 10
