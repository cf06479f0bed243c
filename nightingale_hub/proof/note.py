"""Signed notes: the key that signs the log, and a checkpoint as that key signs it."""

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Key:
    """An Ed25519 key of signed notes, as its text `name+hash+base64` names it."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The four bytes that stand before each signature of this key."""
        return hashlib.sha256(f"{self.name}\n\x01".encode() + self.public).digest()[:4]

    def format(self) -> str:
        """Return it as text. ref: https://c2sp.org/signed-note"""
        return (
            f"{self.name}+{self.hash.hex()}+{base64.b64encode(bytes([1]) + self.public).decode()}"
        )

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Return the key that *text* names; raises `ValueError`."""
        name, _, encoded = text.strip().split("+", 2)
        data = base64.b64decode(encoded, validate=True)
        key = cls(name, data[1:])
        if len(data) != 33 or key.format() != text.strip():
            raise ValueError("this is no Ed25519 key of signed notes")
        return key


@dataclass(frozen=True)
class Checkpoint:
    """What a signed note says: at *at_us* the log of *origin* had *size* leaves under *root*."""

    origin: str
    size: int
    root: bytes
    at_us: int

    def format(self) -> str:
        """Return the text that is signed. ref: https://c2sp.org/tlog-checkpoint"""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\nat_us {self.at_us}\n"

    @classmethod
    def parse(cls, note: str, key: Key) -> "Checkpoint":
        """Return what *note* says once *key* is known to have signed it; raises `ValueError`."""
        text = open_note(note, key)
        origin, size, root, at = text.splitlines()
        found = cls(origin, int(size), base64.b64decode(root), int(at.removeprefix("at_us ")))
        if found.format() != text:
            raise ValueError("it is not written as a checkpoint is")
        return found


def open_note(note: str, key: Key) -> str:
    """Return the text of *note* once *key* is known to have signed it; raises `ValueError`."""
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        dash, name, encoded = line.split(" ")
        signature = base64.b64decode(encoded, validate=True)
        if (dash, name, signature[:4]) != ("—", key.name, key.hash):
            continue
        try:
            public = Ed25519PublicKey.from_public_bytes(key.public)
            public.verify(signature[4:], f"{text}\n".encode())
        except InvalidSignature:
            raise ValueError("its signature is wrong") from None
        return f"{text}\n"
    raise ValueError("the key did not sign it")
