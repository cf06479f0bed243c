"""The process that runs lean on: state backend and provider broker, on one loopback port.

It outlives the supervisor that started it, and the next one adopts it from `keeper.json`; when it
is killed, its successor takes the same port, which a run's Terraform asks again until then.
`python -m nightingale_hub.terraform.keeper`, with the hub's settings in the environment.
"""

import asyncio
import hmac
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from nightingale_hub.database import Database
from nightingale_hub.durable import find_json, save_json
from nightingale_hub.errors import NightingaleError, TerraformFailed
from nightingale_hub.processes import end_all, find_identity, list_marked
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.terraform.backend import StateHandler
from nightingale_hub.terraform.broker import Endpoint, Pool
from nightingale_hub.terraform.run import Phase, Run

log = logging.getLogger("nightingale")
TIDY_PAUSE_S = 2.0
# A run that has not shown its launcher by then will not.
LAUNCHER_SHOWS_WITHIN_S = 60.0
PROVIDER_IDLE_S = 600.0
PROVIDER_AGE_S = 6 * 3600.0
PROVIDER_CALLS = 20_000
ENDS_UNUSED_AFTER_S = 1800.0
# Each provider has it in its environment, with the directory of its sockets.
MARK = "PLUGIN_UNIX_SOCKET_DIR"


class Keeper:
    """The pools of providers, and the runs that have a socket into one."""

    def __init__(self, sockets: Path) -> None:
        """Keep every socket in *sockets*, which only we may enter."""
        self.sockets = sockets
        self.pools: dict[str, Pool] = {}
        self.endpoints: dict[str, tuple[Endpoint, Path, float]] = {}
        self.used_s = time.monotonic()

    async def open(self, binary: Path, environment: dict[str, str], run: Path) -> dict[str, Any]:
        """Open a socket for the run that is about to start in *run*; return how to attach.

        Waits until all that an earlier run of its workspace asked the cloud for is done.
        """
        self.used_s = time.monotonic()
        await self._close_where(lambda other, _: other.parent == run.parent)
        key = json.dumps([str(binary), sorted(environment.items())])
        pool = self.pools.setdefault(key, Pool(binary, environment, self.sockets))
        endpoint = Endpoint(pool)
        version = await endpoint.start()
        self.endpoints[endpoint.name] = (endpoint, run, time.monotonic())
        return {
            "Protocol": "grpc",
            "ProtocolVersion": version,
            "Pid": os.getpid(),
            "Test": True,  # whoever attaches leaves the process alone
            "Addr": {"Network": "unix", "String": str(endpoint.path)},
        }

    async def tidy(self) -> None:
        """Close the sockets of runs that are over, and end providers that nobody needs."""
        now = time.monotonic()
        await self._close_where(lambda run, opened_s: _is_over(run, now - opened_s))
        for pool in self.pools.values():
            await pool.tidy(PROVIDER_IDLE_S, PROVIDER_AGE_S, PROVIDER_CALLS)
        if self.endpoints:
            self.used_s = now

    async def _close_where(self, is_over: Callable[[Path, float], bool]) -> None:
        """Close the sockets of runs that are over, once all that they asked for is done."""
        over = [n for n, (_, run, opened_s) in self.endpoints.items() if is_over(run, opened_s)]
        await asyncio.gather(*(self.endpoints[name][0].close() for name in over))
        for name in over:
            self.endpoints.pop(name, None)

    async def close(self) -> None:
        """Close every socket and end every provider."""
        for endpoint, _, _ in self.endpoints.values():
            await endpoint.close()
        await asyncio.gather(*(pool.close() for pool in self.pools.values()))


class _ControlHandler(RequestHandler):
    """What the supervisor asks, with the token of `keeper.json`."""

    def initialize(self, keeper: Keeper, token: str) -> None:
        self.keeper = keeper
        self.token = token

    def check_xsrf_cookie(self) -> None:
        """Need nothing: the token comes in a header."""

    def prepare(self) -> None:
        """Let only the supervisor pass."""
        sent = self.request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(sent.encode(), self.token.encode()):
            self.set_status(403)
            self.finish({"error": "only the supervisor may ask this"})


