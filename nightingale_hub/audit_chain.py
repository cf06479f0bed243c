"""The chain of an audit stream: what makes an edit of a recorded line show.

A batch of lines has an RFC 6962 root; the chain joins it to all batches before it; a signature by
the boot's own key says who joined it. Both ends work on the bytes of the lines as they were
written: nothing is ever serialised anew. docs/audit-wire.md has the format.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

OPEN_CONTEXT = b"nightingale audit open\0"
STREAM_CONTEXT = b"nightingale audit stream\0"
BATCH_CONTEXT = b"nightingale audit batch\0"


class Seal(NamedTuple):
    """What joins lines *first_seq* to *last_seq* to a chain; all hashes are lower-case hex."""

    first_seq: int
    last_seq: int
    prev_chain: str
    chain: str
    root: str
    signature: str

    def encode(self) -> bytes:
        """Return it as one line of JSON."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, line: bytes) -> "Seal":
        """Return the seal that `encode` gave; raises `ValueError` for anything else."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"no seal: {line[:80]!r}") from error


class Signer:
    """The Ed25519 key of one boot."""

    def __init__(self, seed: bytes) -> None:
        """Take the key that *seed*, 32 secret bytes, gives."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw().hex()

    def sign_open(self, stream_id: str) -> str:
        """Return the proof that whoever announces the key for *stream_id* has it."""
        return self._key.sign(OPEN_CONTEXT + stream_id.encode() + b"\0").hex()

    def seal(self, prev_chain: str, first_seq: int, lines: Iterable[bytes]) -> Seal:
        """Return the seal of *lines*, which are numbered from *first_seq*, behind *prev_chain*."""
        listed = list(lines)
        last_seq = first_seq + len(listed) - 1
        root = compute_root(listed)
        chain = extend(prev_chain, root, first_seq, last_seq)
        signature = self._key.sign(BATCH_CONTEXT + bytes.fromhex(chain)).hex()
        return Seal(first_seq, last_seq, prev_chain, chain, root, signature)


def begin(stream_id: str, public_key: str) -> str:
    """Return the chain of a stream before its first batch: no other stream or key begins so."""
    text = STREAM_CONTEXT + stream_id.encode() + b"\0" + bytes.fromhex(public_key)
    return hashlib.sha256(text).hexdigest()


def compute_root(lines: Iterable[bytes]) -> str:
    """Return the Merkle tree hash of *lines*, which are at least one and have no newline.

    ref: https://www.rfc-editor.org/rfc/rfc6962#section-2.1
    """
    sha256 = hashlib.sha256
    nodes = [sha256(b"\0" + line).digest() for line in lines]
    while len(nodes) > 1:
        # The last one of an odd number goes up as it is: the same tree, built from below.
        rest = nodes[-1:] if len(nodes) % 2 else []
        pairs = zip(nodes[::2], nodes[1::2], strict=False)
        nodes = [sha256(b"\1" + left + right).digest() for left, right in pairs] + rest
    return nodes[0].hex()


def extend(prev_chain: str, root: str, first_seq: int, last_seq: int) -> str:
    """Return the chain behind a batch: sha256(chain before, root, first, last)."""
    numbers = first_seq.to_bytes(8, "big") + last_seq.to_bytes(8, "big")
    return hashlib.sha256(bytes.fromhex(prev_chain) + bytes.fromhex(root) + numbers).hexdigest()


def find_flaw(seal: Seal, lines: Iterable[bytes], public_key: str) -> str | None:
    """Return what is wrong with *seal* of *lines*, or None; its place in a chain is not asked."""
    try:
        if not hmac.compare_digest(seal.root, compute_root(lines)):
            return "root is not that of the lines"
        if seal.chain != extend(seal.prev_chain, seal.root, seal.first_seq, seal.last_seq):
            return "chain does not follow from prev_chain and root"
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(seal.signature), BATCH_CONTEXT + bytes.fromhex(seal.chain))
    except InvalidSignature:
        return "signature is not by the key of the stream"
    except (ValueError, TypeError, OverflowError):
        return "a hash, a number or the signature is malformed"
    return None


def is_open_signed(stream_id: str, public_key: str, signature: str) -> bool:
    """Return whether *signature* shows that who announces *public_key* has its secret part."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), OPEN_CONTEXT + stream_id.encode() + b"\0")
    except (InvalidSignature, ValueError):
        return False
    return True
