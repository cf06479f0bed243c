"""Runs code in a kernel of a researcher's server, as a notebook would: over its websocket."""

import asyncio
import json
import uuid
from typing import Any

import httpx
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from nightingale_hub.errors import Unavailable

RUN_FOR_S = 180.0


def run_code(server_url: str, token: str, code: str) -> str:
    """Run *code* in a fresh kernel of the server at *server_url* and return what it printed.

    Raises `Unavailable` with the kernel's own error when the code fails or takes over 180 s.
    """
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server_url, headers=headers, timeout=60) as http:
        answer = http.post("api/kernels", json={"name": "python3"})
        if answer.status_code != 201:
            raise Unavailable(f"no kernel could be started: {answer.status_code} {answer.text}")
        kernel_id = answer.json()["id"]
        try:
            socket_url = server_url.replace("http", "ws", 1)
            request = HTTPRequest(f"{socket_url}api/kernels/{kernel_id}/channels", headers=headers)
            return asyncio.run(asyncio.wait_for(_execute(request, code), RUN_FOR_S))
        except HTTPClientError as error:
            raise Unavailable(f"the kernel's connection was refused: {error}") from error
        except TimeoutError as error:
            raise Unavailable(f"the kernel did not finish within {RUN_FOR_S:.0f} s") from error
        finally:
            # A kernel that stops its own server has nothing left to delete.
            try:
                http.delete(f"api/kernels/{kernel_id}")
            except httpx.HTTPError:
                pass


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
        connection.close()


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
