"""Takes batches from instances: who sends is checked before what is sent is read.

The agent's own credential is the key, not a hub token, so a spool drains after its server
stopped. An instance writes its own streams only.
"""

import asyncio
import logging
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from tornado.web import stream_request_body

from nightingale_hub.auth import ServiceHandler
from nightingale_hub.errors import BadInput, NightingaleError, NotAllowed, TooLarge, Unavailable
from nightingale_hub.services.audit.batch import MAX_PAYLOAD_BYTES, Batch, receive
from nightingale_hub.services.audit.stream import Ack, Contradiction, Gap, parse_stream_id
from nightingale_hub.services.audit.writer import Writer

log = logging.getLogger("nightingale")
RETRY_AFTER_S = 1
DECODERS = 2  # each may hold 32 MiB of lines and their events


@stream_request_body
class BatchHandler(ServiceHandler):
    """POST streams/<stream id>/batches: zstd lines in, the last durable line's number out."""

    def initialize(self, writer: Writer, decoding: asyncio.Semaphore) -> None:
        """Hand batches to *writer*; at most as many decode at once as *decoding* lets."""
        self._writer = writer
        self._decoding = decoding
        self._chunks: list[bytes] = []
        self._size = 0
        self._refusal: NightingaleError | None = None

    async def prepare(self) -> None:
        """Find out who sends, and whether they may, before a byte of the body is kept."""
        self._stream_id = self.path_args[0]
        try:
            instance_id, _ = parse_stream_id(self._stream_id)
            self._instance = await self.require_instance()
            if instance_id != self._instance.id:
                raise NotAllowed("this credential is of another instance than this stream")
        except NightingaleError as error:
            self._refusal = error
        except SQLAlchemyError as error:
            log.error("the credential of %s was not checked: %s", self._stream_id, error)
            self._refusal = Unavailable("the database does not answer; send the batch again")

    def data_received(self, chunk: bytes) -> None:
        """Keep *chunk*, unless it is refused anyway.

        A refused body is read to its end: a sender that still writes would lose the answer.
        """
        self._size += len(chunk)
        if self._size > MAX_PAYLOAD_BYTES:
            self._chunks.clear()
        elif self._refusal is None:
            self._chunks.append(chunk)

    async def post(self, _stream_id: str) -> None:
        """Reply `{"ack": n}` once every line up to n is durable."""
        if self._refusal is not None:
            raise self._refusal
        if self._size > MAX_PAYLOAD_BYTES:
            raise TooLarge("the batch is larger than 4 MiB; send fewer lines at once")
        if self.request.headers.get("Content-Encoding") != "zstd":
            raise BadInput("send the lines with Content-Encoding: zstd")
        batch = Batch(
            stream_id=self._stream_id,
            instance_id=self._instance.id,
            owner=self._instance.owner,
            first_seq=self._parse_number("X-First-Seq"),
            last_seq=self._parse_number("X-Last-Seq"),
            sha256="",
            payload=b"".join(self._chunks),
        )
        self._chunks.clear()
        async with self._decoding:
            batch = await asyncio.to_thread(receive, batch)
        match await self._writer.store(batch):
            case Ack(last_seq):
                self.reply({"ack": last_seq})
            case Gap(expect):
                self._reply_conflict("gap", f"line {expect} has not come yet", expect=expect)
            case Contradiction(seq):
                # An honest sender numbers a line once: this is forgery or a broken spool.
                log.critical(
                    "audit stream %s: line %d was sent again with other content",
                    batch.stream_id,
                    seq,
                )
                self._reply_conflict("conflict", f"line {seq} was stored with other content")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer as every service does, and say when to come again."""
        if isinstance(kwargs.get("exc_info", (None, None, None))[1], Unavailable):
            self.set_header("Retry-After", str(RETRY_AFTER_S))
        super().write_error(status_code, **kwargs)

    def _reply_conflict(self, code: str, message: str, **values: int) -> None:
        self.set_status(409)
        self.reply({"error": {"code": code, "message": message, **values}})

    def _parse_number(self, header: str) -> int:
        text = self.request.headers.get(header, "")
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        raise BadInput(f"the header {header} must be a whole number")
