"""The provider broker: many Terraform runs share one process of a provider.

A provider is most of what a run costs: hundreds of MB, and seconds of CPU to say its schema and
to check its own configuration. The broker stands between, passing raw bytes on. What depends on
the request alone (schema, validation) is answered from memory; equal `Configure` calls are joined.
One provider process serves one (binary, environment, exact Configure): another configuration
would silently replace the first, and a run would work in the wrong account.
`Stop` is swallowed: it would break off every run of the process, not only the one cancelled.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from nightingale_hub.errors import TerraformFailed
from nightingale_hub.terraform.provider import Provider, pick_environment, start_provider

log = logging.getLogger("nightingale")
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CONFIGURE = {"Configure", "ConfigureProvider"}
# Pure functions of their request.
CACHED = {
    "GetSchema",
    "GetProviderSchema",
    "GetMetadata",
    "GetResourceIdentitySchemas",
    "GetFunctions",
    "PrepareProviderConfig",
    "ValidateProviderConfig",
    "ValidateResourceTypeConfig",
    "ValidateResourceConfig",
    "ValidateDataSourceConfig",
    "ValidateDataResourceConfig",
}
CACHED_AT_MOST = 2000
DIGEST = hashlib.sha256


@dataclass(eq=False)
class Shared:
    """A provider process with what it has answered and who uses it."""

    provider: Provider
    channel: Any
    started_s: float
    configured: bytes | None = None  # hash of its one Configure
    answer: bytes = b""  # to that Configure
    calls: int = 0
    users: set[str] = field(default_factory=set)
    idle_since_s: float = 0.0
    is_retired: bool = False


class Pool:
    """The processes of one provider binary in one environment."""

    def __init__(self, binary: Path, environment: Mapping[str, str], sockets: Path) -> None:
        """Prepare to start *binary*; starts nothing yet."""
        self.binary = binary
        self.environment = pick_environment(environment)
        self.sockets = sockets
        self.members: list[Shared] = []
        self.counts: Counter[str] = Counter()
        self._cache: dict[tuple[str, bytes], bytes] = {}
        self._locks: dict[tuple[str, bytes], asyncio.Lock] = {}
        self._starting = asyncio.Lock()

    async def find_any(self) -> Shared:
        """Return a live process for a call that no configuration matters to."""
        async with self._starting:
            alive = [each for each in self.members if each.provider.is_alive]
            return alive[0] if alive else await self._start()

    async def configure(self, endpoint: "Endpoint", method: str, request: bytes) -> bytes:
        """Bind *endpoint* to the process of exactly this configuration and return its answer."""
        digest = DIGEST(cut_capabilities(request)).digest()
        async with self._lock((method, digest)):
            shared = endpoint.shared
            if shared is None:
                shared = await self._find_for(digest)
            if shared.configured is None:
                shared.configured = digest
                try:
                    self.counts["Configure:up"] += 1
                    shared.answer = await call(shared, method, request)
                except BaseException:
                    # Half configured is of no further use to anyone.
                    shared.is_retired = True
                    raise
            if shared.configured != digest:
                raise TerraformFailed(
                    "a run configures its provider in two ways; through the broker it may have one"
                )
            endpoint.shared = shared
            shared.users.add(endpoint.name)
            return shared.answer

    async def answer(self, endpoint: "Endpoint", method: str, request: bytes) -> bytes:
        """Return the provider's answer to any other call, from memory where that is safe."""
        key = (method.rpartition("/")[2], DIGEST(request).digest())
        if key[0] not in CACHED:
            shared = endpoint.shared or await self.find_any()
            # Terraform may be killed; what it asked the cloud for is then brought to its end, so
            # that whoever looks afterwards sees all that there will be.
            task = asyncio.create_task(call(shared, method, request))
            endpoint.in_flight.add(task)
            task.add_done_callback(endpoint.in_flight.discard)
            return await asyncio.shield(task)
        async with self._lock(key):
            if key not in self._cache:
                self.counts[f"{key[0]}:up"] += 1
                if len(self._cache) >= CACHED_AT_MOST:
                    self._cache.clear()
                self._cache[key] = await call(
                    endpoint.shared or await self.find_any(), method, request
                )
            return self._cache[key]

    def release(self, endpoint: "Endpoint") -> None:
        """Forget *endpoint*, whose run is over."""
        for shared in self.members:
            shared.users.discard(endpoint.name)
            if not shared.users:
                shared.idle_since_s = time.monotonic()

    async def tidy(self, idle_s: float, age_s: float, calls: int) -> None:
        """End what is unused for *idle_s*; retire what is old or has served many *calls*.

        A retired process serves its runs to their end, and a new one takes the next.
        """
        now = time.monotonic()
        for shared in list(self.members):
            if now - shared.started_s > age_s or shared.calls > calls:
                shared.is_retired = True
            is_idle = not shared.users and now - shared.idle_since_s > idle_s
            is_over = shared.is_retired and not shared.users
            if is_idle or is_over or not shared.provider.is_alive:
                self.members.remove(shared)
                await _close(shared)

    async def close(self) -> None:
        """End every process."""
        members, self.members = self.members, []
        await asyncio.gather(*map(_close, members))

    async def _find_for(self, digest: bytes) -> Shared:
        async with self._starting:
            usable = [
                each for each in self.members if each.provider.is_alive and not each.is_retired
            ]
            for wanted in (digest, None):
                for shared in usable:
                    if shared.configured == wanted:
                        return shared
            return await self._start()

    async def _start(self) -> Shared:
        provider = await start_provider(self.binary, self.sockets, self.environment)
        channel = grpc.aio.insecure_channel(provider.address, options=UNLIMITED)
        now = time.monotonic()
        shared = Shared(provider, channel, now, idle_since_s=now)
        self.members.append(shared)
        log.info("provider %s started, pid %d", self.binary.name, provider.process.pid)
        return shared

    def _lock(self, key: tuple[str, bytes]) -> asyncio.Lock:
        if len(self._locks) >= CACHED_AT_MOST:
            self._locks = {k: each for k, each in self._locks.items() if each.locked()}
        return self._locks.setdefault(key, asyncio.Lock())


