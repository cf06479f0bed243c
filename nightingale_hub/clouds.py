"""What an operator sets for each cloud but local, checked before anything is made there."""

import re
from ipaddress import ip_network
from typing import Any

from nightingale_hub.catalogue import list_types
from nightingale_hub.errors import ConfigError

KNOWN = ("aws",)
_NEEDED = {"zones", "image", "hub_cidrs"}
_OPTIONAL = {"cidr", "environment", "spot", "instead", "then", "datasets", "identity", "group"}
_ZONE = re.compile(r"[a-z0-9-]{1,40}")
_IMAGE = re.compile(r"ami-[0-9a-f]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TYPE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")


def parse_clouds(clouds: dict[str, Any]) -> dict[str, Any]:
    """Return *clouds* when each is as its cloud needs it; raises `ConfigError` otherwise."""
    for name, cloud in clouds.items():
        where = f"c.NightingaleHub.clouds[{name!r}]"
        if name not in KNOWN:
            raise ConfigError(f"{where} is of no cloud that is known; there is: {', '.join(KNOWN)}")
        if not isinstance(cloud, dict) or not _NEEDED <= set(cloud):
            raise ConfigError(f"{where} needs {', '.join(sorted(_NEEDED))}")
        unknown = sorted(set(cloud) - _NEEDED - _OPTIONAL)
        if unknown:
            known = ", ".join(sorted(_NEEDED | _OPTIONAL))
            raise ConfigError(f"{where} has {unknown[0]!r}; it may have {known}")
        _check(where, cloud)
    return clouds


def _check(where: str, cloud: dict[str, Any]) -> None:
    zones = cloud["zones"]
    if not _is_list(zones) or not all(_ZONE.fullmatch(each) for each in zones):
        raise ConfigError(f"{where}['zones'] must be a list of zones such as us-east-1a")
    if not isinstance(cloud["image"], str) or _IMAGE.fullmatch(cloud["image"]) is None:
        raise ConfigError(f"{where}['image'] must be the id of an image, such as ami-0abc")
    if not _is_list(cloud["hub_cidrs"]) or not all(map(_is_network, cloud["hub_cidrs"])):
        raise ConfigError(
            f"{where}['hub_cidrs'] must be a list of networks such as 10.0.0.0/24, and none the "
            "whole internet"
        )
    if "cidr" in cloud and not _is_network(cloud["cidr"]):
        raise ConfigError(f"{where}['cidr'] must be a network such as 10.64.0.0/16")
    environment = cloud.get("environment", {})
    if not isinstance(environment, dict) or not all(
        isinstance(each, str) for pair in environment.items() for each in pair
    ):
        raise ConfigError(f"{where}['environment'] must be names and values of text")
    if not isinstance(cloud.get("spot", False), bool):
        raise ConfigError(f"{where}['spot'] must be True or False")
    instead = cloud.get("instead", {})
    if not isinstance(instead, dict) or not all(
        _is_list(each) and all(_TYPE.fullmatch(one) for one in [name, *each])
        for name, each in instead.items()
    ):
        raise ConfigError(f"{where}['instead'] must name, per instance type, a list of others")
    known = {each.name for each in list_types(where.partition("'")[2].partition("'")[0])}
    strange = {one for name, each in instead.items() for one in (name, *each)} - known
    if strange:
        raise ConfigError(
            f"{where}['instead'] names {min(strange)!r}, which is not in the catalogue of types"
        )
    then = cloud.get("then")
    if then is not None and not (
        isinstance(then, dict)
        and set(then) == {"cloud", "region"}
        and then["cloud"] in (*KNOWN, "local")
        and isinstance(then["region"], str)
        and _ZONE.fullmatch(then["region"])
    ):
        raise ConfigError(f"{where}['then'] must name the next cloud and its region")
    identity = cloud.get("identity", {"account": "", "anchors": ""})
    if not isinstance(identity, dict) or {name: type(each) for name, each in identity.items()} != {
        "account": str,
        "anchors": str,
    }:
        raise ConfigError(f"{where}['identity'] must have `account` and `anchors` (a file's path)")
    _check_datasets(where, cloud.get("datasets", {}))


def _check_datasets(where: str, datasets: object) -> None:
    """See that each dataset names the snapshot that it is made from, and its size."""
    if not isinstance(datasets, dict) or not all(
        isinstance(name, str)
        and _NAME.fullmatch(name)
        and isinstance(each, dict)
        and set(each) == {"snapshot", "disk_gib"}
        and isinstance(each["snapshot"], str)
        and type(each["disk_gib"]) is int
        and each["disk_gib"] >= 1
        for name, each in datasets.items()
    ):
        raise ConfigError(
            f"{where}['datasets'] must name, per dataset, its snapshot (text) and disk_gib (whole)"
        )


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _is_network(text: object) -> bool:
    try:
        return isinstance(text, str) and ip_network(text).prefixlen > 0
    except ValueError:
        return False
