"""The upload of one batch to the audit service, over one kept connection.

It knows HTTP and the service's answers, and neither files nor retries.
"""

import http.client
import json
import urllib.parse
from typing import Any, NamedTuple

import zstandard

from nightingale_hub.audit_chain import Seal, Signer
from nightingale_hub.errors import ConfigError, Unavailable

_TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """What the service said: `body` is its JSON object, empty when it sent none."""

    status: int
    body: dict[str, Any]
    retry_after_s: float

    @property
    def error(self) -> dict[str, Any]:
        """The error object of the answer, empty when there is none."""
        error = self.body.get("error")
        return error if isinstance(error, dict) else {}


class Upload:
    """Sends batches of one stream."""

    def __init__(self, audit_url: str, stream_id: str, credential: str) -> None:
        """Send to the service at *audit_url*, which ends in a slash, as *stream_id*."""
        url = urllib.parse.urlsplit(audit_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError(f"audit_url {audit_url!r} is no http or https URL")
        self._is_secure = url.scheme == "https"
        self._host, self._port = url.hostname, url.port
        self._stream_id = stream_id
        self._path = f"{url.path}streams/{urllib.parse.quote(stream_id, safe=':')}"
        self._credential = credential
        self._compressor = zstandard.ZstdCompressor()
        self._connection: http.client.HTTPConnection | None = None

    def open(self, signer: Signer) -> Answer:
        """Announce the stream's key; raises `Unavailable` when nothing answers."""
        signature = signer.sign_open(self._stream_id)
        announced = {"v": 1, "public_key": signer.public_key, "signature": signature}
        headers = {"Content-Type": "application/json"}
        return self._post("open", json.dumps(announced).encode(), headers)

    def send(self, seal: Seal, lines: list[bytes]) -> Answer:
        """Post *lines* under their *seal*; raises `Unavailable` when nothing answers."""
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "zstd",
            "X-First-Seq": str(seal.first_seq),
            "X-Last-Seq": str(seal.last_seq),
            "X-Prev-Chain": seal.prev_chain,
            "X-Chain": seal.chain,
            "X-Root": seal.root,
            "X-Signature": seal.signature,
        }
        payload = self._compressor.compress(b"\n".join(lines) + b"\n")
        return self._post("batches", payload, headers)

    def _post(self, what: str, payload: bytes, headers: dict[str, str]) -> Answer:
        headers["Authorization"] = f"Bearer {self._credential}"
        try:
            connection = self._connect()
            connection.request("POST", f"{self._path}/{what}", payload, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unavailable(f"the audit service does not answer: {error!r}") from error
        return Answer(response.status, _parse_object(body), _parse_wait(response))

    def close(self) -> None:
        """Drop the connection; the next batch makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
            self._connection = kind(self._host, self._port, timeout=_TIMEOUT_S)
        return self._connection


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _parse_wait(response: http.client.HTTPResponse) -> float:
    """Return the seconds of Retry-After; its other form, a date, is taken as none."""
    text = response.getheader("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
