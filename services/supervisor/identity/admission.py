"""Whether who calls home is the instance that Terraform made: evidence, address, key; per cloud.

Nothing of it is taken from the call alone: the address must be the one that Terraform says, for the
hub leads its owner's browser there.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from nightingale_hub.errors import BadInput, ConfigError, NotAllowed, Unavailable
from nightingale_hub.services.supervisor.identity import aws, azure, google
from nightingale_hub.services.supervisor.identity.authority import (
    ensure_authority,
    fingerprint_key,
)
from nightingale_hub.services.supervisor.identity.evidence import (
    Expected,
    Said,
    check_said,
)
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.terraform.states import find_state


def admit(
    conn: Connection,
    settings: NightingaleHub,
    row: Row[Any],
    host: str,
    proof: Mapping[str, Any],
    at_us: int,
) -> dict[str, str]:
    """Return the certificate for the key of *proof*, and the authority that it is from.

    *proof* has `evidence`, in the cloud's own form, and `csr`. Raises `NotAllowed` for evidence of
    anything but instance *row*, `Unavailable` until Terraform has said what it made.
    """
    evidence, request = proof.get("evidence"), proof.get("csr")
    if not isinstance(evidence, dict) or not isinstance(request, str):
        raise BadInput(f"an instance of {row.cloud} brings its evidence and its csr")
    outputs = find_outputs(conn, settings, str(row.id))
    if host != find_address(outputs):
        raise NotAllowed(f"{host} is not the address of {row.id}")
    cloud = settings.clouds[row.cloud]
    if "identity" not in cloud:
        raise ConfigError(
            f"c.NightingaleHub.clouds[{row.cloud!r}] has no `identity`, without which nobody can "
            "tell an instance there"
        )
    expected = Expected(
        subject=str(outputs["identity_subject"]),
        account=cloud["identity"]["account"],
        region=str(row.region),
        image=cloud["image"],
        made_us=row.created_us,
        nonce=bind_nonce(request),
    )
    anchors = Path(cloud["identity"]["anchors"]).read_text(encoding="utf-8")
    said = read_evidence(row.cloud, evidence, anchors, settings.public_url, at_us)
    check_said(said, expected, at_us)
    authority = ensure_authority(settings.state_path, at_us)
    return {
        "certificate": authority.issue(request, str(row.id), at_us),
        "authority": authority.pem,
    }


def bind_nonce(request: str) -> str:
    """Return what Azure is to sign, ten digits, for the key of a signing request."""
    return f"{int(fingerprint_key(request), 16) % 10**10:010d}"


def read_evidence(
    cloud: str, evidence: Mapping[str, Any], anchors: str, audience: str, at_us: int
) -> Said:
    """Return what *evidence* says once its signature is right; raises `NotAllowed`."""
    try:
        if cloud == "aws":
            return aws.verify(evidence, anchors, at_us)
        if cloud == "azure":
            return azure.verify(evidence, anchors, at_us)
        if cloud == "gcp":
            return google.verify(evidence, anchors, audience)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotAllowed("what was signed is not as this cloud writes it") from error
    raise NotAllowed(f"{cloud} has no signed word on its instances")


def find_outputs(conn: Connection, settings: NightingaleHub, instance_id: str) -> dict[str, Any]:
    """Return Terraform's own outputs of an instance; raises `Unavailable` while there are none."""
    state = find_state(conn, settings.secret_key(), f"instance/{instance_id}")
    outputs = json.loads(state or "{}").get("outputs", {})
    if "identity_subject" not in outputs:
        raise Unavailable(f"Terraform has not said yet what {instance_id} is; ask again")
    return {name: each["value"] for name, each in outputs.items()}


def find_address(outputs: Mapping[str, Any]) -> str:
    """Return the address at which Terraform says that the instance is."""
    return str(outputs["private_ip"])
