"""Takes batches from instances: who sends is checked before what is sent is read.

The agent's own credential is the key, not a hub token, so a spool drains after its server
stopped. An instance writes its own streams only.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from tornado.web import stream_request_body

from nightingale_hub.audit_chain import Seal, is_open_signed
from nightingale_hub.auth import ServiceHandler
from nightingale_hub.clock import now_us
from nightingale_hub.errors import (
    BadInput,
    BadSeal,
    NightingaleError,
    TooLarge,
    TooMany,
    Unavailable,
)
from nightingale_hub.findings import Severity, raise_finding
from nightingale_hub.lease import StaleLease
from nightingale_hub.services.audit.batch import MAX_PAYLOAD_BYTES, Batch, receive
from nightingale_hub.services.audit.sender import Sender, get_sender
from nightingale_hub.services.audit.stream import (
    Ack,
    Answer,
    Contradiction,
    Gap,
    NotOpen,
    open_stream,
)
from nightingale_hub.services.audit.writer import Writer

log = logging.getLogger("nightingale")
T = TypeVar("T")
RETRY_AFTER_S = 1
HEX = re.compile(r"[0-9a-f]+")
HEX_KEY = re.compile(r"[0-9a-f]{64}")
DECODERS = 2  # each may hold 32 MiB of lines and their events


CONFLICTS = {Gap: "gap", Contradiction: "conflict", NotOpen: "not_open"}


class InstanceHandler(ServiceHandler):
    """What only the instance that the stream is of may do."""

    async def authenticate(self) -> Sender:
        """Return who sends; raises `NotAllowed`, or `Unavailable` without a database."""
        stream_id, at_us = self.path_args[0], now_us()
        credential = self.bearer()
        try:
            return await self.context.read(
                lambda conn: get_sender(conn, credential, stream_id, at_us)
            )
        except SQLAlchemyError as error:
            log.error("the credential of %s was not checked: %s", stream_id, error)
            raise Unavailable("the database does not answer; send it again") from error

    async def commit(self, work: Callable[[Connection], T]) -> T:
        """Return `work(conn)` once committed; raises `Unavailable` when it cannot be."""
        try:
            return await self.context.write(work)
        except (SQLAlchemyError, StaleLease) as error:
            log.error("nothing was written for %s: %s", self.path_args[0], error)
            raise Unavailable("the audit log cannot be written now; send it again") from error

    async def answer(self, answer: Answer, evidence: Mapping[str, object]) -> None:
        """Reply with *answer*; what an honest sender never does becomes a finding first."""
        stream_id = self.path_args[0]
        match answer:
            case Ack(last_seq):
                self.reply({"ack": last_seq})
            case NotOpen():
                self._conflict(answer, "open the stream with its key first")
            case Gap(expect):
                await self._find("gap", Severity.HIGH, expect, evidence)
                self._conflict(answer, f"line {expect} has not come yet", expect=expect)
            case Contradiction(seq):
                # An honest sender numbers a line once: this is forgery or a broken spool.
                log.critical("audit stream %s: line %d came with another history", stream_id, seq)
                await self._find("equivocation", Severity.CRITICAL, seq, evidence)
                self._conflict(answer, f"line {seq} was stored with other content")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer as every service does, and say when to come again."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, Unavailable | TooMany):
            self.set_header("Retry-After", str(RETRY_AFTER_S))
        super().write_error(status_code, **kwargs)

    async def _find(
        self, kind: str, severity: Severity, seq: int, evidence: Mapping[str, object]
    ) -> None:
        stream_id, at_us = self.path_args[0], now_us()
        await self.commit(
            lambda conn: raise_finding(
                conn,
                key=f"{kind}:{stream_id}:{seq}",
                kind=kind,
                severity=severity,
                subject=f"stream:{stream_id}",
                evidence={"seq": seq, **evidence},
                at_us=at_us,
            )
        )

    def _conflict(self, answer: Answer, message: str, **values: int) -> None:
        self.set_status(409)
        self.reply({"error": {"code": CONFLICTS[type(answer)], "message": message, **values}})


class OpenHandler(InstanceHandler):
    """POST streams/<stream id>/open: the key of a boot in, the last durable line's number out."""

    async def post(self, stream_id: str) -> None:
        """Reply `{"ack": n}`; another key than the stream has is a conflict."""
        sender = await self.authenticate()
        body = self.json_body()
        key, signature = body.get("public_key"), body.get("signature")
        if body.get("v") != 1 or not (isinstance(key, str) and isinstance(signature, str)):
            raise BadInput('send {"v": 1, "public_key": "<64 hex>", "signature": "<128 hex>"}')
        if not HEX_KEY.fullmatch(key) or not is_open_signed(stream_id, key, signature):
            raise BadInput("the signature is not by public_key for this stream")
        owner, at_us = sender.instance.owner, now_us()
        answer = await self.commit(lambda conn: open_stream(conn, stream_id, owner, key, at_us))
        await self.answer(answer, {"public_key": key, "signature": signature})


@stream_request_body
class BatchHandler(InstanceHandler):
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
        try:
            self._sender = await self.authenticate()
            self._writer.ensure_room()
        except NightingaleError as error:
            self._refusal = error

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
        if self._sender.stream is None or self._sender.stream.public_key is None:
            await self.answer(NotOpen(), {})
            return
        batch = self._parse_batch(self._sender)
        self._chunks.clear()
        async with self._decoding:
            try:
                batch = await asyncio.to_thread(receive, batch)
            except BadSeal as error:
                await self._find("bad_seal", Severity.HIGH, batch.first_seq, {"flaw": str(error)})
                raise
        await self.answer(await self._writer.store(batch), batch.seal._asdict())

    def _parse_batch(self, sender: Sender) -> Batch:
        first_seq, last_seq = self._parse_number("X-First-Seq"), self._parse_number("X-Last-Seq")
        seal = Seal(
            first_seq,
            last_seq,
            prev_chain=self._parse_hex("X-Prev-Chain", 64),
            chain=self._parse_hex("X-Chain", 64),
            root=self._parse_hex("X-Root", 64),
            signature=self._parse_hex("X-Signature", 128),
        )
        assert sender.stream is not None
        return Batch(
            stream_id=sender.stream.id,
            instance_id=sender.instance.id,
            owner=sender.instance.owner,
            first_seq=first_seq,
            last_seq=last_seq,
            sha256="",
            payload=b"".join(self._chunks),
            seal=seal,
            public_key=sender.stream.public_key,
        )

    def _parse_number(self, header: str) -> int:
        text = self.request.headers.get(header, "")
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        raise BadInput(f"the header {header} must be a whole number")

    def _parse_hex(self, header: str, digits: int) -> str:
        text = self.request.headers.get(header, "")
        if len(text) == digits and HEX.fullmatch(text):
            return text
        raise BadInput(f"the header {header} must be {digits} lower-case hex digits")
