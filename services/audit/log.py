"""The tamper-evident log: gives each leaf its position, and signs the log's head every minute.

Nothing is signed that a witness contradicts: a log that is shorter or other than what a witness
holds was restored or edited, and that is a critical finding until someone has looked.
"""

import asyncio
import base64
import logging
import secrets
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Executable, bindparam, insert, select, update

from nightingale_hub.clock import US_PER_S, now_us
from nightingale_hub.durable import create_text
from nightingale_hub.findings import Severity, raise_finding
from nightingale_hub.log_leaf import append_leaf, format_payload, hash_text
from nightingale_hub.proof.note import Checkpoint, Key
from nightingale_hub.proof.tree import Range, encode_leaf, hash_leaf
from nightingale_hub.service import Context
from nightingale_hub.services.audit.witness import Witness
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.log import log_checkpoint, log_leaf

log = logging.getLogger("nightingale")
SIGN_EVERY_US = 60 * US_PER_S
LEAVES_AT_ONCE = 2000
# Whoever reads them could act in the hub's name.
SECRET_SETTINGS = ("db_url",)


class LogSigner:
    """The key that signs the log's heads, in a 0600 file made on first use."""

    def __init__(self, settings: NightingaleHub) -> None:
        """Load or make the key of the hub that has *settings*."""
        path = settings.state_path / "audit" / "log.key"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_text(path, secrets.token_hex(32))
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text()))
        name = f"nightingale-hub/{settings.hub_id}"
        self.key = Key(name, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """Return *text*, which ends in a newline, as a signed note."""
        signature = base64.b64encode(self.key.hash + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.key.name} {signature}\n"


class Log:
    """Follows the leaves of one hub; its `step` is a loop of the audit service."""

    def __init__(self, context: Context) -> None:
        """Order and sign the log in the database of *context*."""
        self._context = context
        self.signer = LogSigner(context.settings)
        self._witnesses = [Witness(place) for place in context.settings.audit_witnesses]
        self._checked: set[Witness] = set()
        self._tree: Range | None = None
        self._signed_us = 0

    async def step(self) -> None:
        """Order what is new, sign when it is time, and bring the witnesses what they lack."""
        tree = self._tree or await self._load()
        count = LEAVES_AT_ONCE
        while count == LEAVES_AT_ONCE:
            self._tree = None  # loaded anew should the commit's answer be lost
            tree, count = await self._context.write(partial(order, tree=tree))
            self._tree = tree
        for witness in self._witnesses:
            await self._check(witness)
        at_us = now_us()
        if at_us >= self._signed_us + SIGN_EVERY_US:
            await self._sign(tree, at_us)
            self._signed_us = at_us
        await self._copy()

    async def _load(self) -> Range:
        await self._context.write(lambda conn: self._announce(conn, now_us()))
        return await self._context.read(load_tree)

    async def _sign(self, tree: Range, at_us: int) -> None:
        said = Checkpoint(self.signer.key.name, tree.size, tree.root(), at_us)
        values = {
            "at_us": at_us,
            "size": tree.size,
            "nodes": b"".join(tree.nodes).hex(),
            "note": self.signer.sign(said.format()),
        }
        statement = insert(log_checkpoint).values(values)
        await self._context.write(partial(_execute, statement=statement))

    async def _check(self, witness: Witness) -> None:
        """Raise `LogContradicted` unless the log goes on from the newest that *witness* has."""
        if witness in self._checked:
            return
        try:
            note = await asyncio.to_thread(witness.find_newest)
        except OSError as error:
            log.error("witness %s cannot be asked: %s", witness.place, error)
            return
        if note is not None:
            said = Checkpoint.parse(note, self.signer.key)
            root = await self._context.read(lambda conn: find_root(conn, said.size))
            if root != said.root:
                await self._context.write(lambda conn: self._find_contradiction(conn, said))
                raise LogContradicted(
                    f"witness {witness.place} holds a log of {said.size} leaves that this is no "
                    "continuation of: it was restored or edited, so nothing is signed"
                )
        self._checked.add(witness)

    async def _copy(self) -> None:
        if not self._witnesses:
            return  # the first that there is gets all of them
        rows = await self._context.read(list_unwitnessed)
        for row in rows:
            for witness in self._witnesses:
                if witness not in self._checked:
                    return
                try:
                    await asyncio.to_thread(witness.put, row.at_us, row.size, row.note)
                except OSError as error:
                    # The next step tries again; what is not witnessed stays marked so.
                    log.error("witness %s did not take a checkpoint: %s", witness.place, error)
                    return
            mark = update(log_checkpoint).where(log_checkpoint.c.at_us == row.at_us)
            marked = mark.values(witnessed_us=now_us())
            await self._context.write(partial(_execute, statement=marked))

    def _announce(self, conn: Connection, at_us: int) -> None:
        """Append leaves for the key and the settings in force, unless the newest say the same."""
        settings: dict[str, Any] = self._context.settings.to_dict()
        for name in SECRET_SETTINGS:
            settings[name] = hash_text(str(settings[name]))
        # A port is drawn anew at each start, and says nothing.
        settings.pop("service_ports", None)
        said = format_payload({name: repr(value) for name, value in settings.items()})
        for kind, payload in (
            ("log_key", {"key": self.signer.key.format()}),
            ("configuration", {"sha256": hash_text(said), "settings": said}),
        ):
            newest = conn.execute(
                select(log_leaf.c.sha256)
                .where(log_leaf.c.kind == kind)
                .order_by(log_leaf.c.id.desc())
                .limit(1)
            ).scalar_one_or_none()
            if newest != hash_text(format_payload(payload)):
                append_leaf(conn, kind, payload, at_us)

    def _find_contradiction(self, conn: Connection, said: Checkpoint) -> None:
        raise_finding(
            conn,
            key=f"log_contradicted:{said.size}:{said.root.hex()}",
            kind="log_contradicted",
            severity=Severity.CRITICAL,
            subject=f"log:{said.origin}",
            evidence={"size": said.size, "root": said.root.hex(), "at_us": said.at_us},
            at_us=now_us(),
        )


def _execute(conn: Connection, statement: Executable) -> None:
    conn.execute(statement)


class LogContradicted(Exception):
    """A witness holds another log than this one."""


def order(conn: Connection, tree: Range) -> tuple[Range, int]:
    """Give the oldest leaves without a position the next ones; return the tree and their count."""
    rows = conn.execute(
        select(log_leaf.c.id, log_leaf.c.kind, log_leaf.c.at_us, log_leaf.c.sha256)
        .where(log_leaf.c.position.is_(None))
        .order_by(log_leaf.c.id)
        .limit(LEAVES_AT_ONCE)
    ).all()
    grown = Range(tree.size, tree.nodes)
    changes = []
    for row in rows:
        changes.append({"leaf": row.id, "at": grown.size})
        grown.append(hash_leaf(encode_leaf(row.kind, row.at_us, row.sha256)))
    if changes:
        # One statement, so that a leaf that another process ordered meanwhile stops it.
        conn.execute(
            update(log_leaf)
            .where(log_leaf.c.id == bindparam("leaf"))
            .values(position=bindparam("at")),
            changes,
        )
    return grown, len(rows)


def load_tree(conn: Connection) -> Range:
    """Return the tree of all leaves that have a position, from the newest checkpoint on."""
    newest = conn.execute(
        select(log_checkpoint).order_by(log_checkpoint.c.at_us.desc()).limit(1)
    ).one_or_none()
    tree = Range()
    if newest is not None:
        nodes = bytes.fromhex(newest.nodes)
        tree = Range(newest.size, [nodes[at : at + 32] for at in range(0, len(nodes), 32)])
    return _grow(conn, tree, None)


def find_root(conn: Connection, size: int) -> bytes | None:
    """Return the root of the first *size* leaves, from the leaves themselves, or None if fewer."""
    tree = _grow(conn, Range(), size)
    return tree.root() if tree.size == size else None


def _grow(conn: Connection, tree: Range, size: int | None) -> Range:
    query = select(log_leaf.c.kind, log_leaf.c.at_us, log_leaf.c.sha256).where(
        log_leaf.c.position >= tree.size
    )
    if size is not None:
        query = query.where(log_leaf.c.position < size)
    for row in conn.execute(query.order_by(log_leaf.c.position)):
        tree.append(hash_leaf(encode_leaf(row.kind, row.at_us, row.sha256)))
    return tree


def list_unwitnessed(conn: Connection) -> list[Any]:
    """Return the oldest checkpoints that not every witness has."""
    query = select(log_checkpoint).where(log_checkpoint.c.witnessed_us.is_(None))
    return list(conn.execute(query.order_by(log_checkpoint.c.at_us).limit(100)))
