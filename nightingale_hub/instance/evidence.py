"""What an instance in a cloud brings when it calls home: a key of its own, and its cloud's word.

The key is made here and never leaves. The metadata service is asked by root before anything of the
researcher's runs; afterwards nobody else may ask it.
"""

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nightingale_hub.durable import create_text
from nightingale_hub.errors import ConfigError, Unavailable

METADATA = "http://169.254.169.254"
WITHIN_S = 5.0
ANSWER_LIMIT = 64 << 10
KEY = "instance.key"


def prove(
    directory: Path, cloud: str, instance_id: str, hub_url: str, metadata: str = METADATA
) -> dict[str, Any]:
    """Return `csr`, `evidence` and `host` for the bootstrap of an instance in *cloud*.

    Raises `Unavailable` when the metadata service does not answer, `ConfigError` for a cloud that
    is none.
    """
    key = ensure_key(directory)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    nonce = f"{int.from_bytes(digest.finalize(), 'big') % 10**10:010d}"
    return {
        "csr": _make_request(key, instance_id),
        "evidence": fetch_evidence(cloud, hub_url, nonce, metadata),
        "host": find_own_address(hub_url),
    }


def ensure_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    """Return the instance's key, made once, readable by this user alone."""
    path = directory / KEY
    if not path.exists():
        text = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        create_text(path, text.decode())
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def fetch_evidence(
    cloud: str, audience: str, nonce: str, metadata: str = METADATA
) -> dict[str, str]:
    """Return the cloud's signed word on this instance; *nonce* binds it to a key where it can.

    ref: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
    ref: https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#attested-data
    ref: https://cloud.google.com/compute/docs/instances/verifying-instance-identity
    """
    if cloud == "aws":
        lasts = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        token = _ask(f"{metadata}/latest/api/token", lasts, "PUT")
        shown = {"X-aws-ec2-metadata-token": token}
        place = f"{metadata}/latest/dynamic/instance-identity"
        return {name: _ask(f"{place}/{name}", shown) for name in ("document", "signature")}
    if cloud == "azure":
        query = urllib.parse.urlencode({"api-version": "2021-12-13", "nonce": nonce})
        answer = _ask(f"{metadata}/metadata/attested/document?{query}", {"Metadata": "true"})
        return {"signature": str(json.loads(answer)["signature"])}
    if cloud == "gcp":
        query = urllib.parse.urlencode({"audience": audience, "format": "full"})
        place = f"{metadata}/computeMetadata/v1/instance/service-accounts/default/identity"
        return {"token": _ask(f"{place}?{query}", {"Metadata-Flavor": "Google"})}
    raise ConfigError(f"{cloud} has no signed word on its instances")


def find_own_address(hub_url: str) -> str:
    """Return the address from which this machine reaches the hub; nothing is sent."""
    parts = urllib.parse.urlsplit(hub_url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((parts.hostname or "", parts.port or 443))
        except OSError as error:
            raise Unavailable(f"the hub at {hub_url} cannot be reached: {error}") from error
        return str(probe.getsockname()[0])


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> str:
    # Straight to the metadata service: a proxy would see the answer, and clouds refuse it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 - our own
    try:
        with opener.open(request, timeout=WITHIN_S) as answer:
            return str(answer.read(ANSWER_LIMIT).decode())
    except (OSError, ValueError) as error:
        raise Unavailable(f"the cloud's metadata service does not answer: {error}") from error


def _make_request(key: ec.EllipticCurvePrivateKey, instance_id: str) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, instance_id)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()
