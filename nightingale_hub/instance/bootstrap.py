"""The one exchange by which an instance becomes itself: a nonce for everything that it needs.

The nonce works once and is taken off the disk as soon as it has. Nothing that the hub answers is
written down here: the environment in it is the server's secret.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightingale_hub.durable import find_json, save_json, save_text
from nightingale_hub.errors import NotAllowed, NotFound, Unavailable
from nightingale_hub.instance.evidence import prove
from nightingale_hub.instance.hub import get_message, post

RETRY_FOR_S = 120.0
SPOOL_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Boot:
    """What the hub put into the instance's directory before it started."""

    hub_url: str
    instance_id: str
    nonce: str = field(repr=False)
    cloud: str = "local"
    directory: Path = Path()


@dataclass(frozen=True)
class Launch:
    """What the hub answered: whose instance this is, and what it runs."""

    owner: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    home: Path
    system_user: str | None
    vcpus: int | None
    datasets: list[dict[str, Any]]
    spool_limit_bytes: int
    audit_limits: dict[str, Any]
    counts_egress: bool
    credential: str = field(repr=False)
    api_nonce: str
    audit_url: str
    metering_url: str
    console_url: str
    supervisor_url: str


def load_boot(directory: Path) -> Boot:
    """Return what *directory* is to boot with; raises `NotFound` when there is nothing."""
    data = find_json(directory / "boot.json")
    if data is None or not data.get("nonce"):
        raise NotFound(f"{directory} has no boot.json with a nonce; start another instance")
    cloud = str(data.get("cloud", "local"))
    return Boot(data["hub_url"], data["instance_id"], data["nonce"], cloud, directory)


def bootstrap(boot: Boot, boot_id: str, port: int, say: Callable[[str], object]) -> Launch:
    """Trade the nonce for a launch; waits up to 2 minutes while the hub does not answer.

    Raises `NotAllowed` when the nonce is wrong or was used, `NotFound` when the hub does not
    know the instance, `Unavailable` when it never answered.
    """
    url = f"{boot.hub_url}services/supervisor/api/bootstrap"
    asked: dict[str, Any] = {
        "instance_id": boot.instance_id,
        "nonce": boot.nonce,
        "boot_id": boot_id,
        "host": "127.0.0.1",
        "port": port,
    }
    deadline = time.monotonic() + RETRY_FOR_S
    pause_s = 0.1
    while True:
        try:
            if boot.cloud != "local":
                asked |= prove(boot.directory, boot.cloud, boot.instance_id, boot.hub_url)
            status, answer = post(url, asked)
        except Unavailable as error:
            why = str(error)
        else:
            if status == 200:
                _keep_certificate(boot.directory, answer)
                return _parse_launch(answer)
            why = f"the hub answered {status} {get_message(answer)}".strip()
            # A refusal says its code. A bare 404 is a proxy whose hub is just being restarted.
            if isinstance(answer.get("error"), dict):
                _raise_for_refusal(status, f"bootstrap of {boot.instance_id} was refused: {why}")
        if time.monotonic() > deadline:
            raise Unavailable(f"bootstrap of {boot.instance_id} gave up after 2 minutes: {why}")
        say(f"bootstrap waits: {why}")
        time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries only
        pause_s = min(pause_s * 2, 2.0)


def _keep_certificate(directory: Path, answer: dict[str, Any]) -> None:
    """Keep what the hub issued for the instance's key; nobody else may change it."""
    for name in ("certificate", "authority"):
        if name in answer:
            save_text(directory / f"instance.{name}.pem", str(answer[name]))


def forget_nonce(directory: Path, boot: Boot) -> None:
    """Take the used nonce off the disk."""
    save_json(directory / "boot.json", {"hub_url": boot.hub_url, "instance_id": boot.instance_id})


def _raise_for_refusal(status: int, message: str) -> None:
    if status == 404:
        raise NotFound(message)
    if 400 <= status < 500 and status not in (408, 429):
        raise NotAllowed(message)


def _parse_launch(answer: dict[str, Any]) -> Launch:
    system_user, vcpus = answer.get("system_user"), answer.get("cpus")
    return Launch(
        owner=str(answer["owner"]),
        command=[str(part) for part in [*answer["cmd"], *answer["args"]]],
        environment={str(name): str(value) for name, value in answer["env"].items()},
        home=Path(answer["home"]),
        system_user=None if system_user is None else str(system_user),
        vcpus=None if vcpus is None else int(vcpus),
        datasets=list(answer["datasets"]),
        spool_limit_bytes=int(answer.get("spool_limit_bytes", SPOOL_LIMIT_BYTES)),
        audit_limits=dict(answer.get("audit_limits", {})),
        counts_egress=answer.get("counts_egress") is True,
        credential=str(answer["credential"]),
        api_nonce=str(answer["api_nonce"]),
        audit_url=str(answer["audit_url"]),
        metering_url=str(answer["metering_url"]),
        console_url=str(answer["console_url"]),
        supervisor_url=str(answer["supervisor_url"]),
    )
