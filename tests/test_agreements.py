"""Access to datasets: asked for, decided, agreed to by version, ended; and nothing else mounts."""

import re

import pytest

from nightingale_hub.agreements import State, accept, ask_access, decide, list_access, list_requests
from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.datasets import Dataset, ensure_dataset, grant, list_granted, withdraw
from nightingale_hub.errors import BadInput, Conflict, NotFound
from nightingale_hub.notices import list_notices
from nightingale_hub.tables.datasets import dataset_acceptance
from nightingale_hub.tables.log import log_leaf
from tests.test_cli import environment, run

AT = 1_795_000_000 * US_PER_S
CT = Dataset("ct", "CT scans", "Lungs", "Be kind.", "/data/ct")
WHY = "a study of lungs"


@pytest.fixture
def conn(database):
    with database.write() as conn:
        ensure_dataset(conn, CT)
        yield conn


def names(conn, user="alice", at_us=AT):
    return [row.name for row in list_granted(conn, user, at_us)]


def stands(conn, user="alice", at_us=AT):
    [one] = list_access(conn, user, at_us)
    return one.state


def ask_and_decide(conn, is_granted=True, until_us=None, note="no"):
    ask_access(conn, "ct", "alice", WHY, AT)
    [request] = list_requests(conn, ["ct"])
    decide(conn, request.id, "dora", is_granted, until_us, note, AT)


def test_only_what_is_granted_and_agreed_to_is_mounted(conn):
    assert (stands(conn), names(conn)) == (State.NONE, [])
    ask_and_decide(conn)
    assert (stands(conn), names(conn)) == (State.TERMS, [])
    accept(conn, "ct", "alice", 1, AT)
    assert (stands(conn), names(conn)) == (State.OPEN, ["ct"])
    assert names(conn, "bob") == []
    withdraw(conn, "ct", "alice")
    assert names(conn) == []


def test_an_acceptance_alone_opens_nothing(conn):
    accept(conn, "ct", "alice", 1, AT)
    assert names(conn) == []


def test_terms_that_change_are_accepted_anew(conn):
    grant(conn, "ct", "*", AT)
    accept(conn, "ct", "alice", 1, AT)
    ensure_dataset(conn, CT)  # the same again, as at each start of a hub
    assert names(conn) == ["ct"]
    ensure_dataset(conn, Dataset("ct", "CT", "", "Be kinder.", "/data/ct"))
    assert (stands(conn), names(conn)) == (State.TERMS, [])
    with pytest.raises(Conflict, match="have changed"):
        accept(conn, "ct", "alice", 1, AT)
    accept(conn, "ct", "alice", 2, AT)
    assert names(conn) == ["ct"]
    kept = conn.execute(dataset_acceptance.select().order_by(dataset_acceptance.c.version)).all()
    assert [(row.version, row.terms) for row in kept] == [(1, "Be kind."), (2, "Be kinder.")]


def test_a_dataset_without_terms_needs_no_acceptance(conn):
    ensure_dataset(conn, Dataset("ct", "CT", "", "", "/data/ct"))
    grant(conn, "ct", "alice", AT)
    assert names(conn) == ["ct"]


def test_a_grant_ends_to_the_second_and_may_be_asked_for_again(conn):
    ask_and_decide(conn, until_us=AT + 10)
    accept(conn, "ct", "alice", 1, AT)
    assert names(conn, at_us=AT + 9) == ["ct"]
    assert (names(conn, at_us=AT + 10), stands(conn, at_us=AT + 10)) == ([], State.NONE)
    ask_access(conn, "ct", "alice", WHY, AT + 10)
    assert stands(conn, at_us=AT + 10) == State.ASKED


def test_a_refusal_needs_a_note_and_is_told(conn):
    with pytest.raises(BadInput, match="Say why it is refused"):
        ask_and_decide(conn, is_granted=False, note=" ")
    [request] = list_requests(conn, ["ct"])
    decide(conn, request.id, "dora", False, None, "no ethics vote", AT)
    assert stands(conn) == State.NONE
    assert list_notices(conn, "alice")[0].subject == "Dataset ct: refused"
    assert "no ethics vote" in list_notices(conn, "alice")[0].body


def test_what_may_not_be_decided_changes_nothing(conn):
    ask_access(conn, "ct", "alice", WHY, AT)
    [request] = list_requests(conn, ["ct"])
    with pytest.raises(Conflict, match="Nobody decides about themself"):
        decide(conn, request.id, "alice", True, None, "", AT)
    with pytest.raises(BadInput, match="end before it begins"):
        decide(conn, request.id, "dora", True, AT, "", AT)
    with pytest.raises(NotFound):
        decide(conn, request.id + 1, "dora", True, None, "", AT)
    assert list_requests(conn, ["ct"]) == [request]
    decide(conn, request.id, "dora", True, None, "", AT)
    with pytest.raises(Conflict, match="decided already"):
        decide(conn, request.id, "dora", False, None, "after all", AT)
    assert stands(conn) == State.TERMS


