"""Exports the log as a bundle that the offline verifier checks: one zip file, from one snapshot."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from nightingale_hub.proof.note import Key
from nightingale_hub.services.audit.frame import DamagedFrame
from nightingale_hub.services.audit.segments import Place, Segments
from nightingale_hub.tables.audit import audit_batch
from nightingale_hub.tables.billing import entry, journal
from nightingale_hub.tables.documents import document
from nightingale_hub.tables.log import log_checkpoint, log_leaf
from nightingale_hub.tables.metering import segment

Object = dict[str, Any]


def export_bundle(
    conn: Connection, segments: Segments, key: Key, path: Path, at_us: int, lines_from: int = 1
) -> list[str]:
    """Write the bundle to *path*, which must not exist, and return what is missing in it.

    *lines_from* is the number of the first batch whose lines go into it.
    """
    missing: list[str] = []
    about = {"v": 1, "key": key.format(), "made_us": at_us, "lines_from": lines_from}
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("bundle.json", json.dumps(about))
        for name, export in EXPORTS.items():
            with bundle.open(f"{name}.ndjson", "w", force_zip64=True) as member:
                for each in export(conn):
                    member.write(json.dumps(each).encode() + b"\n")
        # Without a file: dropped after its time, which a leaf says.
        query = select(audit_batch).where(
            audit_batch.c.number >= lines_from, audit_batch.c.file != ""
        )
        for row in conn.execute(query.order_by(audit_batch.c.number)):
            try:
                place = Place(row.file, row.position, row.length)
                lines = segments.load_lines(place, row.sha256)
            except DamagedFrame as error:
                missing.append(f"lines of batch {row.number} of {row.stream_id}: {error}")
                continue
            bundle.writestr(f"lines/{row.number:012d}.ndjson", lines)
    return missing


def _export_leaves(conn: Connection) -> Iterable[Object]:
    query = select(log_leaf).where(log_leaf.c.position.is_not(None)).order_by(log_leaf.c.position)
    for row in conn.execute(query):
        yield {
            "position": row.position,
            "kind": row.kind,
            "at_us": row.at_us,
            "sha256": row.sha256,
            "payload": row.payload,
        }


def _export_checkpoints(conn: Connection) -> Iterable[Object]:
    query = select(log_checkpoint.c.note).order_by(log_checkpoint.c.at_us)
    return ({"note": row.note} for row in conn.execute(query))


def _export_journals(conn: Connection) -> Iterable[Object]:
    entries: dict[int, list[list[Any]]] = {}
    for row in conn.execute(select(entry).order_by(entry.c.id)):
        entries.setdefault(row.journal_id, []).append([row.account, row.amount_micro, row.currency])
    for row in conn.execute(select(journal).order_by(journal.c.id)):
        yield {
            "id": row.id,
            "idem_key": row.idem_key,
            "description": row.description,
            "entries": entries.get(row.id, []),
        }


def _export_documents(conn: Connection) -> Iterable[Object]:
    for row in conn.execute(select(document).order_by(document.c.number)):
        digest = hashlib.sha256(row.pdf).hexdigest()
        yield {"number": row.number, "content": row.content, "pdf_sha256": digest}


def _export_meter(conn: Connection) -> Iterable[Object]:
    query = select(segment).where(segment.c.meter == "ready").order_by(segment.c.id)
    for row in conn.execute(query):
        yield {
            "instance_id": row.instance_id,
            "boot_id": row.boot_id,
            "start_us": row.start_us,
            "end_us": row.end_us,
        }


EXPORTS: dict[str, Callable[[Connection], Iterable[Object]]] = {
    "leaves": _export_leaves,
    "checkpoints": _export_checkpoints,
    "journals": _export_journals,
    "documents": _export_documents,
    "meter": _export_meter,
}
