"""The console's API as a program in an instance asks it, with Python's own library alone.

The token goes to the console and nowhere else: no proxy of the environment, no redirect.
"""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from nightingale_hub.errors import (
    BadInput,
    Conflict,
    NightingaleError,
    NoOffer,
    NotAllowed,
    NotFound,
    OverBudget,
    OverQuota,
    TooLarge,
    TooMany,
    Unavailable,
)

URL_NAME = "NIGHTINGALE_CONSOLE_URL"
TOKEN_NAME = "JUPYTERHUB_API_TOKEN"  # noqa: S105 - a variable's name
ANSWER_LIMIT = 32 << 20
# What is read of each answer; an older or newer hub may lack some of it.
KEYS = {
    "status": ("instance", "month_micro", "audit", "datasets", "missing"),
    "cost": ("currency", "since_us", "lines", "posted_micro", "running_micro", "total_micro"),
    "sizes": ("cloud", "region", "currency", "sizes"),
    "stop": ("accepted", "instance", "missing"),
    "resize": ("plan",),
    "extend": ("keep_until_us",),
    "manifest": ("manifest", "note"),
    "datasets": ("datasets",),
    "files": ("files", "next"),
    "listing": ("files", "next"),
}
ERRORS: dict[str, type[NightingaleError]] = {
    each.code: each
    for each in (
        BadInput,
        NoOffer,
        OverBudget,
        TooLarge,
        TooMany,
        NotAllowed,
        OverQuota,
        NotFound,
        Conflict,
        Unavailable,
    )
}


class ConsoleClient:
    """Asks the console as this instance's server."""

    def __init__(self, url: str, token: str, timeout_s: float = 10.0) -> None:
        """Prepare to ask *url* (`…/services/console/api/`); raises `BadInput` for what is none."""
        if not (token.isascii() and token.isprintable()):
            raise BadInput(f"{TOKEN_NAME} holds a character that no token has; set it again")
        self.url = url if url.endswith("/") else f"{url}/"
        self._parsed = _parse_url(self.url)
        self._token = token
        self._timeout_s = timeout_s

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], timeout_s: float = 10.0
    ) -> "ConsoleClient":
        """Return the client of the instance that this runs in; raises `BadInput` outside one."""
        missing = [name for name in (URL_NAME, TOKEN_NAME) if not environment.get(name)]
        if missing:
            raise BadInput(
                f"this is not an instance ({' and '.join(missing)} not set); "
                "run it in a terminal of JupyterLab, or see the hub's console page"
            )
        return cls(environment[URL_NAME], environment[TOKEN_NAME], timeout_s)

    @property
    def pages_url(self) -> str:
        """The console's pages, for a browser."""
        return self.url.removesuffix("api/")

    @property
    def pages_path(self) -> str:
        """The console's pages as a page of the same hub reaches them."""
        return urlsplit(self.pages_url).path

    def get(self, name: str, /, **query: str | int | None) -> dict[str, Any]:
        """Return the console's *name*: status, cost, sizes; raises the error that it names."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._ask("GET", name, f"?{urlencode(given)}" if given else "")

    def post(
        self, name: str, body: dict[str, Any] | None = None, /, **query: str | int
    ) -> dict[str, Any]:
        """Return what the console answers to a POST of *body*; raises as `get`."""
        return self._ask("POST", name, f"?{urlencode(query)}" if query else "", body)

    def _ask(
        self, method: str, name: str, query: str = "", body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection = self._connect()
        try:
            content = None if body is None else json.dumps(body)
            url = f"{self._parsed.path}{name}{query}"
            connection.request(method, url, content, headers)
            reply = connection.getresponse()
            answer = _parse_reply(reply.status, self._read(reply))
        except TimeoutError as error:
            raise Unavailable(
                f"the hub did not answer within {self._timeout_s:g} s; try again, or wait longer "
                "with --timeout"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the hub at {self._parsed.netloc} does not answer; it may be down for a moment. "
                "Your instance goes on without it"
            ) from error
        finally:
            connection.close()
        lacking = [key for key in KEYS.get(name, ()) if key not in answer]
        if lacking:
            raise Unavailable(
                f"the console's answer lacks {', '.join(lacking)}: the hub's version is not this "
                "instance's; start the instance anew, or tell your admin"
            )
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        secure = self._parsed.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        assert self._parsed.hostname is not None, "checked in __init__"
        return kind(self._parsed.hostname, self._parsed.port, timeout=self._timeout_s)

    def _read(self, reply: http.client.HTTPResponse) -> bytes:
        # A socket's timeout begins anew with every byte, so the whole is limited here.
        deadline = time.monotonic() + self._timeout_s
        parts = []
        size = 0
        while part := reply.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError
            if size > ANSWER_LIMIT:
                raise http.client.HTTPException("the answer has no end")
        return b"".join(parts)


def _parse_url(url: str) -> SplitResult:
    try:
        parsed = urlsplit(url)
        is_usable = parsed.scheme in ("http", "https") and parsed.hostname and parsed.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise BadInput(f"{URL_NAME} is {url[:100]!r}, which is no http or https address")
    return parsed


def _parse_reply(status: int, content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if status == 200 and isinstance(body, dict):
        return body
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and error.get("code") in ERRORS:
        raise ERRORS[error["code"]](str(error.get("message")))
    if status == 200:
        raise Unavailable("the console's answer is not JSON; tell your admin if it stays so")
    raise Unavailable(
        f"the hub answers, but its console does not ({status}); try again in a moment. Your "
        "instance goes on without it"
    )
