"""A frame: one batch as it lies in a segment file, complete enough to rebuild every row from.

    magic "NHA2" | crc32 of all that follows | length of header | length of payload
    (4 bytes each, big endian)
    header: JSON {"stream_id", "instance_id", "owner", "first_seq", "last_seq", "sha256",
                  "received_us", "number", "public_key", "prev_chain", "chain", "root",
                  "signature"}
    payload: the lines, compressed with zstd

This module knows bytes, not files.
"""

import struct
import zlib

import msgspec

from nightingale_hub.services.audit.batch import Batch

MAGIC = b"NHA2"
PREFIX = struct.Struct(">4sIII")
# A payload is at most what a batch unpacks to and the little that zstd adds.
MAX_HEADER_BYTES = 64 << 10
MAX_PAYLOAD_BYTES = 33 << 20


class DamagedFrame(Exception):
    """The bytes at this place are not a whole frame."""


class Header(msgspec.Struct, frozen=True):
    """What a frame says about its lines."""

    stream_id: str
    instance_id: str
    owner: str
    first_seq: int
    last_seq: int
    sha256: str
    received_us: int
    number: int
    public_key: str
    prev_chain: str
    chain: str
    root: str
    signature: str


class Frame(msgspec.Struct, frozen=True):
    """A batch as it was read back."""

    header: Header
    payload: bytes


def encode(batch: Batch, received_us: int) -> bytes:
    """Return *batch* as a frame."""
    header = msgspec.json.encode(
        Header(
            stream_id=batch.stream_id,
            instance_id=batch.instance_id,
            owner=batch.owner,
            first_seq=batch.first_seq,
            last_seq=batch.last_seq,
            sha256=batch.sha256,
            received_us=received_us,
            number=batch.number,
            public_key=batch.public_key,
            prev_chain=batch.seal.prev_chain,
            chain=batch.seal.chain,
            root=batch.seal.root,
            signature=batch.seal.signature,
        )
    )
    lengths = struct.pack(">II", len(header), len(batch.payload))
    crc = zlib.crc32(batch.payload, zlib.crc32(header, zlib.crc32(lengths)))
    return b"".join((MAGIC, struct.pack(">I", crc), lengths, header, batch.payload))


def measure(prefix: bytes) -> int:
    """Return the length of the frame that starts with *prefix*; raises `DamagedFrame`."""
    if len(prefix) < PREFIX.size:
        raise DamagedFrame("the frame's prefix is cut short")
    magic, _, header_bytes, payload_bytes = PREFIX.unpack(prefix[: PREFIX.size])
    if magic != MAGIC or header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise DamagedFrame("no frame starts here")
    return int(PREFIX.size + header_bytes + payload_bytes)


def decode(data: bytes) -> Frame:
    """Return the frame that *data* is; raises `DamagedFrame`."""
    if len(data) != measure(data):
        raise DamagedFrame("the frame is cut short")
    _, crc, header_bytes, _ = PREFIX.unpack_from(data)
    if zlib.crc32(memoryview(data)[8:]) != crc:
        raise DamagedFrame("the frame's checksum is wrong")
    start = PREFIX.size + header_bytes
    try:
        header = msgspec.json.decode(data[PREFIX.size : start], type=Header)
    except msgspec.DecodeError as error:
        raise DamagedFrame("the frame's header is unknown") from error
    return Frame(header, data[start:])
