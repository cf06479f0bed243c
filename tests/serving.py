"""A service's real routes over a real socket, with a stand-in for the hub's word on tokens."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from nightingale_hub.clock import now_us
from nightingale_hub.database import Database
from nightingale_hub.lease import take_lease
from nightingale_hub.service import Context, Service, name_lease
from nightingale_hub.settings import NightingaleHub

TOKENS = {
    "console-token": {"kind": "service", "name": "console"},
    "billing-token": {"kind": "service", "name": "billing"},
    "supervisor-token": {"kind": "service", "name": "supervisor"},
    "alice-token": {"kind": "user", "name": "alice"},
}


class HubThatKnowsTokens:
    """The hub's answer to whose a token is."""

    async def user_for_token(self, token: str, **_: Any) -> dict[str, Any] | None:
        return TOKENS.get(token)


@dataclass
class Client:
    """Asks the service's API with a token."""

    http: httpx.AsyncClient

    async def get(self, path: str, token: str = "console-token", **query: Any) -> httpx.Response:
        return await self.http.get(f"api/{path}", params=query, headers=_bearer(token))

    async def post(self, path: str, token: str, **content: Any) -> httpx.Response:
        return await self.http.post(f"api/{path}", headers=_bearer(token), **content)


def make_context(
    service: str, database: Database, settings: NightingaleHub | None = None, slot: str = ""
) -> Context:
    """Return the context of a process of *service* that has just taken the lease of its *slot*."""
    name = name_lease(service, slot)
    epoch = database.transact(lambda conn: take_lease(conn, name, "test", now_us()))
    return Context(service, settings or NightingaleHub(), database, epoch, slot)


@asynccontextmanager
async def serving(
    name: str,
    database: Database,
    make: Callable[[Context], Service],
    settings: NightingaleHub | None = None,
    port: int = 0,
) -> AsyncIterator[tuple[Client, Service]]:
    """Serve what *make* returns, without its loops: a test runs their steps itself.

    `settings.public_url` is set to where it is served: *port*, or a free one.
    """
    context = make_context(name, database, settings)
    service = make(context)
    application = Application(
        [(context.prefix + path, handler, kwargs) for path, handler, kwargs in service.routes],
        context=context,
        hub_auth=HubThatKnowsTokens(),
        **{"loops": {}, **service.application},
    )
    server = HTTPServer(application)
    [socket] = bind_sockets(port, "127.0.0.1")
    port = socket.getsockname()[1]
    server.add_sockets([socket])
    context.settings.public_url = f"http://127.0.0.1:{port}/"
    url = f"http://127.0.0.1:{port}{context.prefix}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            yield Client(http), service
    finally:
        server.stop()
        await server.close_all_connections()
        if service.on_stop is not None:
            await service.on_stop()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
