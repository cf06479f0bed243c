"""A cloud's authority over identities, made for a test: keys, certificates, and what they sign."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)


def to_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Party:
    """A key with its certificate, by itself or by a *parent*."""

    def __init__(
        self,
        text: str,
        parent: "Party | None" = None,
        is_authority: bool = True,
        end: datetime = NOW + timedelta(days=90),
    ) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        signer = parent or self
        issuer = name(text) if parent is None else parent.certificate.subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(text))
            .issuer_name(issuer)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=30))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
            )
            .add_extension(
                x509.KeyUsage(True, False, False, False, False, is_authority, is_authority, *NO),
                critical=True,
            )
        )
        if not is_authority:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(text)]), critical=False
            ).add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
            )
        self.certificate: x509.Certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return to_pem(self.certificate)

    def sign(self, text: bytes) -> bytes:
        return self.key.sign(text, padding.PKCS1v15(), hashes.SHA256())


NO = (False, False)


def sign_aws(party: Party, **document: Any) -> dict[str, str]:
    """Return a document with its signature, as an instance's metadata gives both."""
    text = json.dumps(document, indent=2)
    return {"document": text, "signature": base64.encodebytes(party.sign(text.encode())).decode()}


def sign_token(party: Party, claims: dict[str, Any], **header: Any) -> dict[str, str]:
    """Return an identity token."""
    head = {"alg": "RS256", "kid": "key-1", "typ": "JWT"} | header
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (head, claims)
    ]
    signed = b".".join(parts)
    signature = base64.urlsafe_b64encode(party.sign(signed)).rstrip(b"=")
    return {"token": f"{signed.decode()}.{signature.decode()}"}


def sign_attested(
    leaf: Party, others: list[Party], document: dict[str, Any], *, has_attributes: bool = True
) -> dict[str, str]:
    """Return an attested document, as Azure's metadata gives it."""
    builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(document).encode())
    builder = builder.add_signer(leaf.certificate, leaf.key, hashes.SHA256())
    for each in others:
        builder = builder.add_certificate(each.certificate)
    options = [pkcs7.PKCS7Options.Binary]
    if not has_attributes:
        options.append(pkcs7.PKCS7Options.NoAttributes)
    message = builder.sign(serialization.Encoding.DER, options)
    return {"encoding": "pkcs7", "signature": base64.b64encode(message).decode()}


def make_request(key: Any = None) -> tuple[Any, str]:
    """Return a key and its signing request."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name("whoever"))
        .sign(key, hashes.SHA256())
    )
    return key, made.public_bytes(serialization.Encoding.PEM).decode()
