"""Small files that are whole or absent, whatever is killed when.

Written beside, synced, renamed over: a reader never sees half a file, and after a power cut the
old or the new one is there.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any


def save_text(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace *path* by *text*, durably; *mode* is the new file's."""
    save_bytes(path, text.encode(), mode)


def save_bytes(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace *path* by *data*, durably; *mode* is the new file's."""
    draft = _write_draft(path, data, mode)
    os.replace(draft, path)
    sync_directory(path.parent)


def create_text(path: Path, text: str, mode: int = 0o600) -> bool:
    """Make *path* hold *text* durably unless it exists; of two who try, one gets True."""
    draft = _write_draft(path, text.encode(), mode)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    sync_directory(path.parent)
    return True


def save_json(path: Path, data: dict[str, Any], mode: int = 0o600) -> None:
    """Replace *path* by *data* as JSON, durably."""
    save_text(path, json.dumps(data), mode)


def find_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in *path*, or None when it does not exist.

    Raises `ValueError` when it holds anything else: such a file was not written here.
    """
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object")
    return data


def sync_directory(directory: Path) -> None:
    """Wait until the names in *directory* are on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_draft(path: Path, data: bytes, mode: int) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    return draft
