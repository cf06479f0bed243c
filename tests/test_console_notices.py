"""The console's page of notices and ways, and the API by which a program tells its person."""

import httpx
import pytest

from nightingale_hub.clock import now_us
from nightingale_hub.notices import Kind, add_notice, list_notices
from nightingale_hub.services.console.channels import list_channels
from tests.test_console import ask, xsrf_of

EVIL = "<img src=x onerror=alert(1)>\u202e\x1b[31m"


@pytest.fixture
def nobody_told(console):
    yield console
    with console.db.write() as conn:
        for table in ("notice_delivery", "notice_channel", "notice"):
            conn.exec_driver_sql(f"DELETE FROM {table}")


@pytest.fixture
def alice(nobody_told):
    with nobody_told.browser("alice") as client:
        yield client


def tell(console, owner="alice", subject="A run ended", body="", key="k"):
    with console.db.write() as conn:
        add_notice(conn, owner, Kind.ERROR, subject, body, key, now_us())


def submit(alice: httpx.Client, **fields: object) -> httpx.Response:
    form = {"_xsrf": xsrf_of(alice.get("notices")), **fields}
    return alice.post("notices", data=form)


def channels(console, owner="alice"):
    with console.db.read() as conn:
        return list_channels(conn, owner)


def test_what_others_wrote_is_inert_and_anothers_is_not_there(nobody_told, alice):
    tell(nobody_told, subject=EVIL, body=f"one\n{EVIL}")
    tell(nobody_told, "bob", "bob's own", key="k2")
    page = alice.get("notices").text
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e\\x1b[31m" in page
    assert "<img src=x" not in page and "\x1b" not in page
    assert "bob" not in page


def test_a_webhook_is_added_its_key_shown_once_and_removed(nobody_told, alice):
    fields = {"do": "add", "way": "webhook", "address": "https://example.org/hook", "kind": "run"}
    page = submit(alice, **fields)
    assert "shown this once" in page.text
    assert "shown this once" not in alice.get("notices").text
    [row] = channels(nobody_told)
    assert (row.way, row.label, row.kinds) == ("webhook", "https://example.org/…", '["run"]')
    submit(alice, do="remove", channel=row.id)
    assert channels(nobody_told) == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"do": "add", "way": "webhook", "address": "file:///etc/passwd", "kind": "run"}, 400),
        ({"do": "add", "way": "webhook", "address": "https://example.org"}, 400),
        ({"do": "remove", "channel": "999"}, 404),
        ({"do": "remove", "channel": "1; DROP"}, 400),
        ({"do": "everything"}, 400),
        ({}, 400),
    ],
)
def test_a_wrong_form_is_explained_and_changes_nothing(nobody_told, alice, fields, status):
    assert submit(alice, **fields).status_code == status
    assert channels(nobody_told) == []


def test_a_form_from_another_site_adds_nothing(nobody_told, alice):
    fields = {"do": "add", "way": "webhook", "address": "https://example.org/", "kind": "run"}
    assert alice.post("notices", data=fields).status_code == 403
    assert channels(nobody_told) == []


def test_a_program_tells_its_own_person(nobody_told):
    nobody_told.launch("alice")
    token = nobody_told.server_token("alice")
    body = {"subject": "Epoch 3 done", "body": "loss 0.1"}
    reply = post(nobody_told, token, body)
    assert reply.json() == {"told": True, "ways": []}
    told = ask(nobody_told, "notices", token).json()["notices"]
    assert [(each["kind"], each["subject"]) for each in told] == [("run", "Epoch 3 done")]
    assert ask(nobody_told, "notices", token, after=str(told[0]["id"])).json()["notices"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": ""},
        {"subject": 7},
        {"subject": "x" * 201},
        {"subject": "x", "body": "y" * 4001},
        {"subject": "x", "body": []},
        {"subject": "x", "kind": "security"},
    ],
)
def test_what_is_no_notice_is_refused(nobody_told, body):
    nobody_told.launch("alice")
    reply = post(nobody_told, nobody_told.server_token("alice"), body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_input")
    with nobody_told.db.read() as conn:
        assert list_notices(conn, "alice") == []


def post(console, token, body):
    return httpx.post(
        f"{console.url}api/notices",
        headers={"Authorization": f"Bearer {token}"},
        json=body,
        trust_env=False,
        timeout=20,
    )
