"""How each of the five services lives: one tornado application and its loops, under one lease.

A service dies with the hub that started it, waits for a database that is not ready, and ends
at once when a newer process of the same service took over.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubAuth
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.database import Database
from nightingale_hub.errors import NightingaleError
from nightingale_hub.lease import StaleLease, check_lease, take_lease
from nightingale_hub.settings import SLOT_NAME, NightingaleHub

log = logging.getLogger("nightingale")
BIND_FOR_S = 15.0
LEASE_CHECK_S = 1.0
MAX_BACKOFF_S = 30.0
PR_SET_PDEATHSIG = 1

T = TypeVar("T")


@dataclass
class Context:
    """What a service's handlers and loops work with."""

    service: str
    settings: NightingaleHub
    db: Database
    epoch: int
    slot: str = ""  # which of several processes of this service; each slot has one at a time

    @property
    def prefix(self) -> str:
        """The path under which the service answers."""
        return self.settings.service_prefix(self.service)

    @property
    def lease_name(self) -> str:
        """What this process has the lease of: the service, or its slot of it."""
        return name_lease(self.service, self.slot)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` from a read transaction, off the event loop."""

        def run() -> T:
            with self.db.read() as conn:
                return work(conn)

        return await asyncio.to_thread(run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` from a write transaction under this service's lease, off the loop.

        *work* may run more than once. Raises `StaleLease` when a newer process took over.
        """

        def fenced(conn: Connection) -> T:
            check_lease(conn, self.lease_name, self.epoch)
            return work(conn)

        return await asyncio.to_thread(self.db.transact, fenced)


@dataclass(frozen=True)
class Loop:
    """Work that a service repeats: *step* is run, then *pause_s* passes, for ever."""

    name: str
    pause_s: float
    step: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Service:
    """A service's routes (paths relative to its prefix), its loops and what ends with it."""

    routes: Sequence[tuple[str, type, dict[str, Any]]]
    loops: Sequence[Loop] = ()
    on_stop: Callable[[], Awaitable[None]] | None = None
    application: dict[str, Any] = field(default_factory=dict)  # further tornado settings


@dataclass
class LoopWatch:
    """How a loop does: its failed steps, and when a step is due after the last that ended well."""

    due_us: int
    failures: int = 0


class HealthHandler(RequestHandler):
    """Answers anyone: the service serves, under which epoch."""

    def get(self) -> None:
        """Reply `{"epoch": n}`."""
        self.finish({"epoch": self.settings["context"].epoch})


def run(name: str, make: Callable[[Context], Service]) -> None:
    """Run service *name* until it is told to stop; what each service's `__main__` calls."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"[%(levelname)1.1s %(asctime)s {name}] %(message)s",
    )
    for noisy in ("tornado.access", "httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.umask(0o077)
    die_with_parent()
    parent = os.getppid()
    settings = NightingaleHub.from_environment()
    try:
        asyncio.run(_serve(name, make, settings, parent))
    except StaleLease as stale:
        log.warning("%s; this process ends", stale)


async def _serve(
    name: str, make: Callable[[Context], Service], settings: NightingaleHub, parent: int
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    db = Database(settings.db_url)
    context = await _take_over(name, settings, db, stopping)
    if context is None:
        return
    service = make(context)
    loops = [Loop("lease", LEASE_CHECK_S, lambda: _check(context, parent)), *service.loops]
    watches = {each.name: LoopWatch(now_us()) for each in loops}
    application = Application(
        [
            (f"{context.prefix}health", HealthHandler),
            *((context.prefix + path, handler, kwargs) for path, handler, kwargs in service.routes),
        ],
        context=context,
        loops=watches,
        hub_auth=HubAuth(),  # auth.py asks it past its cache
        **service.application,
    )
    server = HTTPServer(application, xheaders=True, max_body_size=64 << 20)
    server.add_sockets(await _bind())
    tasks = [asyncio.create_task(_repeat(each, watches[each.name])) for each in loops]
    stop = asyncio.create_task(stopping.wait())
    log.info("serves %s, epoch %d", context.prefix, context.epoch)
    # Only a stale lease ends a loop; then the whole service ends with it.
    await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
    server.stop()
    stop.cancel()
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    if service.on_stop is not None:
        await service.on_stop()
    db.dispose()
    for result in results:
        if isinstance(result, StaleLease):
            raise result


async def _take_over(
    name: str, settings: NightingaleHub, db: Database, stopping: asyncio.Event
) -> Context | None:
    # A service that dies while the hub starts ends the hub, so an absent database is waited for.
    holder = f"{socket.gethostname()}:{os.getpid()}"
    slot = os.environ.get(SLOT_NAME, "")
    pause_s = 0.2
    while not stopping.is_set():
        try:
            await asyncio.to_thread(db.upgrade)
            epoch = await asyncio.to_thread(
                db.transact,
                lambda conn: take_lease(conn, name_lease(name, slot), holder, now_us()),
            )
            return Context(name, settings, db, epoch, slot)
        except (SQLAlchemyError, NightingaleError):
            log.exception("the database is not ready; trying again in %.1f s", pause_s)
        try:
            await asyncio.wait_for(stopping.wait(), pause_s)
        except TimeoutError:
            pause_s = min(pause_s * 2, 5.0)
    return None


async def _bind() -> list[socket.socket]:
    if "JUPYTERHUB_SERVICE_URL" not in os.environ:
        return []  # a further process of a service has its loops only
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    assert url.port is not None
    deadline = asyncio.get_running_loop().time() + BIND_FOR_S
    while True:
        try:
            return bind_sockets(url.port, url.hostname)
        except OSError:
            # The last hub's service may still hold the port for a moment.
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.2)


async def _check(context: Context, parent: int) -> None:
    # Compared: whoever starts a service may itself be process 1, in a container or by systemd.
    if os.getppid() != parent:
        raise StaleLease("whoever started this service is gone")
    await context.read(lambda conn: check_lease(conn, context.lease_name, context.epoch))


async def _repeat(loop: Loop, watch: LoopWatch) -> None:
    backoff_s = loop.pause_s
    while True:
        try:
            await loop.step()
            watch.due_us = now_us() + round(loop.pause_s * US_PER_S)
            backoff_s = loop.pause_s
        except StaleLease:
            raise
        except Exception:  # the outermost line of a loop: log, back off, go on
            log.exception("loop %s failed", loop.name)
            watch.failures += 1
            backoff_s = min(max(backoff_s, 0.1) * 2, MAX_BACKOFF_S)
        await asyncio.sleep(backoff_s)


def name_lease(service: str, slot: str) -> str:
    """Return the lease that the process in *slot* of *service* takes."""
    return f"{service}:{slot}" if slot else service


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it dies, however it dies."""
    # ref: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
