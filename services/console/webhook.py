"""Sends a signed webhook to where its owner says, and never to an address that is not public.

The name is resolved once and the connection goes to the address that was judged, so that a name
that answers differently the second time leads nowhere. No redirect is followed.
"""

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from urllib.parse import SplitResult, urlsplit

from nightingale_hub.errors import BadInput, Unavailable

ANSWER_WITHIN_S = 10.0
SIGNATURE = "X-Nightingale-Signature"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # ref: https://www.rfc-editor.org/rfc/rfc6052


def sign(key: str, at_s: int, body: bytes) -> str:
    """Return what the receiver compares: `t=<at_s>,v1=<hmac-sha256 of "<at_s>." and body>`.

    The time is signed too, so that a receiver can refuse what is old.
    """
    digest = hmac.digest(bytes.fromhex(key), f"{at_s}.".encode() + body, hashlib.sha256).hex()
    return f"t={at_s},v1={digest}"


def send(url: str, key: str, body: bytes, at_s: int, allowed: Sequence[Network]) -> None:
    """POST *body*, JSON, signed with *key*, to *url*; waits at most 10 s for each step.

    *allowed* are networks that are not public and yet may be reached, without TLS too. Raises
    `BadInput` for an address that must not be asked, `Unavailable` for one that did not take it.
    """
    parsed = urlsplit(url)
    assert parsed.hostname is not None, "checked when it was stored"
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    address = _judge(parsed, _resolve(parsed.hostname, port), allowed)
    path = parsed.path or "/"
    headers = {
        "Content-Type": "application/json",
        "Host": parsed.netloc,
        "User-Agent": "nightingale-hub",
        SIGNATURE: sign(key, at_s, body),
    }
    connection = _Pinned(parsed.hostname, str(address), port, parsed.scheme == "https")
    try:
        target = f"{path}?{parsed.query}" if parsed.query else path
        connection.request("POST", target, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{parsed.hostname} does not answer: {error}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise Unavailable(f"{parsed.hostname} answered {status}; it must answer 2xx itself")


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, in the name of a host."""

    def __init__(self, host: str, address: str, port: int, is_secure: bool) -> None:
        super().__init__(host, port, timeout=ANSWER_WITHIN_S)
        self._address = address
        self._is_secure = is_secure

    def connect(self) -> None:
        sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_secure:
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=self.host)
        self.sock = sock


def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{host} has no address: {error}") from error
    return [ipaddress.ip_address(each[4][0]) for each in found]


def _judge(url: SplitResult, found: Iterable[Address], allowed: Sequence[Network]) -> Address:
    addresses = list(found)
    for address in addresses:
        judged = _find_inner(address) or address
        is_allowed = any(judged in network for network in allowed)
        if is_allowed:
            continue
        if not judged.is_global or judged.is_multicast:
            raise BadInput(f"{url.hostname} leads to {address}, which is no public address")
        if url.scheme != "https":
            raise BadInput(f"{url.hostname} must be asked by https")
    if not addresses:
        raise Unavailable(f"{url.hostname} has no address")
    return addresses[0]


def _find_inner(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that *address* leads to through a gateway, by which to judge it."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
