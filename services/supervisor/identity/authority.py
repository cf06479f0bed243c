"""The hub's own authority over instances: short-lived certificates for the keys that they made.

An instance's key never leaves it. A certificate names the instance and lasts a day, so one that is
lost is soon worth nothing; nothing that the request says of itself goes into it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nightingale_hub.clock import to_datetime
from nightingale_hub.durable import create_text
from nightingale_hub.errors import BadInput

LASTS = timedelta(hours=24)
AUTHORITY_LASTS = timedelta(days=3650)
NAME = "Nightingale instances"
SLACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Authority:
    """A key and its own certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """What whoever checks a certificate of an instance is to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, request: str, instance_id: str, at_us: int) -> str:
        """Return a certificate (PEM) for the key of *request*, a PEM signing request.

        Raises `BadInput` for a request that is none, is not signed by its key, or whose key is
        not of the curve P-256.
        """
        try:
            asked = x509.load_pem_x509_csr(request.encode())
            is_signed = asked.is_signature_valid
        except ValueError as error:
            raise BadInput("csr must be a certificate signing request as PEM") from error
        key = asked.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise BadInput("the key of the csr must be of the curve P-256")
        if not is_signed:
            raise BadInput("the csr is not signed by its own key")
        now = to_datetime(at_us)
        builder = _begin(instance_id, self.certificate.subject, key, now - SLACK, now + LASTS)
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        made = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(instance_id)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode()


def ensure_authority(state: Path, at_us: int) -> Authority:
    """Return the authority that lives in *state*, made once, readable by this user alone."""
    path = state / "instance-authority.pem"
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        now = to_datetime(at_us)
        builder = _begin(NAME, name, key.public_key(), now - SLACK, now + AUTHORITY_LASTS)
        own = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).sign(key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        create_text(path, (private + own.public_bytes(serialization.Encoding.PEM)).decode())
    text = path.read_bytes()
    loaded = serialization.load_pem_private_key(text, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return Authority(loaded, x509.load_pem_x509_certificate(text))


def fingerprint_key(request: str) -> str:
    """Return the SHA-256 of the public key in a signing request; raises `BadInput`."""
    try:
        key = x509.load_pem_x509_csr(request.encode()).public_key()
    except ValueError as error:
        raise BadInput("csr must be a certificate signing request as PEM") from error
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize().hex()


def _begin(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
