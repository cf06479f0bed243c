"""One connection to one instance's own `/api`, kept open from question to question.

A new connection and a task for each question would cost several times as much; with ten thousand
instances that is the difference between one core and none left. Who answers is told by the nonce,
as in `nightingale_hub.probe`.
"""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import quote

from nightingale_hub.probe import MAX_HEAD_BYTES, NONCE_HEADER, TIMEOUT_S

HEAD_END = b"\r\n\r\n"


class Line(asyncio.Protocol):
    """Asks one server; *note* is told of each answer, or that there was none."""

    def __init__(
        self, host: str, port: int, base_url: str, nonce: str, note: Callable[[bool], None]
    ) -> None:
        """Take where to ask, and what the answer must hold; connects when first asked."""
        target = quote(f"{base_url}api", safe="/%~@!$&'()*+,;=:")
        self._request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        self._address = host, port
        self._nonce = nonce
        self._note = note
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._asked_s: float | None = None
        self._is_fresh = False  # the connection has answered nothing yet
        self._head = bytearray()
        self._skip = 0  # bytes of the last answer's body that are still to come

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is under way."""
        return self._asked_s is not None

    def ask(self) -> None:
        """Ask, unless an answer is under way and not overdue."""
        self.expire()
        if self._asked_s is not None:
            return
        self._asked_s = time.monotonic()
        self._send()

    def expire(self) -> None:
        """Take an answer that is overdue for none."""
        if self._asked_s is not None and time.monotonic() - self._asked_s > TIMEOUT_S:
            self._end(False, keep=False)

    def close(self) -> None:
        """Let the connection go; tells nothing any more."""
        self._asked_s = None
        self._drop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the question that was waiting for this."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._is_fresh, self._skip = transport, True, 0
        self._head.clear()
        if self._asked_s is None:
            self._drop()
        else:
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        if not data:
            return
        if self._asked_s is None:  # nobody asked
            self._drop()
            return
        self._head += data
        end = self._head.find(HEAD_END)
        if end < 0:
            if len(self._head) > MAX_HEAD_BYTES:
                self._end(False, keep=False)
            return
        is_ok, length = _read_head(bytes(self._head[:end]), self._nonce)
        left = None if length is None else length - (len(self._head) - end - len(HEAD_END))
        self._head.clear()
        keep = left is not None and left >= 0
        self._skip = left if left is not None and keep else 0
        self._is_fresh = False
        self._end(is_ok, keep)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask again over a new connection where an old one was closed meanwhile."""
        self._transport = None
        if self._asked_s is None:
            return
        if self._is_fresh:
            self._end(False, keep=False)
        else:
            self._send()

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._request)
        elif self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        host, port = self._address
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        except (OSError, TimeoutError):
            if self._asked_s is not None:
                self._end(False, keep=False)
        finally:
            self._connecting = None

    def _end(self, is_ok: bool, keep: bool) -> None:
        self._asked_s = None
        if not keep:
            self._drop()
        self._note(is_ok)

    def _drop(self) -> None:
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()
            self._connecting = None
        if self._transport is not None:
            self._transport.abort()  # needs no goodbye from a server that may hang
            self._transport = None
        self._head.clear()
        self._skip = 0


def _read_head(head: bytes, nonce: str) -> tuple[bool, int | None]:
    """Return whether the answer is our server's, and its body's length if another may follow."""
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = status_line.partition(" ")
    status = rest[:3]
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    is_http = version == "HTTP/1.1" and status.isdigit()
    is_ok = is_http and int(status) < 500 and fields.get(NONCE_HEADER) == nonce
    length = fields.get("content-length", "")
    is_last = not is_http or fields.get("connection", "").lower() == "close"
    return is_ok, None if is_last or not length.isdigit() else int(length)
