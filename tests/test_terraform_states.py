"""The state backend: locks with owners, a ticket for one path, encryption, the last versions."""

import json

import httpx
import pytest
from sqlalchemy import func, select
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from nightingale_hub.errors import Conflict
from nightingale_hub.tables.terraform import terraform_state
from nightingale_hub.terraform.backend import StateHandler
from nightingale_hub.terraform.states import (
    ELSEWHERE_US,
    KEPT_VERSIONS,
    find_state,
    issue_ticket,
    remove_state,
    withdraw_tickets,
)

KEY = b"k" * 32
PATH = "instance/i-0123456789ab"
LOCK = json.dumps({"ID": "one", "Who": "root@here"})


class Backend:
    """The backend on a socket, asked with a ticket."""

    def __init__(self, database, http):
        self.database = database
        self.http = http
        self.ticket = self.issue(PATH)

    def issue(self, path, machine="here", at_us=1):
        return self.database.transact(lambda c: issue_ticket(c, path, machine, at_us)).secret

    async def ask(self, method, body="", path=PATH, ticket=None, **query):
        return await self.http.request(
            method,
            f"/state/{path}",
            content=body.encode(),
            params=query,
            auth=("run", self.ticket if ticket is None else ticket),
        )


@pytest.fixture
async def backend(database):
    server = HTTPServer(Application([(r"/state/(.+)", StateHandler, {"db": database, "key": KEY})]))
    socket, port = bind_unused_port()
    server.add_sockets([socket])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        yield Backend(database, http)
    server.stop()
    await server.close_all_connections()


async def test_a_state_is_kept_and_given_back(backend):
    assert (await backend.ask("GET")).status_code == 404
    text = '{"version": 4, "serial": 1}'
    assert (await backend.ask("POST", text)).status_code == 200
    assert (await backend.ask("GET")).text == text


async def test_one_run_at_a_time_has_the_lock_and_the_second_learns_who(backend):
    assert (await backend.ask("LOCK", LOCK)).status_code == 200
    assert (await backend.ask("LOCK", LOCK)).status_code == 200  # asked again by the same
    second = await backend.ask("LOCK", '{"ID": "two"}')
    assert (second.status_code, second.text) == (423, LOCK)
    refused = await backend.ask("POST", '{"version": 4}', ID="two")
    assert (refused.status_code, refused.text) == (409, LOCK)
    assert (await backend.ask("GET")).status_code == 404
    assert (await backend.ask("POST", '{"version": 4}', ID="one")).status_code == 200
    assert (await backend.ask("UNLOCK", '{"ID": "two"}')).status_code == 409
    assert (await backend.ask("UNLOCK", LOCK)).status_code == 200
    assert (await backend.ask("UNLOCK", LOCK)).status_code == 200
    assert (await backend.ask("LOCK", '{"ID": "two"}')).status_code == 200


async def test_a_ticket_opens_one_path_and_nothing_opens_another(backend):
    other = backend.issue("instance/i-other")
    for method, body in [("GET", ""), ("POST", '{"version": 4}'), ("LOCK", LOCK), ("UNLOCK", LOCK)]:
        for ticket in (other, "", "0" * 64):
            assert (await backend.ask(method, body, ticket=ticket)).status_code == 403
    answer = await backend.http.get(f"/state/{PATH}")
    assert answer.status_code == 403


async def test_a_lock_is_dropped_with_its_owner_who_can_then_write_no_more(backend):
    dead = backend.ticket
    await backend.ask("LOCK", LOCK)
    backend.ticket = backend.issue(PATH)
    assert (await backend.ask("POST", '{"version": 4}', ticket=dead, ID="one")).status_code == 403
    assert (await backend.ask("LOCK", '{"ID": "two"}')).status_code == 200


async def test_a_run_on_another_machine_is_waited_for(backend):
    with pytest.raises(Conflict, match="another machine"):
        backend.issue(PATH, "there", 2)
    assert (await backend.ask("GET")).status_code == 404  # the first's ticket still opens
    assert backend.issue(PATH, "there", 2 + ELSEWHERE_US)
    assert (await backend.ask("GET")).status_code == 403


async def test_a_run_that_is_over_leaves_another_machine_nothing_to_wait_for(backend):
    backend.database.transact(lambda conn: withdraw_tickets(conn, PATH))
    assert backend.issue(PATH, "there", 2)


async def test_the_last_versions_are_kept_and_none_can_be_read_in_the_database(backend):
    for serial in range(KEPT_VERSIONS + 3):
        await backend.ask("POST", json.dumps({"version": 4, "serial": serial, "x": "hush"}))
    with backend.database.read() as conn:
        rows = conn.execute(select(terraform_state.c.content)).scalars().all()
        assert len(rows) == KEPT_VERSIONS
        assert conn.execute(select(func.min(terraform_state.c.version))).scalar() == 4
        newest = find_state(conn, KEY, PATH)
    assert newest is not None and json.loads(newest)["serial"] == KEPT_VERSIONS + 2
    assert not any(b"hush" in row or b"serial" in row for row in rows)


async def test_a_removed_state_leaves_nothing(backend):
    await backend.ask("POST", '{"version": 4}')
    backend.database.transact(lambda conn: remove_state(conn, PATH))
    assert (await backend.ask("GET")).status_code == 403
    with backend.database.read() as conn:
        assert find_state(conn, KEY, PATH) is None


@pytest.mark.parametrize("body", ["", "[]", "{}", "{" * 9999, '"version"', "\udcff"])
@pytest.mark.parametrize("method", ["POST", "LOCK"])
async def test_what_is_no_state_and_no_lock_changes_nothing(backend, method, body):
    answer = await backend.http.request(
        method,
        f"/state/{PATH}",
        content=body.encode(errors="surrogateescape"),
        auth=("run", backend.ticket),
    )
    assert answer.status_code == 400
    assert (await backend.ask("GET")).status_code == 404
    assert (await backend.ask("LOCK", LOCK)).status_code == 200
