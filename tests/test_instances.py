"""The record of an instance: its edges, what is due, and what its owner may read."""

import pytest

from nightingale_hub.errors import Conflict, IllegalEdge
from nightingale_hub.instances import (
    EDGES,
    State,
    add_progress,
    find_current,
    get,
    list_due,
    list_progress,
    put_off,
    take_edge,
    want_stopped,
)
from nightingale_hub.launch import Launch, create
from nightingale_hub.offers import Offer, Size
from tests.record import S, add_instance, change

OFFER = Offer("local", "here", "local-S-none-S", Size(), 1, 10, 30_000_000)


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


@pytest.mark.parametrize("edge", list(EDGES))
def test_an_edge_is_taken_from_the_state_it_leaves_and_no_other(conn, edge):
    leaves, reaches = EDGES[edge]
    for state in set(State) - {leaves}:
        key = add_instance(conn, actual=state)
        with pytest.raises(IllegalEdge):
            take_edge(conn, key, edge, 7 * S, "no")
        assert get(conn, key).actual == state
        assert list_progress(conn, key) == []
    key = add_instance(conn, actual=leaves, attempts=3, next_try_us=5)
    take_edge(conn, key, edge, 7 * S, "moved", reason="why")
    row = get(conn, key)
    assert (row.actual, row.reason, row.attempts, row.next_try_us) == (reaches, "why", 0, 0)
    [line] = list_progress(conn, key)
    assert (line.edge, line.at_us, line.message) == (edge, 7 * S, "moved")


def test_every_state_but_the_last_has_a_way_to_the_last():
    reached = {State.GONE}
    for _ in State:
        reached |= {leaves for leaves, reaches in EDGES.values() if reaches in reached}
    assert reached == set(State)
    assert all(leaves != State.GONE for leaves, _ in EDGES.values())


def test_an_edge_has_the_name_of_its_two_states():
    assert all(name == f"{leaves}_to_{reaches}" for name, (leaves, reaches) in EDGES.items())


def test_a_server_has_one_instance_that_is_not_gone(conn):
    first = create(conn, Launch("alice", "", OFFER, b"x", "/user/alice/"), S)
    with pytest.raises(Conflict, match=first):
        create(conn, Launch("alice", "", OFFER, b"x"), S)
    other = create(conn, Launch("alice", "gpu", OFFER, b"x"), S)
    change(conn, first, actual="stopped")
    second = create(conn, Launch("alice", "", OFFER, b"x"), 2 * S)
    current = [find_current(conn, "alice", server) for server in ("", "gpu")]
    assert [row and row.id for row in current] == [second, other]
    assert find_current(conn, "bob", "") is None


def test_a_stop_is_accepted_once_and_ends_billing_there(conn):
    key = add_instance(conn, next_try_us=9 * S)
    assert want_stopped(conn, key, 300 * S, "budget")
    assert not want_stopped(conn, key, 400 * S, "again")
    row = get(conn, key)
    assert (row.wanted, row.stop_accepted_us, row.reason) == ("stopped", 300 * S, "budget")
    assert row.next_try_us == 0
    assert [line.message for line in list_progress(conn, key)] == ["Stop accepted: budget"]


def test_what_is_as_wanted_is_not_due(conn):
    settled = {(State.RUNNING, "running"), (State.STOPPED, "running"), (State.STOPPED, "stopped")}
    settled |= {(State.GONE, wanted) for wanted in ("running", "stopped", "gone")}
    expected = set()
    for state in State:
        for wanted in ("running", "stopped", "gone"):
            key = add_instance(conn, actual=state, wanted=wanted, next_try_us=10)
            if (state, wanted) not in settled:
                expected.add(key)
    assert {row.id for row in list_due(conn, 10)} == expected
    assert list_due(conn, 9) == []


def test_a_failed_step_is_counted_told_and_due_later(conn):
    key = add_instance(conn, actual="stopping")
    put_off(conn, key, State.STOPPING, 10 * S, 2.5, "Stop failed")
    row = get(conn, key)
    assert (row.attempts, row.next_try_us, row.actual) == (1, 12_500_000, "stopping")
    assert list_progress(conn, key)[-1].message == "Stop failed"
    with pytest.raises(IllegalEdge):
        put_off(conn, key, State.LAUNCHING, 10 * S, 1, "of a state it has left")


def test_progress_is_read_from_where_one_was(conn):
    key = add_instance(conn)
    for number in range(3):
        add_progress(conn, key, number, f"line {number}")
    first = list_progress(conn, key)[0]
    assert [line.message for line in list_progress(conn, key, first.id)] == ["line 1", "line 2"]
