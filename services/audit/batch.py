"""A batch: contiguous lines of one stream, compressed as the instance sent them.

Nothing here trusts the sender: sizes are bounded before memory is taken.
"""

import hashlib
import io
from dataclasses import dataclass, replace

import zstandard

from nightingale_hub.audit_chain import Seal, find_flaw
from nightingale_hub.errors import BadInput, BadSeal, TooLarge
from nightingale_hub.services.audit.event import check_lines

MAX_PAYLOAD_BYTES = 4 << 20
MAX_LINES_BYTES = 32 << 20
# What level 19 and all below it use; more would let a header alone claim 2 GiB.
MAX_WINDOW_BYTES = 8 << 20


@dataclass(frozen=True)
class Batch:
    """Lines *first_seq* to *last_seq* of a stream; *sha256* is of the lines, not the payload.

    *number* is its place among the batches of all streams, once it has one.
    """

    stream_id: str
    instance_id: str
    owner: str
    first_seq: int
    last_seq: int
    sha256: str
    payload: bytes
    seal: Seal
    public_key: str
    number: int = 0


def unpack(payload: bytes) -> bytes:
    """Return the lines in *payload*; raises `BadInput`, or `TooLarge` past 32 MiB."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    source = io.BytesIO(payload)
    try:
        # Across frames, so that what follows the first frame is seen and refused.
        with decompressor.stream_reader(source, read_across_frames=True) as reader:
            lines = bytes(reader.read(MAX_LINES_BYTES + 1))
    except zstandard.ZstdError as error:
        raise BadInput(f"the batch is not zstd: {error}") from error
    if len(lines) > MAX_LINES_BYTES:
        raise TooLarge("the batch unpacks to more than 32 MiB; send fewer lines at once")
    return lines


def receive(batch: Batch) -> Batch:
    """Return *batch* with its hash once each of its lines and its seal were checked.

    Raises `BadInput` or `TooLarge`; takes about a second of CPU per million events.
    """
    if not 1 <= batch.first_seq <= batch.last_seq:
        raise BadInput("X-First-Seq must be at least 1 and at most X-Last-Seq")
    lines = unpack(batch.payload)
    split = check_lines(lines, batch.owner, batch.first_seq, batch.last_seq)
    flaw = find_flaw(batch.seal, split, batch.public_key)
    if flaw is not None:
        raise BadSeal(f"the batch's {flaw}")
    return replace(batch, sha256=hash_lines(lines))


def hash_lines(lines: bytes) -> str:
    """Return the hash by which two batches are the same."""
    return hashlib.sha256(lines).hexdigest()
