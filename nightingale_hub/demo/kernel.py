"""Runs code in a kernel of a researcher's server, as a notebook would: over its websocket."""

import asyncio
import json
import uuid
from contextlib import suppress
from typing import Any

import httpx
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from nightingale_hub.errors import Unavailable

RUN_FOR_S = 180.0
CLOSE_FOR_S = 2.0


class Kernel:
    """A kernel of a researcher's server; what one piece of code defines, the next one finds."""

    def __init__(self, server_url: str, token: str) -> None:
        """Start a kernel on the server at *server_url*; raises `Unavailable` when that fails."""
        self._headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=server_url, headers=self._headers, timeout=60, trust_env=False
        )
        answer = self._http.post("api/kernels", json={"name": "python3"})
        if answer.status_code != 201:
            raise Unavailable(f"no kernel could be started: {answer.status_code} {answer.text}")
        self._kernel = f"api/kernels/{answer.json()['id']}"
        self._channels = f"{server_url.replace('http', 'ws', 1)}{self._kernel}/channels"

    def run(self, code: str) -> str:
        """Run *code* and return what it printed.

        Raises `Unavailable` with the kernel's own error when the code fails or takes over 180 s.
        """
        address = HTTPRequest(self._channels, headers=self._headers)
        try:
            return asyncio.run(asyncio.wait_for(_execute(address, code), RUN_FOR_S))
        except TimeoutError as error:
            raise Unavailable(f"the kernel did not finish within {RUN_FOR_S:.0f} s") from error
        except (HTTPClientError, OSError) as error:
            raise Unavailable(f"the kernel does not answer: {error}") from error

    def close(self) -> None:
        """End the kernel; one whose server is gone has ended."""
        try:
            self._http.delete(self._kernel)
        except httpx.HTTPError:
            pass
        finally:
            self._http.close()


async def _execute(address: HTTPRequest, code: str) -> str:
    connection = await websocket_connect(address, max_message_size=64 << 20)
    request = _execute_request(code)
    await connection.write_message(json.dumps(request))
    printed = []
    try:
        while True:
            text = await connection.read_message()
            if text is None:
                raise Unavailable("the kernel's connection closed before it answered")
            message = json.loads(text)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            elif message["msg_type"] == "error":
                raise Unavailable(f"the code failed: {content['ename']}: {content['evalue']}")
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return "".join(printed)
    finally:
        await _close(connection)


async def _close(connection: WebSocketClientConnection) -> None:
    # The loop ends with us, so the goodbye is waited for: a server that is gone says none.
    connection.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_FOR_S):
            while await connection.read_message() is not None:
                pass


def _execute_request(code: str) -> dict[str, Any]:
    # ref: https://jupyter-client.readthedocs.io/en/stable/messaging.html#execute
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "date": "",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
    }
