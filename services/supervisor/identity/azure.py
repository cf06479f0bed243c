"""Azure: the attested document, a PKCS #7 message whose signer is the metadata service.

ref: https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#attested-data
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from nightingale_hub.clock import US_PER_S, to_datetime
from nightingale_hub.errors import NotAllowed
from nightingale_hub.services.supervisor.identity.cms import Malformed, parse_signed
from nightingale_hub.services.supervisor.identity.evidence import Said

SIGNER = "metadata.azure.com"


def verify(evidence: Mapping[str, Any], anchors: str, at_us: int) -> Said:
    """Return what the document says, once it is signed by the metadata service.

    *anchors* are roots, and intermediates if Azure sends none, as PEM. Raises `NotAllowed`.
    """
    try:
        message = base64.b64decode("".join(str(evidence["signature"]).split()), validate=True)
        signed = parse_signed(message)
        sent = pkcs7.load_der_pkcs7_certificates(message)
    except (KeyError, binascii.Error, Malformed, ValueError) as error:
        raise NotAllowed("the evidence of Azure is a signed message") from error
    leaf = next((each for each in sent if each.serial_number == signed.serial), None)
    if leaf is None:
        raise NotAllowed("the message does not bring its signer's certificate")
    _check_chain(leaf, sent, anchors, at_us)
    key = leaf.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise NotAllowed("the signer's key is of another kind")
    try:
        key.verify(signed.signature, signed.covered, padding.PKCS1v15(), signed.digest)
    except InvalidSignature as error:
        raise NotAllowed("the message's signature is wrong") from error
    said = json.loads(signed.content)
    return Said(
        subject=str(said["vmId"]),
        account=str(said["subscriptionId"]),
        begun_us=_parse_time(said["timeStamp"]["createdOn"]),
        expires_us=_parse_time(said["timeStamp"]["expiresOn"]),
        nonce=str(said["nonce"]),
    )


def _check_chain(
    leaf: x509.Certificate, sent: list[x509.Certificate], anchors: str, at_us: int
) -> None:
    given = x509.load_pem_x509_certificates(anchors.encode())
    roots = [each for each in given if each.issuer == each.subject]
    between = [each for each in (*given, *sent) if each not in roots and each != leaf]
    verifier = (
        PolicyBuilder()
        .store(Store(roots))
        .time(to_datetime(at_us))
        .build_server_verifier(x509.DNSName(SIGNER))
    )
    try:
        verifier.verify(leaf, between)
    except VerificationError as error:
        raise NotAllowed(f"the signer is not {SIGNER}: {error}") from error


def _parse_time(text: str) -> int:
    # 11/28/18 00:16:17 -0000
    moment = datetime.strptime(text.rpartition(" ")[0], "%m/%d/%y %H:%M:%S")
    return int(moment.replace(tzinfo=UTC).timestamp()) * US_PER_S
