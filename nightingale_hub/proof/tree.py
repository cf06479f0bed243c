"""The Merkle tree over the log's leaves. ref: https://www.rfc-editor.org/rfc/rfc6962#section-2.1"""

import hashlib
from collections.abc import Sequence


def encode_leaf(kind: str, at_us: int, sha256: str) -> bytes:
    """Return the bytes of a leaf; *sha256* is its payload's, which may be erased."""
    return f"nightingale-leaf/v1\n{kind}\n{at_us}\n{sha256}\n".encode()


def hash_leaf(leaf: bytes) -> bytes:
    """Return the Merkle hash of a leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the Merkle hash of two nodes."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Range:
    """The first *size* leaves of a log, as the roots of the perfect trees that they make."""

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        """Begin with what an earlier range was."""
        if size.bit_count() != len(nodes):
            raise ValueError(f"{size} leaves make {size.bit_count()} trees, not {len(nodes)}")
        self.size, self.nodes = size, list(nodes)

    def append(self, leaf_hash: bytes) -> None:
        """Add the next leaf."""
        rest, node = self.size, leaf_hash
        while rest & 1:
            rest, node = rest >> 1, hash_children(self.nodes.pop(), node)
        self.nodes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash of all of them."""
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        *rest, root = self.nodes
        for node in reversed(rest):
            root = hash_children(node, root)
        return root
