"""The seals of a spool: which lines go to the service together, chained and signed.

The law: a seal is on disk before its batch is sent, so a batch that is sent again is the same,
whatever was killed in between. Seals stand in their own file, framed like lines; those of lines
that are gone are dropped, except the last, which holds the chain. Only the shipper writes here.
"""

import json
import os
import secrets
from pathlib import Path

from nightingale_hub import audit_chain
from nightingale_hub.audit_chain import Seal, Signer
from nightingale_hub.durable import create_text, find_json, sync_directory
from nightingale_hub.errors import Conflict
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.frames import frame, parse_frames

_COMPACT_BYTES = 1 << 20
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def load_signer(directory: str, stream_id: str) -> Signer:
    """Return the key of *stream_id*, made in the spool at *directory* at its first use.

    Raises `Conflict` when the spool is of another stream.
    """
    path = Path(directory) / "stream.json"
    if not path.exists():
        text = json.dumps({"stream_id": stream_id, "seed": secrets.token_hex(32)})
        create_text(path, text)  # of two that start at once one makes the key
    try:
        data = find_json(path) or {}
        known, seed = data["stream_id"], bytes.fromhex(data["seed"])
        signer = Signer(seed)
    except (KeyError, ValueError, TypeError) as error:
        raise Conflict(
            f"{path} holds no stream's key; keep the spool, tell the operator"
        ) from error
    if known != stream_id:
        raise Conflict(f"spool {directory} is of stream {known}, not of {stream_id}")
    return signer


class Seals:
    """The seals of the spool in one directory, and the head of its chain."""

    def __init__(self, directory: str, stream_id: str, signer: Signer) -> None:
        """Read what was sealed, cut a torn tail; raises `Conflict` for what cannot be."""
        self._path = Path(directory) / "seals.ndjson"
        self._signer = signer
        self._file = Descriptor(os.open(self._path, _FLAGS, 0o600))
        size = os.fstat(self._file.fd).st_size
        lines, used = parse_frames(os.pread(self._file.fd, size, 0))
        if used < size:
            os.ftruncate(self._file.fd, used)
        self._size = used
        self._genesis = audit_chain.begin(stream_id, signer.public_key)
        try:
            self._seals = [Seal.parse(line) for line in lines]
        except ValueError as error:
            raise Conflict(f"{self._path} is damaged: {error}; tell the operator") from error

    @property
    def next_seq(self) -> int:
        """The number of the first line that is not sealed."""
        return self._seals[-1].last_seq + 1 if self._seals else 1

    def find(self, seq: int) -> Seal | None:
        """Return the seal of the batch that holds line *seq*, or None when none does."""
        for seal in reversed(self._seals):
            if seal.first_seq <= seq:
                return seal if seq <= seal.last_seq else None
        return None

    def seal(self, lines: list[bytes]) -> Seal:
        """Seal *lines*, which come next, durably."""
        chain = self._seals[-1].chain if self._seals else self._genesis
        seal = self._signer.seal(chain, self.next_seq, lines)
        data = frame(seal.encode())
        if os.write(self._file.fd, data) != len(data):
            os.ftruncate(self._file.fd, self._size)
            raise OSError("the disk of the spool is full")
        os.fdatasync(self._file.fd)
        self._size += len(data)
        self._seals.append(seal)
        return seal

    def check(self, seal: Seal, lines: list[bytes]) -> None:
        """Raise `Conflict` unless *lines* are those that were sealed."""
        if audit_chain.compute_root(lines) != seal.root:
            raise Conflict(
                f"lines {seal.first_seq} to {seal.last_seq} of the spool were changed after they "
                "were sealed; keep the spool and tell the operator"
            )

    def reopen(self, seq: int) -> None:
        """Drop each seal from line *seq* on: none of them was taken."""
        self._rewrite([seal for seal in self._seals if seal.last_seq < seq])

    def forget(self, seq: int) -> None:
        """Let go of seals of lines before *seq*, once there is much of them."""
        if self._size > _COMPACT_BYTES:
            kept = [seal for seal in self._seals[:-1] if seal.last_seq >= seq]
            self._rewrite(kept + self._seals[-1:])

    def _rewrite(self, seals: list[Seal]) -> None:
        draft = self._path.with_name(f".{self._path.name}.new")
        file = Descriptor(os.open(draft, _FLAGS | os.O_TRUNC, 0o600))
        data = b"".join(frame(seal.encode()) for seal in seals)
        if os.write(file.fd, data) != len(data):
            raise OSError("the disk of the spool is full")
        os.fdatasync(file.fd)
        os.replace(draft, self._path)
        sync_directory(self._path.parent)
        self._file, self._size, self._seals = file, len(data), seals
