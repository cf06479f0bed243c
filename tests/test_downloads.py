"""What left for a browser: told by Jupyter, counted by the kernel, found by the rules."""

import asyncio
import json
import random
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from nightingale_hub.clock import now_us
from nightingale_hub.errors import Unavailable
from nightingale_hub.instance import downloads, served
from nightingale_hub.services.audit.detect.detector import Detector
from nightingale_hub.services.audit.sender import revoke
from nightingale_hub.tables.decoys import download
from nightingale_hub.tables.log import finding
from tests.audit import add_instance, audit_service, make_line
from tests.scenarios import HOUR, MIN, START, Person, World

RUN = "0123456789abcdef"
MIB = 1 << 20


@pytest.fixture
async def audit(database, tmp_path):
    async with audit_service(database, tmp_path / "state") as client:
        yield client


def entry(
    number: int, kind: str = "file", name: str = "out.tar", size: int = MIB, **more: Any
) -> dict[str, Any]:
    said = {"number": number, "kind": kind, "name": name, "requests": 1, "size": size}
    return {**said, "at_us": now_us(), **more}


async def tell(audit, sender, *entries, run=RUN, credential=None):
    return await audit.http.post(
        "api/downloads",
        json={"run": run, "downloads": list(entries)},
        headers={"Authorization": f"Bearer {credential or sender.credential}"},
    )


@pytest.mark.parametrize(
    ("path", "is_websocket", "key"),
    [
        ("files/a/b.tar", False, ("file", "a/b.tar")),
        ("files/%3Cimg%20onerror%3E", False, ("file", "<img onerror>")),
        ("nbconvert/pdf/a.ipynb", False, ("file", "pdf/a.ipynb")),
        ("api/contents/a.ipynb", False, ("file", "a.ipynb")),
        ("api/kernels/k1/channels", True, ("output", "kernels/k1")),
        ("terminals/websocket/1", True, ("output", "websocket/1")),
        ("proxy/6006/data/x", False, ("proxied", "6006")),
        ("proxy/6006/ws", True, ("proxied", "6006")),
        ("tensorboard/x", False, ("proxied", "tensorboard")),
        ("lab/tree/a", False, ("page", "")),
        ("api/kernels", False, ("page", "")),
        ("", False, ("page", "")),
    ],
)
def test_what_is_served_is_told_apart_by_where_it_is_served(path, is_websocket, key):
    assert served.classify(f"/user/ada/{path}", "/user/ada/", is_websocket) == key


def test_entries_stay_until_they_are_taken_and_names_are_bounded():
    tally = served.Tally()
    tally.note(("file", "a"), 5, 1)
    tally.note(("file", "a"), 7)
    [first] = tally.take(0)
    assert first == {"number": 1, "kind": "file", "name": "a", "requests": 1, "size": 12}
    for number in range(served.MOST_NAMES + 10):
        tally.note(("file", str(number)), 1, 1)
    entries = tally.take(0)
    assert entries[0] == first and len(entries) == served.MOST_NAMES + 2
    assert sum(each["size"] for each in entries) == 12 + served.MOST_NAMES + 10
    assert tally.take(entries[-1]["number"]) == []


async def test_bodies_and_websocket_messages_are_counted_to_the_byte(monkeypatch):
    class Large(RequestHandler):
        async def get(self, *_):
            for _chunk in range(4):
                self.write(b"x" * MIB)
                await self.flush()

    class Echo(WebSocketHandler):
        def on_message(self, message):
            self.write_message(b"y" * int(message), binary=True)

    monkeypatch.setattr(WebSocketHandler, "write_message", WebSocketHandler.write_message)
    tally = served.Tally()
    application = Application(
        [("/b/files/(.*)", Large), ("/b/proxy/1/", Large), ("/b/api/kernels/k/channels", Echo)]
    )
    application.add_transform(served._make_transform(tally, "/b/"))
    served.count_websockets(tally, "/b/")
    server = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    place = f"127.0.0.1:{sockets[0].getsockname()[1]}/b"
    client = AsyncHTTPClient()
    for path in ("files/x.tar", "files/x.tar", "proxy/1/"):
        answer = await client.fetch(f"http://{place}/{path}")
        assert len(answer.body) == 4 * MIB
    peer = await websocket_connect(f"ws://{place}/api/kernels/k/channels")
    await peer.write_message("300000")
    assert len(await peer.read_message() or "") == 300_000
    peer.close()
    server.stop()
    counted = {(each["kind"], each["name"]): each for each in tally.take(0)}
    assert {key: each["size"] for key, each in counted.items()} == {
        ("file", "x.tar"): 8 * MIB,
        ("proxied", "1"): 4 * MIB,
        ("output", "kernels/k"): 300_000,
    }
    assert counted["file", "x.tar"]["requests"] == 2


async def test_what_is_told_is_taken_once_and_answered_beside_what_the_kernel_counted(
    database, audit
):
    sender = add_instance(database)
    for _ in range(2):
        reply = await tell(
            audit, sender, entry(1), entry(2, "output", "kernels/k", 10), entry(3, "page", "", 99)
        )
        assert reply.status_code == 200, reply.text
    await tell(audit, sender, entry(1), run="f" * 16)  # the server was started again
    of_kernel: dict[str, Any] = {"act": "egress", "ds": "", "uid": 1000, "len": 3 * MIB}
    lines = [
        make_line(1, **of_kernel, path="hub", off=0),
        make_line(2, **of_kernel, path="hub", off=0),  # a kill had this part recorded twice
        make_line(3, **of_kernel, path="hub", off=3 * MIB),
        make_line(4, **of_kernel, path="other", off=0),
    ]
    await audit.send(sender, 1, lines)
    await audit.wait_indexed(sender, 4)
    left = await audit.ask("downloads", owner="alice")
    assert left["told"] == {
        "file": {"requests": 2, "bytes": 2 * MIB},
        "output": {"requests": 1, "bytes": 10},
        "page": {"requests": 1, "bytes": 99},
    }
    assert left["counted_bytes"] == 6 * MIB
    assert [(each["kind"], each["name"], each["bytes"]) for each in left["downloads"]] == [
        ("file", "out.tar", 2 * MIB),
        ("output", "kernels/k", 10),
    ]
    nothing = await audit.ask("downloads", owner="bob")
    assert nothing == {"told": {}, "counted_bytes": None, "downloads": []}