def test_one_asks_once_with_a_reason_for_what_there_is(conn):
    for reason in ("", "because", "x" * 2001):
        with pytest.raises(BadInput):
            ask_access(conn, "ct", "alice", reason, AT)
    with pytest.raises(NotFound):
        ask_access(conn, "nope", "alice", WHY, AT)
    ask_access(conn, "ct", "alice", WHY, AT)
    with pytest.raises(Conflict, match="asked for ct already"):
        ask_access(conn, "ct", "alice", WHY, AT)
    assert len(list_requests(conn, ["ct"])) == 1


def test_each_step_is_in_the_log(conn):
    ask_and_decide(conn)
    accept(conn, "ct", "alice", 1, AT)
    kinds = conn.execute(log_leaf.select().order_by(log_leaf.c.id)).all()
    assert [row.kind for row in kinds] == [
        "dataset",
        "access_asked",
        "dataset_grant",
        "access_decided",
        "terms_accepted",
    ]


# The page and the command line.


@pytest.fixture
def dataset(console):
    with console.db.write() as conn:
        ensure_dataset(conn, CT)
    return console


def post(client, **form):
    page = client.get("datasets").text
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page)
    token = xsrf[1] if xsrf else client.cookies.get("_xsrf", path="/services/console/")
    return client.post("datasets", data={"_xsrf": token, **form})


def test_a_person_asks_an_owner_grants_and_the_person_accepts(dataset):
    with dataset.browser("alice") as alice, dataset.browser("root", admin=True) as root:
        page = post(alice, do="ask", dataset="ct", reason=WHY)
        assert "its owner has not decided" in page.text
        waiting = root.get("datasets").text
        assert WHY in waiting
        request = re.search(r'name="request" value="(\d+)"', waiting)
        assert request is not None
        # Whoever does not own the data sees no request and decides none.
        assert WHY not in alice.get("datasets").text
        assert post(alice, do="grant", request=request[1]).status_code in (403, 404)
        assert post(root, do="grant", request=request[1], until="2099-12-31").status_code == 200
        assert "accept its terms" in alice.get("datasets").text
        refused = post(alice, do="accept", dataset="ct", version="1")
        assert (refused.status_code, "Tick that you have read" in refused.text) == (400, True)
        done = post(alice, do="accept", dataset="ct", version="1", agreed="yes")
        assert "Yours" in done.text and "2100-01-01" in done.text
        assert "If it ran already when you got access" in done.text


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"do": "fly"}, "nothing that can be done"),
        ({"do": "accept", "dataset": "ct", "agreed": "yes", "version": "x"}, "names no number"),
        ({"do": "ask", "dataset": "ct", "reason": "because"}, "Say for what you need it"),
    ],
)
def test_a_form_that_is_wrong_says_what_and_changes_nothing(dataset, form, says):
    with dataset.browser("alice") as alice:
        page = post(alice, **form)
        assert (page.status_code, says in page.text) == (400, True)
        assert "Ask for ct" in alice.get("datasets").text


def test_a_terminal_shows_the_datasets_the_terms_and_what_was_read(dataset):
    env = environment(dataset.url, dataset.server_token("alice"))
    listed = run(env, "data").stdout
    assert re.search(r"^ct +may be asked for +CT scans$", listed, re.M)
    assert "/services/console/datasets" in listed
    with dataset.db.write() as conn:
        grant(conn, "ct", "alice", now_us())
        accept(conn, "ct", "alice", 1, now_us())
    assert re.search(r"^ct +yours +CT scans$", run(env, "data").stdout, re.M)
    assert re.search(r"^Terms, v1 +Be kind\.$", run(env, "data", "ct").stdout, re.M)
    assert run(env, "data", "nope").returncode == 4
    audit = dataset.parts["audit"]
    file = {"dataset": "ct", "reads": 2, "bytes": 9000, "last_us": AT, "opens": 1}
    pages = {
        "": {"files": [{**file, "path": "a"}], "next": ["ct", "a"]},
        "a": {"files": [{**file, "path": "\x1b[2J"}], "next": None},
    }
    audit.answers["files"] = lambda query, _: pages[query.get("after_path", "")]
    read = run(env, "data", "--read", "ct").stdout
    assert read.splitlines()[-1] == "2 files, 18,000 bytes read"
    assert "\\x1b[2J" in read and "\x1b" not in read
