"""What the researcher's processes send, counted by the kernel for root, by class of destination.

The rules stand in a table of nftables that only root of the machine may change; a researcher who
is root of a namespace of their own sees another table. Nothing is stopped but what asks the
cloud's metadata service, whose word on the instance is for root alone, and what speaks NFS: the
storage exports its datasets to the instance, and who asked it directly would read past the audit.
The kernel's own mounts are root's. Rules that say nothing fail silently, so they are proved: a
byte is sent as the researcher and must be counted, and one to each port of NFS must not leave.
ref: https://wiki.nftables.org/wiki-nftables/index.php/Counters
"""

import json
import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import partial
from typing import Any

from nightingale_hub.errors import MountRefused
from nightingale_hub.instance.account import Account
from nightingale_hub.subordinate_ids import FILE, load_spans

CLASSES = ("hub", "local", "other")
# Where clouds say who an instance is; Azure has a second address, AWS one of IPv6.
METADATA = ("169.254.169.254", "168.63.129.16")
METADATA_6 = "fd00:ec2::254"
# The port mapper, NFS, and the mount service that version 3 asks first.
NFS_PORTS = (111, 2049, 20048)
_ANSWERS_WITHIN_S = 10.0
_SEARCHED = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
# Nobody listens there and nobody answers: the packet itself is all that is wanted.
_PROBE = ("127.0.0.1", 9)
# A packet without a socket is nobody's: so whose a connection is, is remembered. What is in it when
# its process closes it or ends is sent by the kernel, for no user.
_RULES = """
table inet {table} {{
    {counters}
    set flows4 {{
        typeof ip saddr . tcp sport . ip daddr . tcp dport
        flags dynamic, timeout
        timeout 10m
        size 65535
    }}
    set flows6 {{
        typeof ip6 saddr . tcp sport . ip6 daddr . tcp dport
        flags dynamic, timeout
        timeout 10m
        size 65535
    }}
    chain classes {{
        {classes}
    }}
    chain theirs {{
        meta nfproto ipv4 update @flows4 {{ ip saddr . tcp sport . ip daddr . tcp dport }}
        meta nfproto ipv6 update @flows6 {{ ip6 saddr . tcp sport . ip6 daddr . tcp dport }}
        goto classes
    }}
    chain sent {{
        type filter hook output priority 0; policy accept;
        meta skuid {{ {uids} }} ip daddr {{ {metadata} }} drop
        meta skuid {{ {uids} }} ip6 daddr {metadata6} drop
        meta skuid {{ {uids} }} meta l4proto {{ tcp, udp }} th dport {{ {nfs} }} drop
        meta skuid {{ {uids} }} goto theirs
        ip saddr . tcp sport . ip daddr . tcp dport @flows4 goto classes
        ip6 saddr . tcp sport . ip6 daddr . tcp dport @flows6 goto classes
    }}
}}
"""
_HINT = "set c.NightingaleHub.count_egress = False to serve data though nobody counts"


