"""Where audit events are handed on to: the setting `exports`, checked to the last key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nightingale_hub.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# For each kind the keys that it needs, and those that it may have.
KINDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "elasticsearch": (frozenset({"url", "index"}), frozenset({"api_key_file", "ca_file"})),
    "otlp": (frozenset({"url"}), frozenset({"token_file", "ca_file"})),
    "datadog": (frozenset({"url", "api_key_file"}), frozenset({"ca_file"})),
    "syslog": (frozenset({"host", "port"}), frozenset({"ca_file", "cert_file", "key_file"})),
    "lines": (frozenset({"path"}), frozenset()),
}


@dataclass(frozen=True)
class Export:
    """One target of the setting."""

    name: str
    kind: str
    values: Mapping[str, Any]


def parse_exports(given: Mapping[str, Any]) -> list[Export]:
    """Return the targets that `c.NightingaleHub.exports` names; raises `ConfigError`."""
    return [_parse(name, values) for name, values in sorted(given.items())]


def _parse(name: str, given: Any) -> Export:
    place = f"c.NightingaleHub.exports[{name!r}]"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: a target's name is 1 to 40 of a-z, 0-9, - and _")
    if not isinstance(given, Mapping) or given.get("kind") not in KINDS:
        raise ConfigError(f"{place} must have a kind; known: {', '.join(sorted(KINDS))}")
    needed, allowed = KINDS[given["kind"]]
    values = {key: value for key, value in given.items() if key != "kind"}
    if missing := sorted(needed - values.keys()):
        raise ConfigError(f"{place} lacks {', '.join(missing)}")
    if unknown := sorted(values.keys() - needed - allowed):
        raise ConfigError(f"{place} has {', '.join(unknown)}, which {given['kind']} does not know")
    for key, value in values.items():
        _check(f"{place}[{key!r}]", key, value)
    return Export(name, given["kind"], values)


def _check(place: str, key: str, value: Any) -> None:
    if key == "port":
        if not isinstance(value, int) or not 0 < value < 65536:
            raise ConfigError(f"{place} is {value!r}; a port is from 1 to 65535")
        return
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{place} must be a text")
    if key == "url":
        url = urlsplit(value)
        # In the clear on this machine alone.
        local = url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost", "::1")
        if not url.hostname or (url.scheme != "https" and not local):
            raise ConfigError(f"{place} is {value!r}; it must begin with https://")
        if url.username or url.password:
            raise ConfigError(f"{place} holds a password; put it into a file")
    if key == "path" and not Path(value).is_absolute():
        raise ConfigError(f"{place} is {value!r}; it must be absolute")
    if key.endswith("_file") and not Path(value).is_file():
        raise ConfigError(f"{place} is {value!r}, which is no file")
