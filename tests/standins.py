"""Small real servers that stand in for what the console asks: the hub and the four other parts.

Each answers JSON as its contract says, remembers what it was asked, and can be told to fail.
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

Answer = dict[str, Any] | Callable[[dict[str, str], dict[str, Any]], dict[str, Any]]
ONE_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "content-encoding"}


class Servers:
    """Tornado servers on free loopback ports, on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[HTTPServer] = []
        self._thread.start()

    def serve(self, application: Application) -> int:
        """Serve *application* and return its port."""
        sockets = bind_sockets(0, "127.0.0.1")

        async def start() -> None:
            server = HTTPServer(application)
            server.add_sockets(sockets)
            self._servers.append(server)

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)
        return int(sockets[0].getsockname()[1])

    def close(self) -> None:
        """End every server and the loop."""

        async def stop() -> None:
            for server in self._servers:
                server.stop()
                await server.close_all_connections()
            current = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not current]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Part:
    """A service that answers what *answers* says: path pattern to a body, or a function of it.

    `fault` is None, "down" (hangs up), "slow" (no answer), "broken" (500) or "nonsense";
    `location` sends everyone elsewhere.
    """

    def __init__(self, servers: Servers, prefix: str) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
        self.tokens: list[str] = []
        self.fault: str | None = None
        self.status = 200
        self.location: str | None = None
        self.port = servers.serve(Application([(f"{prefix}(.*)", _PartHandler, {"part": self})]))

    def reset(self) -> None:
        """Forget what was asked, and work."""
        self.asked.clear()
        self.fault = None
        self.status = 200

    def find(self, path: str) -> Answer | None:
        """Return the answer of the first pattern that *path* matches whole."""
        return next((a for p, a in self.answers.items() if re.fullmatch(p, path)), None)


class _PartHandler(RequestHandler):
    def initialize(self, part: Part) -> None:
        self.part = part

    async def get(self, path: str) -> None:
        part = self.part
        query = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        body = json.loads(self.request.body or b"{}")
        part.asked.append((str(self.request.method), path, query, body))
        part.tokens.append(self.request.headers.get("Authorization", ""))
        if part.fault == "down":
            self.detach().close()
            return
        if part.fault == "slow":
            await asyncio.sleep(60)
        if part.fault == "broken":
            self.set_status(500)
            self.finish("Traceback (most recent call last): secret")
            return
        if part.location is not None:
            self.redirect(part.location)
            return
        if part.fault == "nonsense":
            self.finish("<html>not JSON")
            return
        answer = part.find(path)
        if answer is None:
            self.set_status(404)
            self.finish({"error": {"code": "not_found", "message": f"nothing at {path}"}})
            return
        self.set_status(part.status)
        self.finish(answer(query, body) if callable(answer) else answer)

    post = get


class Hub:
    """The hub, as a service and a browser see it: tokens, OAuth, and its proxy.

    `models` says whose a token is; a browser is who its cookie `who` names.
    """

    def __init__(self, servers: Servers) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.routes: dict[str, int] = {}
        self.is_down = False
        self.port = servers.serve(
            Application(
                [
                    ("/hub/api/user", _WhoHandler, {"hub": self}),
                    ("/hub/api/oauth2/authorize", _AuthorizeHandler),
                    ("/hub/api/oauth2/token", _TokenHandler),
                    ("(/services/.*)", _ProxyHandler, {"hub": self}),
                    ("/hub/.*", _HubPageHandler),
                ]
            )
        )

    @property
    def url(self) -> str:
        """Where a browser and an instance find everything."""
        return f"http://127.0.0.1:{self.port}"


class _WhoHandler(RequestHandler):
    def initialize(self, hub: Hub) -> None:
        self.hub = hub

    def get(self) -> None:
        token = self.request.headers.get("Authorization", "").partition(" ")[2]
        model = self.hub.models.get(token)
        if self.hub.is_down:
            self.set_status(503)
        elif model is None:
            self.set_status(403)
        else:
            self.finish(model)


class _AuthorizeHandler(RequestHandler):
    def get(self) -> None:
        who = self.get_cookie("who", "")
        if not who:
            self.finish("please log in")
            return
        state = self.get_query_argument("state")
        back = self.get_query_argument("redirect_uri")
        self.redirect(f"{back}?{urlencode({'code': who, 'state': state})}")


class _TokenHandler(RequestHandler):
    def post(self) -> None:
        self.finish({"access_token": f"oauth-{self.get_body_argument('code')}"})


class _HubPageHandler(RequestHandler):
    def get(self) -> None:
        self.finish("the hub")


class _ProxyHandler(RequestHandler):
    """Hands `/services/<name>/…` on, as the hub's proxy does; 503 where nothing listens."""

    def initialize(self, hub: Hub) -> None:
        self.hub = hub

    async def get(self, path: str) -> None:
        request = HTTPRequest(
            f"http://127.0.0.1:{self.hub.routes[path.split('/')[2]]}{self.request.uri}",
            method=str(self.request.method),
            headers=self.request.headers,
            body=self.request.body or None,
            follow_redirects=False,
            request_timeout=30,
            allow_nonstandard_methods=True,
        )
        try:
            reply = await AsyncHTTPClient().fetch(request, raise_error=False)
        except OSError:
            self.send_error(503)
            return
        self.set_status(reply.code)
        self.clear_header("Content-Type")
        for name, value in reply.headers.get_all():
            if name.lower() not in ONE_HOP:
                self.add_header(name, value)
        if reply.body:
            self.write(reply.body)

    post = get
