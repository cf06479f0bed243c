"""RFC 5424 messages over TLS (RFC 5425), each framed by its length.

Syslog has no acknowledgement. So each delivery is a connection of its own, which is closed in
order: only when the receiver has read everything does it answer our end with its own. A receiver
that died, or that closed with something unread, breaks the connection, and all is sent again.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Sequence

from nightingale_hub.errors import Unavailable
from nightingale_hub.services.audit.export.record import Record
from nightingale_hub.services.audit.export.target import TIMEOUT_S, Refusal, to_json

LOG_AUDIT, NOTICE, WARNING = 13, 5, 4
# The number that RFC 5612 keeps for documents: this product has none of its own.
STRUCTURE = "nightingale@32473"


class Syslog:
    """One receiver."""

    def __init__(
        self,
        host: str,
        port: int,
        ca_file: str | None,
        cert_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        """Send to *host*:*port*, whose certificate must be good for *host*."""
        self._address = (host, port)
        self._context = ssl.create_default_context(cafile=ca_file)
        if cert_file:
            self._context.load_cert_chain(cert_file, key_file)

    async def send(self, records: Sequence[Record]) -> list[Refusal]:
        """Deliver *records*; a syslog receiver refuses none."""
        data = b"".join(map(to_frame, records))
        try:
            await asyncio.to_thread(self._deliver, data)
        except OSError as error:
            host = self._address[0]
            raise Unavailable(
                f"syslog {host} did not take it: {error.strerror or error}"
            ) from error
        return []

    async def close(self) -> None:
        """Do nothing: no connection is kept."""

    def _deliver(self, data: bytes) -> None:
        with socket.create_connection(self._address, TIMEOUT_S) as plain:
            with self._context.wrap_socket(plain, server_hostname=self._address[0]) as secure:
                secure.sendall(data)
                try:
                    rest = secure.unwrap()
                except ssl.SSLEOFError:
                    return  # it has read our end, and closed without a word
                rest.shutdown(socket.SHUT_WR)
                while rest.recv(4096):
                    pass
                rest.close()


def to_frame(record: Record) -> bytes:
    """Return *record* as one framed message."""
    message = to_message(record).encode()
    return b"%d %b" % (len(message), message)


def to_message(record: Record) -> str:
    """Return *record* as a message of RFC 5424; its text is the whole document."""
    body = record.body
    is_alert = body["event"]["kind"] == "alert"
    priority = LOG_AUDIT * 8 + (WARNING if is_alert else NOTICE)
    host = to_word(body.get("host", {}).get("id", "hub"), 255)
    named = {
        "id": record.key,
        "user": body.get("user", {}).get("name", ""),
        "path": body.get("file", {}).get("path", ""),
    }
    structure = " ".join(f'{name}="{escape(value)}"' for name, value in named.items() if value)
    action = to_word(body["event"]["action"], 32)
    return (
        f"<{priority}>1 {body['@timestamp']} {host} nightingale - {action} "
        f"[{STRUCTURE} {structure}] \ufeff{to_json(body)}"
    )


def to_word(text: str, most: int) -> str:
    """Return *text* as a header field may hold it: printable ASCII without a space."""
    return re.sub(r"[^!-~]", "_", text)[:most] or "-"


def escape(text: str) -> str:
    """Return *text* as the value of a parameter; it is UTF-8 without control characters."""
    return re.sub(r'(["\\\]])', r"\\\1", text)
