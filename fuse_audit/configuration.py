"""What one audit mount serves, read from `mount.json`.

Every value is checked here, so that the rest trusts it: a mount that would be wrong is refused
before anything is mounted.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightingale_hub.errors import ConfigError
from nightingale_hub.fuse_audit.extra import Extra, parse_extras
from nightingale_hub.fuse_audit.limits import Limits, parse_limits
from nightingale_hub.fuse_audit.policy import Policy, get_policy

ADAPTERS = ("kernel", "libfuse")
# Whom the daemon of a mount that root makes runs as, unless it is said: a user of no account, in
# the range that systemd keeps for such, so that nobody can log in as it or own a file of it.
# ref: https://systemd.io/UIDS-GIDS/
DAEMON_UID = 61_999


@dataclass(frozen=True, slots=True)
class Dataset:
    """One directory that is served, under its name, at the top of the mount.

    `fallback` is the policy to serve it by where `policy` cannot be kept.
    """

    name: str
    path: str
    policy: Policy
    extras: tuple[Extra, ...] = ()
    fallback: Policy | None = None


@dataclass(frozen=True, slots=True)
class MountConfiguration:
    """The settings of one mount; `owner` is the hub user that its records are charged to."""

    mountpoint: str
    spool: str
    spool_limit_bytes: int
    owner: str
    allow_other: bool
    adapter: str
    datasets: tuple[Dataset, ...]
    daemon_uid: int
    guard: Limits


def load_configuration(path: str) -> MountConfiguration:
    """Read *path* and return its settings; raise `ConfigError` naming the first that is wrong."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no readable JSON file: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold one JSON object")
    return parse_configuration(data)


def parse_configuration(data: dict[str, Any]) -> MountConfiguration:
    """Return the settings in *data*; raise `ConfigError` naming the first that is wrong."""
    limit = _get(data, "spool_limit_bytes", int)
    if limit <= 0:
        raise ConfigError(f"spool_limit_bytes is {limit}; it must be above 0")
    adapter = data.get("adapter", ADAPTERS[0])
    if adapter not in ADAPTERS:
        raise ConfigError(f"adapter {adapter!r} is not one of: {', '.join(ADAPTERS)}")
    mountpoint = _get_path(data, "mountpoint")
    datasets = tuple(_parse_dataset(entry, mountpoint) for entry in _get(data, "datasets", list))
    names = [dataset.name for dataset in datasets]
    if len(set(names)) != len(names):
        raise ConfigError(f"two datasets have one name: {', '.join(sorted(names))}")
    return MountConfiguration(
        mountpoint=mountpoint,
        spool=_get_path(data, "spool"),
        spool_limit_bytes=limit,
        owner=_get(data, "owner", str),
        allow_other=_get(data, "allow_other", bool),
        adapter=adapter,
        datasets=datasets,
        daemon_uid=_parse_uid(data),
        guard=parse_limits(data.get("guard", {})),
    )


def _parse_uid(data: dict[str, Any]) -> int:
    uid: int = _get({"daemon_uid": DAEMON_UID} | data, "daemon_uid", int)
    if not 0 < uid < 1 << 32:
        raise ConfigError(f"daemon_uid is {uid}; it must be a user id, and not root's")
    return uid


def _parse_dataset(entry: Any, mountpoint: str) -> Dataset:
    if not isinstance(entry, dict):
        raise ConfigError(f"a dataset must be an object with name, path and policy, not {entry!r}")
    name = _get(entry, "name", str)
    if name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
        raise ConfigError(f"dataset name {name!r} cannot be the name of a directory")
    path = os.path.realpath(_get_path(entry, "path"))
    if not os.path.isdir(path):
        raise ConfigError(f"dataset {name}: {path} is no directory; mount it first")
    # A daemon that reads its own mount waits for itself for ever.
    if os.path.commonpath([path, os.path.realpath(mountpoint)]) in (path, mountpoint):
        raise ConfigError(f"dataset {name}: {path} and the mountpoint {mountpoint} overlap")
    return Dataset(
        name=name,
        path=path,
        policy=get_policy(_get(entry, "policy", str)),
        extras=parse_extras(entry.get("extras", [])),
        fallback=get_policy(_get(entry, "fallback", str)) if "fallback" in entry else None,
    )


def _get_path(data: dict[str, Any], key: str) -> str:
    path = _get(data, key, str)
    if not os.path.isabs(path):
        raise ConfigError(f"{key} is {path!r}; it must be an absolute path")
    return str(path)


def _get(data: dict[str, Any], key: str, kind: type) -> Any:
    if key not in data:
        raise ConfigError(f"{key} is missing")
    # bool is an int in Python, and never a count here.
    if not isinstance(data[key], kind) or (kind is int and isinstance(data[key], bool)):
        raise ConfigError(f"{key} is {data[key]!r}; it must be of type {kind.__name__}")
    return data[key]