class Endpoint(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
    """The socket that one run takes for its provider."""

    def __init__(self, pool: Pool) -> None:
        """Serve *pool*'s provider to one run; `start` opens the socket."""
        self.pool = pool
        self.name = secrets.token_hex(6)
        self.shared: Shared | None = None
        self.path = pool.sockets / f"{self.name}.sock"
        self.in_flight: set[asyncio.Task[bytes]] = set()
        self._server = grpc.aio.server(options=UNLIMITED)
        self._server.add_generic_rpc_handlers((self,))

    async def start(self) -> int:
        """Open the socket and return the plugin protocol's version."""
        any_of = await self.pool.find_any()
        self._server.add_insecure_port(f"unix:{self.path}")
        await self._server.start()
        return any_of.provider.protocol_version

    async def close(self) -> None:
        """Close the socket; the provider stays for others."""
        await self._server.stop(None)
        self.path.unlink(missing_ok=True)
        await asyncio.gather(*self.in_flight, return_exceptions=True)
        self.pool.release(self)

    def service(self, details: Any) -> Any:
        """Return what answers a call: grpc asks this once for each."""
        if not details.method.startswith("/tfplugin"):
            return None  # go-plugin's own services: optional, and not of the provider

        async def forward(request: bytes, context: Any) -> bytes:
            return await self._forward(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(forward)

    async def _forward(self, method: str, request: bytes, context: Any) -> bytes:
        short = method.rpartition("/")[2]
        self.pool.counts[short] += 1
        if short in ("Stop", "StopProvider"):
            return b""  # an answer without an error
        try:
            if short in CONFIGURE:
                return await self.pool.configure(self, method, request)
            return await self.pool.answer(self, method, request)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        except TerraformFailed as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        raise AssertionError("abort raises")


def cut_capabilities(request: bytes) -> bytes:
    """Return a Configure request without its third field, the client's capabilities.

    They differ between the planning and the applying of one run, and configure nothing.
    ref: https://github.com/hashicorp/terraform/blob/main/docs/plugin-protocol/tfplugin5.proto
    """
    kept, position = b"", 0
    while position < len(request):
        start, tag = position, request[position]
        length, shift, position = 0, 0, position + 1
        while True:
            if tag & 7 != 2 or position >= len(request):
                return request  # not as we know it: exact bytes, then
            byte = request[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        position += length
        if tag >> 3 != 3:
            kept += request[start:position]
    return kept


async def call(shared: Shared, method: str, request: bytes) -> bytes:
    """Return the process's answer, byte for byte."""
    shared.calls += 1
    reply: bytes = await shared.channel.unary_unary(method)(request)
    return reply


async def _close(shared: Shared) -> None:
    await shared.channel.close()
    await shared.provider.end()
