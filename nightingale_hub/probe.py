"""One question to an instance's own `/api`: does the server that we started answer there?

It asks the instance's port directly, never through the hub's proxy, which would take every
question for the user's activity and keep an idle server alive for ever.
"""

import asyncio
from urllib.parse import quote

TIMEOUT_S = 2.0
MAX_HEAD_BYTES = 32 << 10
NONCE_HEADER = "x-nightingale-instance"


async def probe(
    host: str, port: int, base_url: str, nonce: str, timeout_s: float = TIMEOUT_S
) -> bool:
    """Tell whether the server at *host*:*port* answers `<base_url>api` with *nonce*.

    Waits at most *timeout_s*; whatever goes wrong is False. A stranger who got the port of an
    instance that is gone does not know the nonce.
    """
    try:
        async with asyncio.timeout(timeout_s):
            status, headers = await _fetch_head(host, port, f"{base_url}api")
    except (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError):
        return False
    return headers.get(NONCE_HEADER) == nonce and status < 500


async def _fetch_head(host: str, port: int, path: str) -> tuple[int, dict[str, str]]:
    # A full HTTP client would cost ten times as much, each second for each instance.
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES)
    try:
        target = quote(path, safe="/%~@!$&'()*+,;=:")
        request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
    finally:
        # Aborting needs no goodbye from a server that may hang.
        writer.transport.abort()
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, *_ = status_line.split(" ", 2)
    if not version.startswith("HTTP/1."):
        raise ValueError(f"{version[:20]!r} is no HTTP")
    fields = (line.partition(":") for line in lines)
    return int(status), {name.strip().lower(): value.strip() for name, _, value in fields}
