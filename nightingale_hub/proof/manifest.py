"""A read manifest as anyone can check it: what a run read, signed by the log's key."""

import hashlib
import json
from typing import Any

from nightingale_hub.proof.note import Key, open_note


def format_note(name: str, manifest: dict[str, Any]) -> str:
    """Return the text that is signed for *manifest* by the log called *name*."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return f"{name}/manifest\n{hashlib.sha256(text.encode()).hexdigest()}\n"


def verify_manifest(data: bytes, key: Key) -> dict[str, Any]:
    """Return the manifest in *data* once *key* is known to have signed it; raises `ValueError`."""
    document = json.loads(data)
    if not isinstance(document, dict) or not isinstance(document.get("manifest"), dict):
        raise ValueError("it is no read manifest")
    manifest: dict[str, Any] = document["manifest"]
    if open_note(str(document.get("note")), key) != format_note(key.name, manifest):
        raise ValueError("it is not what was signed")
    return manifest
