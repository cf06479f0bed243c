"""Read manifests: what one training run read, as a document that the log's key signed.

It says what the index holds of one instance, one of its processes or a time of it, and up to
which line and chain of each stream that is: so it can be held against the log. It is made only
once every acknowledged line is indexed, so it never leaves out what is known.
"""

from typing import Any

from sqlalchemy import Connection, select

from nightingale_hub.errors import NotFound, Unavailable
from nightingale_hub.proof.manifest import format_note
from nightingale_hub.services.audit import stream
from nightingale_hub.services.audit.history import History
from nightingale_hub.services.audit.log import LogSigner
from nightingale_hub.services.audit.questions import list_streams
from nightingale_hub.services.audit.search import Filters
from nightingale_hub.tables.audit import audit_stream
from nightingale_hub.tables.log import log_checkpoint


def make_manifest(
    conn: Connection, history: History, signer: LogSigner, filters: Filters, at_us: int
) -> dict[str, Any]:
    """Return the manifest of an instance, or of its process or its time, with its signed note.

    Raises `NotFound` for an instance without a stream, `Unavailable` while lines wait to be
    indexed.
    """
    instance_id = filters.instance
    rows = conn.execute(select(audit_stream).where(audit_stream.c.instance_id == instance_id)).all()
    if not rows:
        raise NotFound(f"instance {instance_id} has read nothing")
    for row in rows:
        if stream.get_indexed_seq(conn, row) < row.last_seq:
            raise Unavailable("the newest reads are being indexed; ask again in a moment")
    newest = conn.execute(
        select(log_checkpoint.c.note).order_by(log_checkpoint.c.at_us.desc()).limit(1)
    ).scalar_one_or_none()
    manifest = {
        "v": 1,
        "instance": instance_id,
        "owner": rows[0].owner,
        "pid": filters.pid,
        "since_us": filters.since_us,
        "until_us": filters.until_us,
        "made_us": at_us,
        "streams": list_streams(conn, str(instance_id)),
        "checkpoint": newest,
        "files": history.list_all_files(conn, filters),
    }
    return {"manifest": manifest, "note": signer.sign(format_note(signer.key.name, manifest))}
