"""AWS: the instance identity document and its RSA signature.

ref: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/verify-rsa.html
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nightingale_hub.clock import US_PER_S
from nightingale_hub.errors import NotAllowed
from nightingale_hub.services.supervisor.identity.evidence import Said


def verify(evidence: Mapping[str, Any], anchors: str, _at_us: int) -> Said:
    """Return what the document says, once one of *anchors* (AWS's certificates, PEM) signed it.

    Raises `NotAllowed`.
    """
    try:
        document = str(evidence["document"]).encode()
        signature = base64.b64decode("".join(str(evidence["signature"]).split()), validate=True)
    except (KeyError, binascii.Error) as error:
        raise NotAllowed("the evidence of AWS is a document and its signature") from error
    keys = [each.public_key() for each in x509.load_pem_x509_certificates(anchors.encode())]
    if not any(
        isinstance(key, rsa.RSAPublicKey) and _fits(key, signature, document) for key in keys
    ):
        raise NotAllowed("no certificate of AWS signed this identity document")
    said = json.loads(document)
    begun = datetime.fromisoformat(str(said["pendingTime"]).replace("Z", "+00:00"))
    return Said(
        subject=str(said["instanceId"]),
        account=str(said["accountId"]),
        region=str(said["region"]),
        image=str(said["imageId"]),
        begun_us=int(begun.timestamp()) * US_PER_S,
    )


def _fits(key: rsa.RSAPublicKey, signature: bytes, document: bytes) -> bool:
    try:
        key.verify(signature, document, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