class StatusHandler(_ControlHandler):
    """Whether it answers, and how often the broker was asked."""

    def get(self) -> None:
        """Reply counts of calls, providers' pids and open runs."""
        self.keeper.used_s = time.monotonic()
        pools = list(self.keeper.pools.values())
        members = [member for pool in pools for member in pool.members]
        self.finish(
            {
                "pid": os.getpid(),
                "runs": len(self.keeper.endpoints),
                "providers": [member.provider.process.pid for member in members],
                "calls": dict(sum((pool.counts for pool in pools), start=Counter())),
            }
        )


class EndpointHandler(_ControlHandler):
    """Opens a run's socket into a provider."""

    async def post(self) -> None:
        """Reply what belongs into `TF_REATTACH_PROVIDERS`; 503 when the provider does not start."""
        body = json.loads(self.request.body)
        try:
            reply = await self.keeper.open(
                Path(body["binary"]), body["environment"], Path(body["run"])
            )
        except TerraformFailed as error:
            self.set_status(503)
            reply = {"error": str(error)}
        self.finish(reply)


def _is_over(run: Path, age_s: float) -> bool:
    if not (run / "pid.json").exists():  # to look would revoke it
        return age_s > LAUNCHER_SHOWS_WITHIN_S
    return Run(run).look() is not Phase.RUNNING


async def serve(settings: NightingaleHub, port: int | None) -> None:
    """Serve until told to end, or until nobody asked for a long time."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    path = settings.state_path / "terraform" / "keeper.json"
    sockets = Path(tempfile.mkdtemp(prefix="nh-keeper-"))  # short, and 0700
    keeper, token, db = Keeper(sockets), secrets.token_hex(32), Database(settings.db_url)
    control = {"keeper": keeper, "token": token}
    application = Application(
        [
            (r"/state/(.+)", StateHandler, {"db": db, "key": settings.secret_key()}),
            (r"/status", StatusHandler, control),
            (r"/endpoints", EndpointHandler, control),
        ]
    )
    server = HTTPServer(application, max_body_size=64 << 20)
    bound = await _bind(port)
    server.add_sockets(bound)
    identity = find_identity(os.getpid())
    assert identity is not None
    save_json(
        path,
        {
            "process": identity.to_dict(),
            "port": bound[0].getsockname()[1],
            "token": token,
            "sockets": str(sockets),
        },
    )
    try:
        while not stopping.is_set() and time.monotonic() - keeper.used_s < ENDS_UNUSED_AFTER_S:
            try:
                await asyncio.wait_for(stopping.wait(), TIDY_PAUSE_S)
            except TimeoutError:
                await _tidy(keeper)
    finally:
        server.stop()
        await keeper.close()
        db.dispose()
        shutil.rmtree(sockets, ignore_errors=True)


async def _tidy(keeper: Keeper) -> None:
    try:
        await keeper.tidy()
    except (NightingaleError, OSError, ValueError):  # the outermost line: log, go on
        log.exception("tidying failed")


async def _bind(port: int | None) -> list[socket.socket]:
    # The last one's port, so that runs which wait for their state find it here again.
    deadline = time.monotonic() + 5
    while port is not None and time.monotonic() < deadline:
        try:
            return bind_sockets(port, "127.0.0.1")
        except OSError:
            await asyncio.sleep(0.1)
    return bind_sockets(0, "127.0.0.1")


def main() -> None:
    """Clear what a killed predecessor left, then serve on its port."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="[%(asctime)s keeper] %(message)s"
    )
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    os.umask(0o077)
    settings = NightingaleHub.from_environment()
    last = find_json(settings.state_path / "terraform" / "keeper.json") or {}
    if last:
        # Its providers end with it; one that does not would go on making things for nobody.
        end_all(list_marked(MARK, last["sockets"]), 10)
        shutil.rmtree(last["sockets"], ignore_errors=True)
    asyncio.run(serve(settings, last.get("port")))


if __name__ == "__main__":
    main()
