"""The Jupyter server extension: what the browser may ask of the console, passed on.

The server's hub token stays in this process; a page gets the answers to the questions below and
nothing else. It decides nothing: the console does, for the token that it is shown.
"""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from nightingale_hub.errors import BadInput, NightingaleError, NotFound
from nightingale_hub.instance import runs
from nightingale_hub.instance.console_client import ConsoleClient
from nightingale_hub.instance.local_status import load_local

log = logging.getLogger("nightingale")
# Each with the parts of a query that are passed on.
QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "GET": {
        "status": (),
        "cost": (),
        "sizes": (),
        "resize": ("cpu", "gpu", "disk"),
        "notices": ("after",),
    },
    "POST": {"stop": (), "resize": (), "extend": ("for_s",)},
}
ANSWER_WITHIN_S = 10.0
MAX_BODY_BYTES = 16 << 10


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    prefix = url_path_join(app.web_app.settings["base_url"], "nightingale", "api")
    if os.environ.get(runs.INSTANCE_NAME):
        # This server may have been started again for a resize that a run waits for.
        threading.Thread(target=_resume_runs, name="runs", daemon=True).start()
    route = (f"{prefix}/([a-z/-]{{1,60}})", ConsoleHandler)
    app.web_app.add_handlers(".*$", [route])  # type: ignore[no-untyped-call]  # tornado's


def _resume_runs() -> None:
    for each in runs.resume(os.environ):
        log.info("run %s goes on", each.id)


@dataclass(frozen=True)
class Question:
    """One question that a page may ask."""

    method: str
    name: str
    query: dict[str, str]
    body: dict[str, Any]

    def ask(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """Return the console's answer; raises the error that it names."""
        console = ConsoleClient.from_environment(environment, ANSWER_WITHIN_S)
        if self.method == "POST":
            return console.post(self.name, self.body or None, **self.query)
        answer = console.get(self.name, **self.query)
        if self.name == "status":
            answer["local"] = load_local(environment, answer["missing"])
        return answer


class ConsoleHandler(APIHandler):
    """One question to the console, in the name of this server."""

    @authenticated
    async def get(self, name: str) -> None:
        """Reply the console's *name*, and with `status` the instance's own."""
        await self._pass_on("GET", name)

    @authenticated
    async def post(self, name: str) -> None:
        """Reply what the console answers to a POST of *name*."""
        await self._pass_on("POST", name)

    async def _pass_on(self, method: str, name: str) -> None:
        try:
            if name not in QUESTIONS[method]:
                raise NotFound(f"this extension passes no {method} {name[:60]!r} on")
            query = {
                each: self.get_query_argument(each)
                for each in QUESTIONS[method][name]
                if each in self.request.query_arguments
            }
            asked = Question(method, name, query, self._body())
            answer = await asyncio.to_thread(asked.ask, os.environ)
        except NightingaleError as error:
            self.set_status(error.status)
            self.finish({"error": {"code": error.code, "message": str(error)}})
            return
        self.finish(answer)

    def _body(self) -> dict[str, Any]:
        if not self.request.body:
            return {}
        try:
            body = json.loads(self.request.body[: MAX_BODY_BYTES + 1])
        except ValueError as error:
            raise BadInput(f"the request is no JSON of at most {MAX_BODY_BYTES} bytes") from error
        if not isinstance(body, dict):
            raise BadInput("the request is no JSON object")
        return body