@pytest.mark.parametrize(
    "bad",
    [
        {"size": -1}, {"size": 2**60}, {"kind": "secret"}, {"name": "x" * 501}, {"name": None},
        {"number": 0}, {"number": 2**60}, {"more": 1}, {"at_us": "now"}, {"requests": 0.5},
    ],
)  # fmt: skip
async def test_what_is_malformed_is_refused_whole(database, audit, bad):
    sender = add_instance(database)
    reply = await tell(audit, sender, entry(1), {**entry(2), **bad})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_input")
    with database.read() as conn:
        assert conn.execute(select(download)).all() == []


async def test_only_an_instance_tells_and_only_of_itself(database, audit):
    sender, other = add_instance(database), add_instance(database, "bob")
    assert (await tell(audit, sender, entry(1), credential="x")).status_code == 403
    assert (await tell(audit, sender, entry(1), credential=other.credential)).status_code == 200
    with database.read() as conn:
        [row] = conn.execute(select(download)).all()
    assert (row.owner, row.instance_id) == ("bob", other.instance_id)
    with database.write() as conn:
        revoke(conn, other.instance_id, "eve", "stolen", now_us())
    assert (await tell(audit, other, entry(2))).status_code == 403


async def test_a_time_of_the_future_is_taken_for_now(database, audit):
    sender = add_instance(database)
    before = now_us()
    await tell(audit, sender, entry(1, at_us=before + 10 * HOUR), entry(2, at_us=0))
    with database.read() as conn:
        ahead, old = conn.execute(select(download.c.at_us).order_by(download.c.number)).scalars()
    assert before <= ahead <= now_us() and 0 < old < before


async def test_a_large_download_that_jupyter_tells_becomes_a_finding(database, audit):
    sender = add_instance(database)
    await tell(audit, sender, entry(1, "proxied", "6006", 2 << 30))
    found = None
    for _ in range(200):
        with database.read() as conn:
            found = conn.execute(select(finding).where(finding.c.kind == "R8")).one_or_none()
        if found:
            break
        await asyncio.sleep(0.05)
    assert found is not None and found.subject == "user:alice"
    assert "2.0 GiB left for your browser" in json.loads(found.evidence)["reason"]


def test_the_servers_own_pages_are_no_download():
    for kind, rules in (("page", set()), ("output", {"R8"})):
        detector = Detector(World(random.Random(1)))
        detector.note_out("alice", START, 2 << 30, kind)
        assert {each.rule for each in detector.tick(START + MIN)} == rules


def test_what_the_kernel_counted_and_jupyter_does_not_tell_is_a_finding():
    def play(told):
        world = World(random.Random(8))
        detector = Detector(world)
        [event, *_] = Person(world, "mallory", random.Random(8)).read(world.paths[0], START)
        sent = {"act": "egress", "ds": "", "path": "hub", "off": 0, "len": 800 * MIB}
        detector.feed([msgspec.structs.replace(event, **sent)], "i-1:b-1", START)
        detector.note_out("mallory", START, told, "page")
        return [
            found
            for minute in range(80)
            for found in detector.tick(START + minute * MIN)
            if found.rule == "A1"
        ]

    assert play(500 * MIB) == []
    [found] = play(10 * MIB)
    assert found.facts == {"counted_bytes": 800 * MIB, "told_bytes": 10 * MIB}
    assert found.until_us < START + 16 * MIN, "what is on its way is waited for"


class LaunchOfAda:
    audit_url, credential = "http://hub/", "c"

    def __init__(self):
        self.environment = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/", "JUPYTERHUB_API_TOKEN": "t"}


def test_the_agent_tells_each_entry_until_the_hub_has_it_and_passes_no_forgery_on(monkeypatch):
    served_now: Any = [entry(1), {"number": "2"}, [], {**entry(3), "size": "9"}]
    answers: dict[str, Any] = {"run": RUN, "served": served_now}
    posted: list[tuple[str, Any]] = []
    status = [503]
    agent = downloads.Downloads(LaunchOfAda(), 1)  # type: ignore[arg-type]  # what it needs of one

    def post(url, body, *_):
        posted.append((url, body))
        return status[0], {}

    monkeypatch.setattr(agent, "_ask", lambda: answers)
    monkeypatch.setattr(downloads, "post", post)
    with pytest.raises(Unavailable, match="503"):
        agent.look()
    status[0] = 200
    assert agent.look() == 1
    assert agent.look() == 0, "the hub has it"
    [(url, first), (_, again)] = posted
    assert url == "http://hub/downloads"
    assert [each["number"] for each in again["downloads"]] == [1]
    assert first["downloads"][0]["size"] == again["downloads"][0]["size"] == MIB
    answers["run"] = "f" * 16
    assert agent.look() == 1, "a server that was started again begins anew"
    answers["served"] = None
    with pytest.raises(Unavailable, match="does not say"):
        agent.look()
