"""An audit service in this process: its real application, loops and lease, on a free port."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import zstandard
from sqlalchemy import func, insert, select
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from nightingale_hub.audit_chain import Seal, Signer, begin
from nightingale_hub.auth import sha256_hex
from nightingale_hub.database import Database
from nightingale_hub.lease import take_lease
from nightingale_hub.service import Context, Loop, Service
from nightingale_hub.services.audit import service
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.audit import audit_batch, audit_event, audit_file, audit_source
from nightingale_hub.tables.instances import instance
from nightingale_hub.tables.log import finding

CONSOLE = {"Authorization": "Bearer the-console"}
AT_US = 1_795_000_000_000_000


class HubThatKnowsTokens:
    """Answers, in the hub's stead, whose token came."""

    async def user_for_token(self, token: str, **_: object) -> dict[str, Any] | None:
        return {
            "the-console": {"kind": "service", "name": "console"},
            "the-metering": {"kind": "service", "name": "metering"},
            "of-alice": {"kind": "user", "name": "alice"},
        }.get(token)


@dataclass(frozen=True)
class Sender:
    """An instance that may send, and one stream of it; *chains* by the line that each is behind."""

    instance_id: str
    owner: str
    credential: str
    boot_id: str
    signer: Signer = field(default_factory=lambda: Signer(secrets.token_bytes(32)))
    chains: dict[int, str] = field(default_factory=dict)

    @property
    def stream_id(self) -> str:
        return f"{self.instance_id}:{self.boot_id}"

    def seal(self, first_seq: int, lines: Iterable[bytes]) -> Seal:
        """Seal *lines* behind what was sealed before them, if anything was."""
        self.chains.setdefault(0, begin(self.stream_id, self.signer.public_key))
        prev_chain = self.chains.get(first_seq - 1, "0" * 64)
        return self.signer.seal(prev_chain, first_seq, lines)

    @property
    def announcement(self) -> dict[str, object]:
        signature = self.signer.sign_open(self.stream_id)
        return {"v": 1, "public_key": self.signer.public_key, "signature": signature}


def add_instance(database: Database, owner: str = "alice", actual: str = "running") -> Sender:
    sender = Sender(
        f"i-{secrets.token_hex(6)}", owner, secrets.token_hex(32), secrets.token_hex(16)
    )
    with database.write() as conn:
        conn.execute(
            insert(instance).values(
                id=sender.instance_id,
                owner=owner,
                server_name=sender.instance_id,
                cloud="local",
                region="here",
                instance_type="local",
                cpu="S",
                gpu="none",
                disk="S",
                nano_usd_per_hour=0,
                wanted="running",
                actual=actual,
                credential_sha256=sha256_hex(sender.credential),
                created_us=AT_US,
            )
        )
    return sender


def make_line(seq: int, owner: str = "alice", **fields: object) -> bytes:
    """A line as the audit mount writes it."""
    event = {
        "v": 1, "seq": seq, "ts": AT_US + seq, "act": "read", "user": owner, "uid": 1000,
        "pid": 7, "ppid": 1, "exe": "/usr/bin/cat", "ds": "dicom", "path": f"CT/{seq}.dcm",
        "fid": 3, "ino": 4, "off": 0, "len": 4096, "dur": 12, "flags": 0, "rc": 0,
        "pol": "strict",
    }  # fmt: skip
    event.update(fields)
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


def make_lines(first_seq: int, last_seq: int, **fields: Any) -> list[bytes]:
    return [make_line(seq, **fields) for seq in range(first_seq, last_seq + 1)]


def pack(lines: Iterable[bytes]) -> bytes:
    return zstandard.compress(b"".join(line + b"\n" for line in lines))


