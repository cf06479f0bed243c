"""The one exchange by which an instance becomes itself: its nonce for all that it needs.

The nonce is burned in the transaction that records what came with it, so of two who hold it one
is served, and afterwards nobody. What the answer holds is written nowhere in clear.
"""

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, update

from nightingale_hub.auth import is_same_secret, sha256_hex
from nightingale_hub.catalogue import count_vcpus
from nightingale_hub.datasets import list_granted
from nightingale_hub.decoys import list_extras
from nightingale_hub.errors import BadInput, NotAllowed, NotFound
from nightingale_hub.instances import State, add_progress, find
from nightingale_hub.offers import LOCAL
from nightingale_hub.secrets_at_rest import decrypt
from nightingale_hub.services.supervisor.identity.admission import admit
from nightingale_hub.services.supervisor.site import Site
from nightingale_hub.settings import NightingaleHub
from nightingale_hub.tables.instances import instance

BOOTS_IN = (State.LAUNCHING, State.BOOTING)
FIELDS = {
    "instance_id": re.compile(r"i-[0-9a-f]{12}"),
    "nonce": re.compile(r"[0-9a-f]{64}"),
    "boot_id": re.compile(r"[0-9a-f]{32}"),
}

PROOF = ("csr", "evidence")


@dataclass(frozen=True)
class Call:
    """What an agent says when it calls home."""

    instance_id: str
    nonce: str = field(repr=False)
    boot_id: str
    host: str
    port: int
    proof: dict[str, Any] = field(repr=False, default_factory=dict)  # of a cloud: who it is


def parse_call(body: dict[str, Any]) -> Call:
    """Return the call that *body* is; raises `BadInput` for anything else."""
    proof: dict[str, Any] = {name: body[name] for name in PROOF if name in body}
    if set(body) - set(proof) != {*FIELDS, "host", "port"}:
        raise BadInput(
            f"a bootstrap has {', '.join([*FIELDS, 'host', 'port'])}, in a cloud csr and evidence"
        )
    for name, pattern in FIELDS.items():
        if not isinstance(body[name], str) or pattern.fullmatch(body[name]) is None:
            raise BadInput(f"{name} is malformed")
    port = body["port"]
    if type(port) is not int or not 1 <= port <= 65535:
        raise BadInput("port must be a whole number from 1 to 65535")
    said = {name: body[name] for name in (*FIELDS, "port")}
    return Call(**said, host=_parse_host(body["host"]), proof=proof)


def boot(conn: Connection, settings: NightingaleHub, call: Call, at_us: int) -> dict[str, Any]:
    """Burn the nonce of *call*, record where its server will answer, and return the reply.

    Raises `NotFound` for an unknown instance, `NotAllowed` for a nonce that is wrong or used and
    for who is not the instance that its cloud says.
    """
    row = find(conn, call.instance_id)
    if row is None:
        raise NotFound(f"no instance {call.instance_id}")
    is_awaited = row.actual in BOOTS_IN and row.wanted == "running"
    if not is_same_secret(call.nonce, row.nonce_sha256) or not is_awaited:
        raise NotAllowed(f"the nonce of {call.instance_id} is wrong, used or withdrawn")
    # The hub will ask this address and lead the owner's browser to it, so it may not be chosen.
    if row.cloud == LOCAL and not ipaddress.ip_address(call.host).is_loopback:
        raise BadInput("an instance of the local cloud answers on loopback")
    certified = (
        {} if row.cloud == LOCAL else admit(conn, settings, row, call.host, call.proof, at_us)
    )
    credential, api_nonce = secrets.token_hex(32), secrets.token_hex(16)
    burned = conn.execute(
        update(instance)
        .where(instance.c.id == row.id, instance.c.nonce_sha256 == row.nonce_sha256)
        .values(
            nonce_sha256=None,
            launch_secret=None,
            credential_sha256=sha256_hex(credential),
            api_nonce=api_nonce,
            boot_id=call.boot_id,
            host=call.host,
            port=call.port,
        )
    )
    if burned.rowcount != 1:
        raise NotAllowed(f"the nonce of {call.instance_id} is wrong, used or withdrawn")
    add_progress(conn, row.id, at_us, "The instance called home and starts its server")
    reply = _describe(conn, settings, row, at_us)
    return {**reply, **certified, "credential": credential, "api_nonce": api_nonce}


def _describe(
    conn: Connection, settings: NightingaleHub, row: Row[Any], at_us: int
) -> dict[str, Any]:
    secret = decrypt(settings.secret_key(), row.launch_secret)
    site = Site(settings, row)
    services = {
        f"{name}_url": f"{settings.public_url}services/{name}/api/"
        for name in ("audit", "metering", "console", "supervisor")
    }
    return {
        "owner": row.owner,
        "server_name": row.server_name,
        "cmd": secret["cmd"],
        "args": secret["args"],
        "env": secret["env"],
        "home": str(site.home),
        "system_user": site.system_user,
        "cpus": count_vcpus(row.cloud, row.instance_type, row.cpu),
        "datasets": [
            {
                "name": each.name,
                "title": each.title,
                "path": each.path,
                "policy": each.policy,
                "fallback": each.fallback,
                "extras": list_extras(conn, settings.secret_key(), row.owner, each.name, at_us),
            }
            for each in list_granted(conn, row.owner, at_us)
        ],
        "spool_limit_bytes": settings.spool_limit_mib << 20,
        "audit_limits": {
            "refuse_opens_after_s": settings.audit_refuse_opens_after_s,
            "refuse_reads_after_s": settings.audit_refuse_reads_after_s,
            "stop_after_s": settings.audit_stop_after_s,
            "spool_full_percent": settings.spool_full_percent,
        },
        "counts_egress": settings.count_egress and settings.isolate_users,
        **services,
    }


def _parse_host(host: object) -> str:
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError as error:
        raise BadInput("host must be an IP address") from error
    if not isinstance(host, str):
        raise BadInput("host must be an IP address")
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise BadInput("host must be an address of the instance's own")
    return str(address)
