"""The server extension that counts what the server hands to the browser, as it hands it over.

Files that Jupyter serves, outputs of kernels and terminals, what is proxied, and the pages
themselves, each under its name. The researcher owns this process, so a count is what Jupyter tells
and proves nothing: the hub holds it against what the kernel counted (egress.py).
"""

import functools
import secrets
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from jupyter_server.base.handlers import APIHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform, authenticated
from tornado.websocket import WebSocketHandler

ROUTE = "nightingale/served"
MOST_NAMES = 50  # between two questions of the agent; what is beyond them has no name
MOST_ENTRIES = 200
MOST_NAME_CHARS = 500
SWITCHING = 101  # to a websocket, whose messages are counted instead
# What JupyterLab itself is made of and asks; every other first word is somebody's own server.
PAGES = frozenset(
    "api custom hub kernelspecs lab login logout lsp metrics nightingale notebooks static "
    "terminals tree consoles edit view favicon.ico oauth_callback".split()
)
Key = tuple[str, str]  # kind, name


class Tally:
    """What was served since the server began, in numbered entries."""

    def __init__(self) -> None:
        """Begin with nothing, as a run of its own."""
        self.run = secrets.token_hex(8)
        self._number = 0
        self._counts: dict[Key, list[int]] = {}
        self._entries: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def note(self, key: Key, size: int, requests: int = 0) -> None:
        """Count *size* bytes, and *requests*, as *key*."""
        with self._lock:
            if key not in self._counts and len(self._counts) >= MOST_NAMES:
                key = (key[0], "")
            count = self._counts.setdefault(key, [0, 0])
            count[0] += requests
            count[1] += size

    def take(self, after: int) -> list[dict[str, Any]]:
        """Return the entries after number *after*; what is up to it was taken and is forgotten."""
        with self._lock:
            self._entries = [each for each in self._entries if each["number"] > after]
            if len(self._entries) + len(self._counts) <= MOST_ENTRIES:
                counts, self._counts = self._counts, {}
                for (kind, name), (requests, size) in counts.items():
                    self._number += 1
                    entry = {"number": self._number, "kind": kind, "name": name}
                    self._entries.append({**entry, "requests": requests, "size": size})
            return list(self._entries)


def classify(path: str, base_url: str, is_websocket: bool = False) -> Key:
    """Return as what bytes served from *path* count: `file`, `output`, `proxied` or `page`."""
    first, _, rest = path.removeprefix(base_url).lstrip("/").partition("/")
    name = unquote(rest, errors="replace")[:MOST_NAME_CHARS]
    if first == "proxy":
        return "proxied", name.partition("/")[0]
    if first in ("files", "nbconvert"):
        return "file", name
    if is_websocket and first in PAGES:
        # A kernel's or a terminal's; of a document that is edited together, the same outputs.
        return "output", "/".join(name.split("/")[:2])
    if first == "api" and name.startswith("contents/"):
        return "file", name.removeprefix("contents/")
    return ("page", "") if first in PAGES or not first else ("proxied", first[:MOST_NAME_CHARS])


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    base_url, tally = app.web_app.settings["base_url"], Tally()
    app.web_app.settings["nightingale_tally"] = tally
    app.web_app.add_transform(_make_transform(tally, base_url))
    count_websockets(tally, base_url)
    route = (url_path_join(base_url, ROUTE), ServedHandler)
    app.web_app.add_handlers(".*$", [route])  # type: ignore[no-untyped-call]  # tornado's


def _make_transform(tally: Tally, base_url: str) -> type[OutputTransform]:
    class Counted(OutputTransform):
        """Counts the body of one answer as it is written; changes nothing."""

        def __init__(self, request: HTTPServerRequest) -> None:
            self._key = classify(request.path, base_url)
            self._is_ours = request.path == url_path_join(base_url, ROUTE)

        def transform_first_chunk(
            self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
        ) -> tuple[int, HTTPHeaders, bytes]:
            if not self._is_ours and status_code != SWITCHING:
                tally.note(self._key, len(chunk), 1)
            return status_code, headers, chunk

        def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
            if not self._is_ours:
                tally.note(self._key, len(chunk))
            return chunk

    return Counted


def count_websockets(tally: Tally, base_url: str) -> None:
    """Count every message that any handler writes; none passes a transform, so it is wrapped."""
    write: Callable[..., Any] = WebSocketHandler.write_message

    @functools.wraps(write)
    def counted(self: WebSocketHandler, message: Any, binary: bool = False) -> Any:
        size = len(message) if isinstance(message, (bytes, str)) else len(str(message))
        tally.note(classify(self.request.path, base_url, is_websocket=True), size, 1)
        return write(self, message, binary)

    WebSocketHandler.write_message = counted  # type: ignore[method-assign]  # no hook there


class ServedHandler(APIHandler):
    """GET served?after=N: what was served since, for the agent."""

    @authenticated
    def get(self) -> None:
        """Reply `{"run", "served": [{"number", "kind", "name", "requests", "size"}]}`."""
        tally: Tally = self.settings["nightingale_tally"]
        after = self.get_query_argument("after", "0")
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
        self.finish({"run": tally.run, "served": tally.take(number)})
