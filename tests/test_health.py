"""Whether a server answers is found by asking it, within a limit; real servers stand in."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from tornado.iostream import StreamClosedError
from tornado.tcpserver import TCPServer
from tornado.testing import bind_unused_port

from nightingale_hub.probe import probe
from nightingale_hub.services.metering.line import Line
from nightingale_hub.services.metering.meter import Meter
from nightingale_hub.services.metering.service import make
from tests.record import BOOT, S, add_instance, list_segments
from tests.serving import make_context, serving


@asynccontextmanager
async def answering(reply):
    """A server on a port of its own that sends *reply* to whoever asks; None: never answers."""
    asked = []

    class Server(TCPServer):
        async def handle_stream(self, stream, address):
            try:
                asked.append((await stream.read_until(b"\r\n\r\n")).decode())
                if reply is None:
                    await stream.read_until_close()
                await stream.write(reply)
                await stream.read_until_close()
            except StreamClosedError:
                pass

    server = Server()
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        yield port, asked
    finally:
        server.stop()


def reply(nonce, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nX-Nightingale-Instance: {nonce}\r\n\r\n".encode()


async def test_only_the_server_that_we_started_counts_as_healthy(database):
    socket, unused = bind_unused_port()
    socket.close()
    async with (
        answering(reply("mine")) as (healthy, asked),
        answering(reply("another's")) as (stranger, _),
        answering(None) as (hanging, _),
        serving("metering", database, make) as (client, service),
    ):
        ports = {"i-ok": healthy, "i-stranger": stranger, "i-hangs": hanging, "i-gone": unused}
        with database.write() as conn:
            for key, port in ports.items():
                base = "/base/user/al%20ice/"
                add_instance(conn, key, port=port, api_nonce="mine", base_url=base)
            add_instance(conn, "i-bob", owner="bob", actual="booting", port=None)
        await service.loops[0].step()
        [meter, *_] = [each["meter"] for *_, each in service.routes if "meter" in each]
        await meter.watch.settle()
        answer = (await client.get("live", owner="alice")).json()["instances"]
        everyone = (await client.get("live")).json()["instances"]
    health = {each["instance_id"]: (each["healthy"], each["missed"]) for each in answer}
    assert health == {
        "i-ok": (True, 0),
        "i-stranger": (False, 1),
        "i-hangs": (False, 1),
        "i-gone": (False, 1),
    }
    assert asked[0].startswith("GET /base/user/al%20ice/api HTTP/1.1\r\n")
    assert len(everyone) == 5
    with database.read() as conn:
        for key in ports:
            assert list_segments(conn, key) == [(BOOT, 100 * S, None, "")], "pending, never free"


async def test_a_server_that_hangs_delays_no_other_answer(database):
    meter = Meter(make_context("metering", database))
    async with answering(None) as (hanging, _), answering(reply("mine")) as (healthy, asked):
        with database.write() as conn:
            add_instance(conn, port=hanging)
            add_instance(conn, "i-ok", port=healthy, api_nonce="mine")
        try:
            async with asyncio.timeout(10):
                while len(asked) < 3:
                    await meter.step()
                    await asyncio.sleep(0.01)
            health = meter.watch.find("i-ok")
            assert health is not None and health.missed == 0
        finally:
            await meter.watch.stop()


@pytest.mark.parametrize(
    "answer",
    [
        reply("mine", "503 Service Unavailable"),
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"X-Nightingale-Instance: mine\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\nX-Nightingale-Instance: mine\r\n\r\n",
        b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_answer_of_ours_is_unhealthy(answer):
    async with answering(answer) as (port, _):
        assert not await probe("127.0.0.1", port, "/", "mine")


async def test_a_silent_server_costs_no_more_than_the_limit():
    async with answering(None) as (port, _), asyncio.timeout(5):
        assert not await probe("127.0.0.1", port, "/", "mine", timeout_s=0.1)


async def _ask_line(port, times=1):
    """Ask over one line *times* times; return the answers."""
    answers: list[bool] = []
    line = Line("127.0.0.1", port, "/", "mine", answers.append)
    for number in range(times):
        line.ask()
        async with asyncio.timeout(10):
            while len(answers) <= number:
                line.expire()
                await asyncio.sleep(0.005)
    line.close()
    await asyncio.sleep(0)
    return answers


@asynccontextmanager
async def keeping(replies_per_connection, body=b"{}"):
    """A server that answers so often on each connection, then closes it; counts connections."""
    connections = []

    class Server(TCPServer):
        async def handle_stream(self, stream, address):
            connections.append(address)
            head = f"X-Nightingale-Instance: mine\r\nContent-Length: {len(body)}\r\n\r\n"
            try:
                for _ in range(replies_per_connection):
                    await stream.read_until(b"\r\n\r\n")
                    await stream.write(b"HTTP/1.1 200 OK\r\n" + head.encode())
                    await stream.write(body)
            except StreamClosedError:
                pass
            stream.close()

    server = Server()
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        yield port, connections
    finally:
        server.stop()


async def test_a_connection_is_kept_from_question_to_question():
    async with keeping(100, b"x" * 100_000) as (port, connections):
        assert await _ask_line(port, 5) == [True] * 5
    assert len(connections) == 1


async def test_a_connection_that_was_closed_meanwhile_is_no_missed_answer():
    async with keeping(1) as (port, connections):
        assert await _ask_line(port, 3) == [True] * 3
    assert len(connections) == 3


@pytest.mark.parametrize(
    "answer",
    [
        reply("another's"),
        reply("mine", "503 Service Unavailable"),
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\nX-Nightingale-Instance: mine\r\n\r\n",
        b"a" * 100_000 + b"\r\n\r\n",
        None,
    ],
)
async def test_a_line_takes_nothing_else_for_an_answer_of_ours(answer):
    async with answering(answer) as (port, _):
        assert await _ask_line(port, 2) == [False, False]
