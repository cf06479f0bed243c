"""A bundle: all that a hub's log proves, in one zip file that needs no hub to be read."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nightingale_hub.proof.note import Key

Object = dict[str, Any]


class Bundle:
    """A zip file as the hub exports it."""

    def __init__(self, path: Path) -> None:
        """Open it; raises `ValueError` unless it is a whole bundle."""
        try:
            self._zip = zipfile.ZipFile(path)
            self._names = set(self._zip.namelist())
            self.about: Object = json.loads(self._zip.read("bundle.json"))
            self.key = Key.parse(self.about["key"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is no bundle of the audit log: {error}") from error

    def read(self, name: str) -> bytes | None:
        """Return a member's bytes, or None without one; raises `ValueError` when it is damaged."""
        if name not in self._names:
            return None
        try:
            return self._zip.read(name)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{name} is damaged: {error}") from error

    def list_objects(self, name: str) -> Iterator[Object]:
        """Yield the JSON object of each line of a member; raises `ValueError`."""
        for number, line in enumerate((self.read(name) or b"").splitlines(), 1):
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError(f"{name}: line {number} is no object")
            yield value
