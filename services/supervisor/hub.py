"""The hub, told that a server's stop was accepted elsewhere, so that it lets go of it at once.

Best effort: a hub that does not hear it finds out by polling the record.
"""

import asyncio
import logging
import os
from urllib.parse import quote

import httpx

log = logging.getLogger("nightingale")
# The hub answers within 10 s, even while a server is still being stopped.
ANSWER_WITHIN_S = 15.0


class Hub:
    """The hub's API, as this service may use it."""

    def __init__(self, api_url: str, token: str) -> None:
        """Prepare to ask the API at *api_url* with this service's *token*."""
        # trust_env would send the token through a proxy that the environment names.
        self._client = httpx.AsyncClient(
            base_url=api_url,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=ANSWER_WITHIN_S,
            trust_env=False,
        )
        self._telling: set[asyncio.Task[None]] = set()

    @classmethod
    def from_environment(cls) -> "Hub":
        """Return the hub that started this service."""
        return cls(os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"])

    def tell_stopped(self, owner: str, server_name: str) -> None:
        """Have the hub stop *owner*'s server, in the background."""
        task = asyncio.create_task(self._delete(owner, server_name))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Break off what is being told, and close the connections."""
        telling = list(self._telling)
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await self._client.aclose()

    async def _delete(self, owner: str, server_name: str) -> None:
        user = f"users/{quote(owner, safe='')}"
        path = f"{user}/servers/{quote(server_name, safe='')}" if server_name else f"{user}/server"
        try:
            answer = await self._client.delete(path)
        except httpx.HTTPError as error:
            log.warning("the hub could not be told that %s's server stops: %s", owner, error)
            return
        # 404: it does not know the server any more, so there is nothing to tell.
        if not answer.is_success and answer.status_code != 404:
            log.warning("the hub answered DELETE %s with %d", path, answer.status_code)
