"""Secrets that must lie in the database for a while: encrypted there, readable by this hub only.

The key is the state directory's, so a copy of the database alone tells nothing.
"""

import base64
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nightingale_hub.errors import ConfigError


def encrypt(key: bytes, secret: dict[str, Any]) -> bytes:
    """Return *secret*, fit for JSON, as a token that only *key* opens and nobody can alter."""
    return _fernet(key).encrypt(json.dumps(secret).encode())


def decrypt(key: bytes, token: bytes) -> dict[str, Any]:
    """Return what `encrypt` was given; raises `ConfigError` when *key* is not the one it had."""
    try:
        text = _fernet(key).decrypt(token)
    except InvalidToken as error:
        raise ConfigError(
            "a secret in the database was encrypted with another key; was state_dir replaced?"
        ) from error
    secret: dict[str, Any] = json.loads(text)
    return secret


def _fernet(key: bytes) -> Fernet:
    # Derived, so that another use of the state directory's key can't be played against this one.
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"nightingale at rest").derive(
        key
    )
    return Fernet(base64.urlsafe_b64encode(derived))
