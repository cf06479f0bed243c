"""What other parts ask of an instance happens once, with its outcome, or changes nothing."""

import pytest
from sqlalchemy import select, update

from nightingale_hub import resizing
from nightingale_hub.errors import BadInput, Conflict, NotAllowed, NotFound
from nightingale_hub.instances import Cause, get, list_progress
from nightingale_hub.launch import Launch, create
from nightingale_hub.offers import Offer, Size
from nightingale_hub.quotas import Quota
from nightingale_hub.requests import Kind, Request, ask, list_open
from nightingale_hub.services.supervisor.asked import take_up
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.supervision import quarantine, request
from tests.prices import add_prices
from tests.record import S, add_instance, change

OFFER = Offer("local", "here", "local-S-none-S", Size(), 1, 10, 30_000_000)


@pytest.fixture
def conn(database):
    with database.write() as conn:
        yield conn


def wish(key, kind, **more):
    return Request(key, kind, "budget of alice", "spent", **more)


def do(conn, one, **settings):
    """Ask and have it taken up; return the outcome."""
    number = ask(conn, one, 200 * S)
    take_up(conn, NightingaleHub.from_dict(settings), number, 201 * S)
    row = conn.execute(select(request).where(request.c.id == number)).one()
    assert row.done_us == 201 * S
    return row.outcome


def test_a_stop_is_accepted_with_reason_and_cause_and_once(conn):
    key = add_instance(conn)
    stop = wish(key, Kind.STOP, cause=Cause.BUDGET)
    assert do(conn, stop) == "accepted"
    row = get(conn, key)
    assert (row.wanted, row.cause, row.reason) == ("stopped", "budget", "budget of alice: spent")
    assert row.stop_accepted_us == 201 * S
    assert do(conn, stop) == "nothing to do"


def test_the_same_key_is_one_request(conn):
    key = add_instance(conn)
    one = wish(key, Kind.STOP, idem_key="hold:1")
    assert ask(conn, one, S) == ask(conn, one, 2 * S)
    assert len(list_open(conn)) == 1


def test_a_request_that_was_taken_up_is_not_taken_up_again(conn):
    key = add_instance(conn)
    number = ask(conn, wish(key, Kind.STOP), S)
    settings = NightingaleHub()
    take_up(conn, settings, number, 2 * S)
    take_up(conn, settings, number, 3 * S)
    assert conn.execute(select(request.c.done_us)).scalars().all() == [2 * S]


@pytest.mark.parametrize(
    "changed",
    [{"actor": " "}, {"reason": ""}, {"reason": "x" * 600}, {"size": Size()}, {"kind": "resize"}],
)
def test_a_request_without_its_parts_is_refused(conn, changed):
    key = add_instance(conn)
    values = {"instance_id": key, "kind": "stop", "actor": "a", "reason": "r", **changed}
    with pytest.raises(BadInput):
        ask(conn, Request(**{**values, "kind": Kind(values["kind"])}), S)
    with pytest.raises(NotFound):
        ask(conn, wish("i-000000000000", Kind.STOP), S)
    assert list_open(conn) == []


def test_a_malformed_row_is_refused_and_holds_back_no_other(conn):
    key = add_instance(conn)
    number = ask(conn, wish(key, Kind.STOP), S)
    conn.execute(update(request).values(detail='{"cause": "${file(\\"/etc/passwd\\")}"}'))
    take_up(conn, NightingaleHub(), number, 2 * S)
    [outcome] = conn.execute(select(request.c.outcome)).scalars()
    assert outcome == "refused: the request is malformed"
    assert get(conn, key).wanted == "running"
    assert do(conn, wish(key, Kind.STOP)) == "accepted"


def test_a_quarantine_stops_all_of_the_owner_until_a_release(conn):
    first, second = add_instance(conn), add_instance(conn)
    other = add_instance(conn, owner="bob")
    assert do(conn, wish(first, Kind.QUARANTINE)) == "accepted"
    assert [get(conn, key).wanted for key in (first, second, other)] == [
        "stopped",
        "stopped",
        "running",
    ]
    assert get(conn, second).cause == "quarantine"
    with pytest.raises(NotAllowed, match="set by budget of alice"):
        create(conn, Launch("alice", "new", OFFER, b"x"), 300 * S)
    create(conn, Launch("bob", "new", OFFER, b"x"), 300 * S)
    assert do(conn, wish(first, Kind.QUARANTINE)) == "nothing to do"
    assert do(conn, wish(first, Kind.RELEASE)) == "accepted"
    create(conn, Launch("alice", "new", OFFER, b"x"), 300 * S)
    ended = conn.execute(select(quarantine.c.ended_by)).scalar_one()
    assert ended == "budget of alice"


def test_a_home_is_removed_only_when_nothing_uses_it(conn):
    key, other = add_instance(conn, actual="stopped", gone_us=S), add_instance(conn)
    refused = do(conn, wish(key, Kind.REMOVE))
    assert refused.startswith("refused: the home of alice is in use by") and other in refused
    change(conn, other, actual="stopped")
    assert do(conn, wish(key, Kind.REMOVE)) == "accepted"
    assert get(conn, key).wanted == "gone"
    assert list_progress(conn, key)[-1].message.startswith("Its home is to be removed")


@pytest.fixture
def prices(conn):
    add_prices(conn)


def test_a_resize_is_written_down_and_the_record_keeps_its_size(conn, prices):
    key = add_instance(conn, cpu="S", disk="S")
    assert do(conn, wish(key, Kind.RESIZE, size=Size("M"))) == "accepted"
    opened = resizing.find_open(conn, key)
    assert opened is not None
    assert (opened.cpu, opened.phase, opened.actor) == ("M", "asked", "budget of alice")
    assert get(conn, key).cpu == "S"
    again = do(conn, wish(key, Kind.RESIZE, size=Size("M")))
    assert again == f"refused: instance {key} is being resized; wait until that is over"


@pytest.mark.parametrize(
    "size, columns, why",
    [
        (Size("S"), {}, "has cpu S, gpu none, disk S already"),
        (Size("M"), {"actual": "booting"}, "is booting; only one that runs"),
        (Size("M"), {"wanted": "stopped"}, "only one that runs"),
        (Size("S", "none", "S"), {"disk": "L"}, "a home can grow only"),
        (Size("S", "S"), {}, "the local cloud has no GPU"),
        (Size("M"), {"owner": "small"}, "your quota has no cpu size M; choose one of S"),
    ],
)
def test_a_resize_that_cannot_be_changes_nothing(conn, prices, size, columns, why):
    key = add_instance(conn, **{"cpu": "S", "disk": "S", **columns})
    quotas = {"users": {"small": {"cpu": ["S"]}}}
    refused = do(conn, wish(key, Kind.RESIZE, size=size), quotas=quotas)
    assert refused.startswith("refused: ") and why in refused
    assert resizing.find_open(conn, key) is None


def test_a_resize_asks_for_prices_where_the_instance_is_and_nothing_else(conn, prices):
    key = add_instance(conn, cpu="S", disk="S", region="../../etc")
    assert "no price" in do(conn, wish(key, Kind.RESIZE, size=Size("M")))
    with pytest.raises(Conflict):
        stopped = get(conn, add_instance(conn, actual="stopped"))
        resizing.plan_resize(conn, stopped, Size("M"), Quota(), S)
