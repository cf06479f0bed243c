"""One supervisor at a time works on an instance; one that lost it can no longer write."""

import threading

import pytest

from nightingale_hub.instances import get
from nightingale_hub.row_lease import (
    LEASE_S,
    Holder,
    LostRow,
    check,
    claim,
    extend,
    give_up_all,
    read_clock,
)
from nightingale_hub.services.supervisor.supervisor import LeasedContext
from tests.record import S, add_instance, change
from tests.serving import make_context

ONE, TWO = Holder("supervisor", 3), Holder("supervisor:2", 1)
HERE = "this machine"


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


def take(conn, holder, limit=10, but=(), machine=HERE, at_us=None):
    at_us = read_clock(conn, 10 * S) if at_us is None else at_us
    return [lease for _, lease in claim(conn, holder, machine, at_us, limit, but)]


def test_what_one_holds_another_does_not_get(conn):
    keys = {add_instance(conn, actual="booting") for _ in range(3)}
    add_instance(conn)  # runs as wanted
    ours = take(conn, ONE, limit=2)
    theirs = take(conn, TWO)
    assert len(ours) == 2 and len(theirs) == 1
    assert {each.instance_id for each in (*ours, *theirs)} == keys
    for lease in (*ours, *theirs):
        check(conn, lease)


def test_the_oldest_goes_first_and_what_is_at_work_is_left_alone(conn):
    new = add_instance(conn, actual="booting", created_us=9)
    old = add_instance(conn, actual="booting", created_us=2)
    assert [each.instance_id for each in take(conn, ONE, limit=1)] == [old]
    assert [each.instance_id for each in take(conn, ONE, but=[old])] == [new]


def test_a_lease_that_ran_out_is_taken_over_and_its_last_holder_can_no_longer_write(conn):
    key = add_instance(conn, actual="booting")
    [first] = take(conn, ONE)
    change(conn, key, lease_until_us=read_clock(conn, 10 * S))
    [second] = take(conn, TWO)
    check(conn, second)
    with pytest.raises(LostRow, match="taken over from supervisor#3"):
        check(conn, first)
    assert extend(conn, [first, second], 10 * S) == {key}


def test_a_lease_taken_again_by_the_same_process_is_another(conn):
    key = add_instance(conn, actual="booting")
    [first] = take(conn, ONE)
    [again] = take(conn, ONE)
    assert again.token > first.token
    with pytest.raises(LostRow):
        check(conn, first)
    assert extend(conn, [first], 10 * S) == set()
    assert extend(conn, [again], 10 * S) == {key}


def test_an_extended_lease_lasts_on(conn):
    add_instance(conn, actual="booting")
    at_us = read_clock(conn, 10 * S)
    [lease] = take(conn, ONE)
    extend(conn, [lease], at_us + int(LEASE_S * S) - 1)
    assert take(conn, TWO) == []


def test_a_successor_of_the_same_name_does_not_wait(conn):
    add_instance(conn, actual="booting")
    [first] = take(conn, ONE)
    [second] = take(conn, Holder("supervisor", 4))
    assert second.token == first.token + 1


def test_a_name_that_begins_like_another_is_another(conn):
    add_instance(conn, actual="booting")
    take(conn, TWO)
    assert take(conn, ONE) == []
    assert take(conn, Holder("supervisor:", 1)) == []


def test_what_is_given_up_is_free_at_once(conn):
    add_instance(conn, actual="booting")
    take(conn, ONE)
    give_up_all(conn, ONE)
    assert len(take(conn, TWO)) == 1


def test_an_instance_of_another_machine_is_out_of_reach(conn):
    add_instance(conn, actual="booting", machine="another")
    mine = add_instance(conn, actual="booting", machine=HERE)
    assert [each.instance_id for each in take(conn, ONE)] == [mine]


def test_of_two_who_claim_at_once_each_instance_goes_to_one(database):
    with database.write() as conn:
        keys = {add_instance(conn, actual="booting") for _ in range(40)}
    got: dict[str, list[str]] = {"a": [], "b": []}

    def work(name):
        for _ in range(20):
            leases = database.transact(lambda conn: take(conn, Holder(name, 1), 2, got[name]))
            got[name] += [each.instance_id for each in leases]

    threads = [threading.Thread(target=work, args=(name,)) for name in got]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert set(got["a"]) | set(got["b"]) == keys
    assert not set(got["a"]) & set(got["b"])


async def test_a_step_that_lost_its_instance_writes_nothing_more(database):
    with database.write() as conn:
        key = add_instance(conn, actual="booting")
        [lease] = take(conn, ONE)
        at_us = read_clock(conn, 10 * S)
        change(conn, key, lease_until_us=at_us)
    context = LeasedContext(make_context("supervisor", database), lease)
    await context.write(lambda conn: change(conn, key, reason="ours"))
    with database.write() as conn:
        take(conn, TWO)
    with pytest.raises(LostRow):
        await context.write(lambda conn: change(conn, key, reason="too late"))
    with database.read() as conn:
        assert get(conn, key).reason == "ours"
