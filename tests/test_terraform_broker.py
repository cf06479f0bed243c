"""The broker: runs share a provider's process, and never a configuration that is not theirs."""

import asyncio
import shlex
import sys
from pathlib import Path

import grpc
import pytest

from nightingale_hub.errors import TerraformFailed
from nightingale_hub.terraform.broker import Endpoint, Pool, cut_capabilities

PROVIDER = Path(__file__).parent / "terraform_provider.py"
PREFIX = "/tfplugin5.Provider/"


class Broker:
    """A pool over a provider that counts, and what it counted."""

    def __init__(self, folder: Path, sockets: Path, fault: str = "") -> None:
        self.counts = folder / "counts"
        program = folder / "provider"
        command = shlex.join([sys.executable, str(PROVIDER)])
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
        self.pool = Pool(program, {"COUNTS": str(self.counts), "FAULT": fault}, sockets)
        self.endpoints: list[tuple[Endpoint, grpc.aio.Channel]] = []

    async def attach(self) -> "Client":
        endpoint = Endpoint(self.pool)
        await endpoint.start()
        channel = grpc.aio.insecure_channel(f"unix:{endpoint.path}")
        self.endpoints.append((endpoint, channel))
        return Client(endpoint, channel)

    def list_calls(self, method: str = "") -> list[str]:
        lines = self.counts.read_text().splitlines() if self.counts.exists() else []
        return [line for line in lines if line.endswith(method)]

    async def close(self) -> None:
        for endpoint, channel in self.endpoints:
            await channel.close()
            await endpoint.close()
        await self.pool.close()


class Client:
    """Terraform, as the broker sees it."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel) -> None:
        self.endpoint = endpoint
        self.channel = channel

    async def call(self, method: str, request: bytes = b"") -> bytes:
        reply: bytes = await self.channel.unary_unary(PREFIX + method)(request)
        return reply

    async def pid(self) -> bytes:
        return (await self.call("ReadResource")).split()[0]


@pytest.fixture
async def broker(tmp_path, tmp_path_factory):
    one = Broker(tmp_path, tmp_path_factory.mktemp("s"))
    yield one
    await one.close()


async def test_equal_configurations_share_a_process_and_are_configured_once(broker):
    one, two = await broker.attach(), await broker.attach()
    await asyncio.gather(one.call("Configure", b"a"), two.call("Configure", b"a"))
    assert await one.pid() == await two.pid()
    assert len(broker.list_calls("/Configure")) == 1


async def test_another_configuration_gets_a_process_of_its_own(broker):
    one, two = await broker.attach(), await broker.attach()
    await one.call("Configure", b"account 1")
    await two.call("Configure", b"account 2")
    assert await one.pid() != await two.pid()
    # One that is not configured yet takes the first, in whatever order they came.
    assert len({line.split()[0] for line in broker.list_calls("/Configure")}) == 2


async def test_a_run_may_not_change_its_configuration(broker):
    one = await broker.attach()
    await one.call("Configure", b"account 1")
    with pytest.raises(grpc.aio.AioRpcError, match="in two ways"):
        await one.call("Configure", b"account 2")


async def test_what_depends_on_the_request_alone_is_asked_once(broker):
    one, two = await broker.attach(), await broker.attach()
    for each in (one, two, one):
        await each.call("GetSchema", b"")
        await each.call("ValidateResourceTypeConfig", b"x")
    await one.call("ValidateResourceTypeConfig", b"y")
    assert len(broker.list_calls("/GetSchema")) == 1
    assert len(broker.list_calls("/ValidateResourceTypeConfig")) == 2


async def test_a_plan_is_never_answered_from_memory(broker):
    one = await broker.attach()
    for _ in range(2):
        await one.call("PlanResourceChange", b"x")
    assert len(broker.list_calls("/PlanResourceChange")) == 2


async def test_a_cancelled_run_stops_no_other(broker):
    one = await broker.attach()
    assert await one.call("Stop") == b""
    assert broker.list_calls("/Stop") == []


async def test_the_providers_own_refusal_reaches_the_run(broker):
    one = await broker.attach()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await one.call("ReadResource", b"broken")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "it is broken"


async def test_a_failed_configure_is_tried_anew_in_a_new_process(broker):
    one = await broker.attach()
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError, match="it is broken"):
            await one.call("Configure", b"broken")
    assert len({line.split()[0] for line in broker.list_calls("/Configure")}) == 2


async def test_what_a_killed_run_asked_for_is_brought_to_its_end(broker, tmp_path):
    one = await broker.attach()
    waits_for = tmp_path / "go"
    asked = asyncio.ensure_future(one.call("Hang", str(waits_for).encode()))
    while not broker.list_calls("/Hang"):
        await asyncio.sleep(0.02)
    asked.cancel()
    await one.channel.close()
    closing = asyncio.create_task(one.endpoint.close())
    await asyncio.sleep(0.1)
    assert not closing.done()
    waits_for.touch()
    await asyncio.wait_for(closing, 10)
    assert Path(f"{waits_for}.done").exists()


async def test_an_old_process_serves_its_runs_to_the_end_and_takes_no_new_one(broker):
    one = await broker.attach()
    await one.call("Configure", b"a")
    await broker.pool.tidy(idle_s=600, age_s=-1, calls=1000)
    two = await broker.attach()
    await two.call("Configure", b"a")
    old, new = await one.pid(), await two.pid()
    assert old != new
    await one.endpoint.close()
    await broker.pool.tidy(idle_s=600, age_s=600, calls=1000)
    assert [str(each.provider.process.pid).encode() for each in broker.pool.members] == [new]


async def test_a_process_that_died_is_replaced(broker):
    one = await broker.attach()
    await one.call("Configure", b"a")
    broker.pool.members[0].provider.process.kill()
    await broker.pool.members[0].provider.process.wait()
    with pytest.raises(grpc.aio.AioRpcError):
        await one.pid()
    two = await broker.attach()
    await two.call("Configure", b"a")
    assert await two.pid()


async def test_a_provider_that_says_no_address_is_refused(tmp_path, tmp_path_factory):
    broken = Broker(tmp_path, tmp_path_factory.mktemp("s"), "silent")
    with pytest.raises(TerraformFailed, match="said no address but b'hello"):
        await broken.attach()
    await broken.close()


def test_capabilities_are_no_part_of_a_configuration():
    plain = b"\n\x061.11.4\x12\x02\xde\x00"
    assert cut_capabilities(plain + b"\x1a\x02\x10\x01") == plain
    assert cut_capabilities(plain + b"\x1a\x04\x08\x01\x10\x01") == plain
    assert cut_capabilities(plain) == plain
    assert cut_capabilities(b"\x08\x01") == b"\x08\x01"  # not as we know it
