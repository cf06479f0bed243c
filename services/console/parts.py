"""The other services, asked over loopback with the console's own token.

An answer or a named error within five seconds; nothing is cached and nothing retried, since a
page is asked for again in two.
"""

import asyncio
import logging
from typing import Any

import httpx

from nightingale_hub.errors import (
    BadInput,
    Conflict,
    NightingaleError,
    NoOffer,
    NotFound,
    OverBudget,
    OverQuota,
    TooLarge,
    Unavailable,
)
from nightingale_hub.settings import NightingaleHub

log = logging.getLogger("nightingale")
ANSWER_WITHIN_S = 5.0
REFUSALS: dict[int, type[NightingaleError]] = {400: BadInput, 404: NotFound, 409: Conflict}
# These keep their own code on the way to who asked.
NAMED: dict[str, type[NightingaleError]] = {
    each.code: each for each in (NoOffer, OverBudget, OverQuota, TooLarge)
}


class Parts:
    """Billing, audit, metering and the supervisor, as the console reaches them."""

    def __init__(self, settings: NightingaleHub, token: str) -> None:
        """Prepare to ask the services of *settings* with *token*; connects only when asked."""
        self._settings = settings
        # trust_env would send the token through a proxy that the environment names.
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=ANSWER_WITHIN_S
        )

    async def get(self, part: str, path: str, /, **query: str | int | None) -> dict[str, Any]:
        """Return what *part* answers to GET `api/<path>`.

        Raises `Unavailable` naming the part, `NotFound` or `BadInput` as the part says.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return await self._ask(part, "GET", path, params=given)

    async def post(self, part: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what *part* answers to POST `api/<path>`; raises as `get` and `Conflict`."""
        return await self._ask(part, "POST", path, json=body)

    async def find(
        self, missing: list[str], part: str, path: str, /, **query: str | int | None
    ) -> dict[str, Any] | None:
        """Return what `get` does, or None after adding to *missing* why there is nothing."""
        try:
            return await self.get(part, path, **query)
        except NightingaleError as error:
            # Several questions to one part that is down are one thing that is missing.
            if str(error) not in missing:
                missing.append(str(error))
            return None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, part: str, method: str, path: str, **content: Any) -> dict[str, Any]:
        url = f"{self._settings.service_url(part)}api/{path}"
        try:
            # httpx limits each step; a part that drips its answer is cut off by the whole.
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reply = await self._client.request(method, url, **content)
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unavailable(f"{part} does not answer; try again in a moment") from error
        body = _parse_object(reply)
        if reply.is_success and body is not None:
            return body
        refusal = NAMED.get(_find_code(body)) or REFUSALS.get(reply.status_code)
        if refusal is not None and body is not None:
            raise refusal(_message(body) or f"{part} refused: {reply.status_code}")
        log.warning("%s answered %s %s with %d", part, method, path, reply.status_code)
        raise Unavailable(f"{part} has a fault (it answered {reply.status_code}); tell your admin")


def _parse_object(reply: httpx.Response) -> dict[str, Any] | None:
    try:
        body = reply.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _find_code(body: dict[str, Any] | None) -> str:
    error = (body or {}).get("error")
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def _message(body: dict[str, Any]) -> str:
    error = body.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""
