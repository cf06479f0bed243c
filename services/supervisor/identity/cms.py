"""What is signed in a PKCS #7 message, taken apart: the content, the signature, who signed.

It checks no signature; it says which bytes the signature is of. DER alone, one signer alone.
ref: https://www.rfc-editor.org/rfc/rfc5652#section-5
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

SEQUENCE, SET, INTEGER, OCTETS, OID, CONTEXT_0 = 0x30, 0x31, 0x02, 0x04, 0x06, 0xA0
SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
DIGESTS: dict[bytes, hashes.HashAlgorithm] = {
    bytes.fromhex("608648016503040201"): hashes.SHA256(),
    bytes.fromhex("608648016503040202"): hashes.SHA384(),
    bytes.fromhex("608648016503040203"): hashes.SHA512(),
}


class Malformed(ValueError):
    """It is not such a message."""


@dataclass(frozen=True)
class Signed:
    """One signer's part of a message."""

    content: bytes
    covered: bytes  # what the signature is of
    signature: bytes
    serial: int  # of the signer's certificate
    digest: hashes.HashAlgorithm


@dataclass(frozen=True)
class Part:
    """One value of DER."""

    tag: int
    whole: bytes
    inside: bytes

    def split(self) -> "list[Part]":
        """Return the values that it consists of."""
        parts, position = [], 0
        while position < len(self.inside):
            part = read_part(self.inside[position:])
            parts.append(part)
            position += len(part.whole)
        return parts


def read_part(data: bytes) -> Part:
    """Return the value at the start of *data*; raises `Malformed`."""
    if len(data) < 2:
        raise Malformed("cut short")
    length, start = data[1], 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or len(data) < 2 + count:
            raise Malformed("a length that DER has not")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if len(data) < start + length:
        raise Malformed("cut short")
    return Part(data[0], data[: start + length], data[start : start + length])


def parse_signed(message: bytes) -> Signed:
    """Return the one signer's part of *message*; raises `Malformed`."""
    try:
        kind, body = read_part(message).split()
        if kind.inside != SIGNED_DATA:
            raise Malformed("not signed data")
        parts = read_part(body.inside).split()
        content = _find_content(parts[2])
        [signer] = parts[-1].split()
        fields = signer.split()
        serial = int.from_bytes(fields[1].split()[1].inside, "big")
        digest = DIGESTS[fields[2].split()[0].inside]
        has_attributes = fields[3].tag == CONTEXT_0
        covered = content
        if has_attributes:
            _check_digest(fields[3], content, digest)
            # What is signed is the set itself, not as it is tagged here.
            covered = bytes([SET]) + fields[3].whole[1:]
        signature = fields[5 if has_attributes else 4]
    except (IndexError, KeyError, ValueError) as error:
        raise Malformed("not a message as is known here") from error
    if signature.tag != OCTETS:
        raise Malformed("no signature where one is due")
    return Signed(content, covered, signature.inside, serial, digest)


def _find_content(encapsulated: Part) -> bytes:
    wrapped = encapsulated.split()[1]
    inner = read_part(wrapped.inside)
    if (wrapped.tag, inner.tag) != (CONTEXT_0, OCTETS):
        raise Malformed("no content")
    return inner.inside


def _check_digest(attributes: Part, content: bytes, digest: hashes.HashAlgorithm) -> None:
    made = hashes.Hash(digest)
    made.update(content)
    expected = made.finalize()
    for each in attributes.split():
        kind, values = each.split()
        if kind.inside == MESSAGE_DIGEST:
            if read_part(values.inside).inside != expected:
                raise Malformed("the content is not the one that was signed")
            return
    raise Malformed("nothing signed says what the content is")