class Egress:
    """The counters of one instance."""

    def __init__(self, instance_id: str, account: Account, hub: Sequence[tuple[str, int]]) -> None:
        """Count what *account* sends; the hub is reached at the addresses and ports of *hub*."""
        self._table = name_table(instance_id)
        self._account = account
        self._hub = hub
        self._rules: list[Any] = []

    def start(self, server_port: int) -> None:
        """Put the rules in force; the server answers the hub from *server_port*.

        Raises `MountRefused` unless a byte that the account sends is seen to be counted, and none
        to a port of NFS is sent.
        """
        remove_table(self._table)
        _run_nft("-f", "-", text=self._format(server_port))
        self._rules = _list_rules(self._table)
        before = self.read()
        if not self._account.run(_send_probe):
            raise MountRefused(f"{self._account.name} cannot send a packet to be counted; {_HINT}")
        after = self.read()
        if after is None or before is None or after["local"] <= before["local"]:
            self.end()
            raise MountRefused(f"what {self._account.name} sends is not counted here; {_HINT}")
        for port in NFS_PORTS:
            if not self._account.run(partial(_check_stopped, port)):
                self.end()
                raise MountRefused(
                    f"{self._account.name} may send to port {port}, and so read a dataset past "
                    "the audit; look at the machine's nftables"
                )

    def read(self) -> dict[str, int] | None:
        """Return the bytes sent so far by class, or None when the rules are not as they were."""
        try:
            if not self._rules or _list_rules(self._table) != self._rules:
                return None
            entries = _list_table(self._table)
        except MountRefused:
            return None
        counters = [entry["counter"] for entry in entries if "counter" in entry]
        sent = {each["name"]: int(each["bytes"]) for each in counters}
        return sent if set(sent) == set(CLASSES) else None

    def end(self) -> None:
        """Take the rules away."""
        remove_table(self._table)

    def _format(self, server_port: int) -> str:
        uids = [str(self._account.uid)]
        for span in load_spans(FILE, self._account.uid):
            uids.append(f"{span.first}-{span.first + span.size - 1}")
        classes = [
            *(_format_hub(address, port) for address, port in self._hub),
            # What the server answers goes to the hub's proxy.
            f'oifname "lo" tcp sport {server_port} counter name "hub" return',
            'oifname "lo" counter name "local" return',
            'counter name "other"',
        ]
        return _RULES.format(
            table=self._table,
            metadata=", ".join(METADATA),
            metadata6=METADATA_6,
            nfs=", ".join(map(str, NFS_PORTS)),
            uids=", ".join(uids),
            counters="\n    ".join(f"counter {name} {{ }}" for name in CLASSES),
            classes="\n        ".join(classes),
        )


def _format_hub(address: str, port: int) -> str:
    family = "ip6" if ":" in address else "ip"
    return f'{family} daddr {address} tcp dport {port} counter name "hub" return'


def name_table(instance_id: str) -> str:
    """Return the name of the table of an instance."""
    return f"nightingale_{instance_id.replace('-', '_')}"


def remove_table(name: str) -> None:
    """Take the table *name* away, if it is there and nft is."""
    if find_nft() is not None:
        subprocess.run(
            [str(find_nft()), "delete", "table", "inet", name],
            capture_output=True,
            timeout=_ANSWERS_WITHIN_S,
            check=False,
        )


def find_nft() -> str | None:
    """Return the path of nft, or None where it is not installed."""
    return shutil.which("nft", path=_SEARCHED)


def resolve(host: str, port: int) -> list[tuple[str, int]]:
    """Return the addresses of *host*; raises `MountRefused` when it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise MountRefused(f"the hub's address {host} is not known here: {error}") from error
    return sorted({(str(each[4][0]), port) for each in found})


def _send_probe() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", _PROBE)


def _check_stopped(port: int) -> None:
    """Raise `ConnectionError` unless the kernel refuses to send to *port* of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"x", ("127.0.0.1", port))
        except PermissionError:
            return
    raise ConnectionError(f"port {port} can be sent to")


def _list_table(name: str) -> list[dict[str, Any]]:
    listed = json.loads(_run_nft("-j", "list", "table", "inet", name))
    entries: list[dict[str, Any]] = listed["nftables"]
    return entries


def _list_rules(name: str) -> list[Any]:
    """Return what the table says, without what it has counted."""
    return [entry for entry in _list_table(name) if "chain" in entry or "rule" in entry]


def _run_nft(*arguments: str, text: str = "") -> str:
    nft = find_nft()
    if nft is None:
        raise MountRefused(f"nft is not installed, so nobody would count what is sent; {_HINT}")
    try:
        done = subprocess.run(
            [nft, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_ANSWERS_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MountRefused(f"nft does not answer; {_HINT}") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()
        raise MountRefused(f"nft refused: {reason[0] if reason else done.returncode}; {_HINT}")
    return done.stdout
