"""Google Cloud: the instance's identity token, for this hub alone as its audience.

ref: https://cloud.google.com/compute/docs/instances/verifying-instance-identity
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import NotAllowed
from nightingale_hub.services.supervisor.identity.evidence import Said

ISSUERS = ("https://accounts.google.com", "accounts.google.com")


def verify(evidence: Mapping[str, Any], anchors: str, audience: str) -> Said:
    """Return what the token says, once one of *anchors* signed it for *audience*.

    *anchors* is Google's JSON of PEM certificates by key id. Raises `NotAllowed`.
    """
    parts = str(evidence.get("token", "")).split(".")
    if len(parts) != 3:
        raise NotAllowed("the evidence of Google Cloud is a token")
    header, claims, signature = (_decode(part) for part in parts)
    # The token does not choose how it is looked at: `none` and symmetric kinds are refused.
    if _load(header).get("alg") != "RS256":
        raise NotAllowed("the token is not signed by RS256")
    pem = json.loads(anchors).get(_load(header).get("kid"))
    if not isinstance(pem, str):
        raise NotAllowed("the token is signed by a key that is not Google's")
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        signed = f"{parts[0]}.{parts[1]}".encode()
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature as error:
        raise NotAllowed("the token's signature is wrong") from error
    said = _load(claims)
    if said.get("iss") not in ISSUERS:
        raise NotAllowed("the token is of another issuer")
    if said.get("aud") != audience:
        raise NotAllowed("the token is meant for somebody else")
    instance = said.get("google", {}).get("compute_engine")
    if not isinstance(instance, dict):
        raise NotAllowed("the token says nothing of an instance; ask for format=full")
    return Said(
        subject=str(instance["instance_id"]),
        account=str(instance["project_id"]),
        region=str(instance["zone"]).rpartition("-")[0],
        begun_us=int(instance["instance_creation_timestamp"]) * US_PER_S,
        expires_us=int(said["exp"]) * US_PER_S,
    )


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAllowed("the token is malformed") from error


def _load(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NotAllowed("the token is malformed") from error
    if not isinstance(found, dict):
        raise NotAllowed("the token is malformed")
    return found