@dataclass
class AuditClient:
    """Speaks to the service as agents and the console do."""

    http: httpx.AsyncClient
    segments: Path
    loops: Sequence[asyncio.Task[None]] = ()

    async def send(
        self, sender: Sender, first_seq: int, lines: list[bytes], **changes: Any
    ) -> httpx.Response:
        if not sender.chains:
            opened = await self.open(sender)
            assert opened.status_code == 200, opened.text
        seal = changes.pop("seal", None) or sender.seal(first_seq, lines)
        headers = {
            "Authorization": f"Bearer {sender.credential}",
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "zstd",
            "X-First-Seq": str(first_seq),
            "X-Last-Seq": str(first_seq + len(lines) - 1),
            "X-Prev-Chain": seal.prev_chain,
            "X-Chain": seal.chain,
            "X-Root": seal.root,
            "X-Signature": seal.signature,
        } | changes.pop("headers", {})
        content = changes.pop("content", None) or pack(lines)
        stream_id = changes.pop("stream_id", sender.stream_id)
        assert not changes
        response = await self.http.post(
            f"api/streams/{stream_id}/batches", content=content, headers=headers
        )
        if response.status_code == 200 and response.json()["ack"] == seal.last_seq:
            sender.chains[seal.last_seq] = seal.chain
        return response

    async def open(self, sender: Sender, **changes: object) -> httpx.Response:
        response = await self.http.post(
            f"api/streams/{sender.stream_id}/open",
            json=sender.announcement | changes,
            headers={"Authorization": f"Bearer {sender.credential}"},
        )
        if response.status_code == 200:
            sender.chains.setdefault(0, begin(sender.stream_id, sender.signer.public_key))
        return response

    async def ask(self, route: str, **query: object) -> Any:
        response = await self.http.get(f"api/{route}", params=query, headers=CONSOLE)  # type: ignore[arg-type]  # every value is text or a number
        assert response.status_code == 200, response.text
        return response.json()

    async def wait_indexed(self, sender: Sender, seq: int) -> None:
        route = f"api/streams/{sender.stream_id}"
        async with asyncio.timeout(20):
            while True:
                response = await self.http.get(route, headers=CONSOLE)
                if response.status_code == 200 and response.json()["indexed_seq"] >= seq:
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def audit_service(
    database: Database,
    state_dir: Path,
    make: Callable[[Context], Service] = service.make,
    port: int = 0,
    **given: Any,
) -> AsyncIterator[AuditClient]:
    epoch = database.transact(lambda conn: take_lease(conn, "audit", "test", AT_US))
    settings = NightingaleHub(state_dir=str(state_dir), db_url=database.url, **given)
    context = Context("audit", settings, database, epoch)
    made = make(context)
    application = Application(
        [(context.prefix + path, handler, kwargs) for path, handler, kwargs in made.routes],
        context=context,
        hub_auth=HubThatKnowsTokens(),
        **made.application,
    )
    server = HTTPServer(application, max_body_size=64 << 20)
    sockets = bind_sockets(port, "127.0.0.1")
    server.add_sockets(sockets)
    tasks = [asyncio.create_task(_repeat(each)) for each in made.loops]
    base = f"http://127.0.0.1:{sockets[0].getsockname()[1]}{context.prefix}"
    try:
        async with httpx.AsyncClient(base_url=base, timeout=30) as http:
            yield AuditClient(http, context.settings.state_path / "audit" / "segments", tasks)
    finally:
        server.stop()
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert made.on_stop is not None
        await made.on_stop()
        await server.close_all_connections()
        for task in ended:
            task.result()


def list_stored(database: Database, sender: Sender) -> list[tuple[int, str]]:
    """Sequence number and path of each indexed event of a stream, in order."""
    with database.read() as conn:
        rows = conn.execute(
            select(audit_event.c.seq, audit_file.c.path)
            .join(audit_file, audit_file.c.id == audit_event.c.file)
            .join(audit_source, audit_source.c.id == audit_event.c.source)
            .where(audit_source.c.stream_id == sender.stream_id)
            .order_by(audit_event.c.seq)
        )
        return [(row.seq, row.path) for row in rows]


def list_sent(last_seq: int) -> list[tuple[int, str]]:
    """What `list_stored` gives once lines 1 to *last_seq* of `make_lines` are stored."""
    return [(seq, f"CT/{seq}.dcm") for seq in range(1, last_seq + 1)]


def count_batches(database: Database) -> int:
    with database.read() as conn:
        return int(conn.execute(select(func.count()).select_from(audit_batch)).scalar_one())


def list_findings(database: Database) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Kind, severity, subject and evidence of each finding, in order."""
    with database.read() as conn:
        rows = conn.execute(select(finding).order_by(finding.c.id)).all()
    return [(row.kind, row.severity, row.subject, json.loads(row.evidence)) for row in rows]


async def _repeat(loop: Loop) -> None:
    while True:
        await loop.step()
        await asyncio.sleep(loop.pause_s)
